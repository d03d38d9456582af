/** Agent text to DOM, loaded only when there is agent text. Nothing reaches the page that DOMPurify has not passed. */
import DOMPurify from "dompurify";
import { Marked, type Token } from "marked";
import { policy } from "../shared/trusted.ts";

const marked = new Marked({ gfm: true, breaks: true });

const SETTINGS = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p",
    "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["href", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true as const,
  TRUSTED_TYPES_POLICY: policy as never,
};

/** Finished blocks keep their nodes: only what changed is parsed, cleaned and laid out again. */
export function renderInto(container: HTMLElement, text: string): void {
  const blocks = marked.lexer(text).filter((token) => token.type !== "space");
  blocks.forEach((token, index) => {
    const present = container.children[index] as (HTMLElement & { source?: string }) | undefined;
    if (present?.source === token.raw) return;
    const block: HTMLElement & { source?: string } = document.createElement("div");
    block.source = token.raw;
    block.append(clean(token));
    if (present === undefined) container.append(block);
    else present.replaceWith(block);
  });
  while (container.children.length > blocks.length) container.lastElementChild!.remove();
}

function clean(token: Token): DocumentFragment {
  const fragment = DOMPurify.sanitize(marked.parser([token]), SETTINGS);
  for (const link of fragment.querySelectorAll("a")) dressLink(link);
  // Wide code and tables scroll by themselves, which must work from the keyboard too.
  for (const wide of fragment.querySelectorAll("pre, table")) wide.setAttribute("tabindex", "0");
  // The page's own headings end at level 2.
  for (const heading of fragment.querySelectorAll("h1, h2")) {
    const lower = document.createElement("h3");
    lower.append(...heading.childNodes);
    heading.replaceWith(lower);
  }
  return fragment;
}

/** Where a link leads is written behind it unless its text says so already. */
function dressLink(link: HTMLAnchorElement): void {
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  let host = "";
  try {
    host = new URL(link.href).host;
  } catch {
    return;
  }
  if (host === "" || link.textContent?.includes(host)) return;
  const note = document.createElement("span");
  note.className = "link-host";
  note.textContent = ` (${host})`;
  link.append(note);
}
