/** What an edit takes away and adds, by lines. */
export interface DiffLine {
  kind: "same" | "removed" | "added";
  text: string;
}

export interface FoundDiff {
  /** the arguments it was read from */
  names: string[];
  lines: DiffLine[];
}

/** More cells than this and the comparison would hold up the page: then all is removed and all is added. */
const MOST_CELLS = 1_000_000;

/** Names under which tools of the field give a text and what takes its place. */
const PAIRS = [["old_string", "new_string"], ["old_str", "new_str"], ["oldText", "newText"], ["old_text", "new_text"], ["old_content", "new_content"], ["before", "after"], ["old", "new"]] as const;

export function diffLines(before: string, after: string): DiffLine[] {
  const a = before === "" ? [] : before.split("\n");
  const b = after === "" ? [] : after.split("\n");
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const same = (lines: string[]): DiffLine[] => lines.map((text) => ({ kind: "same", text }));
  const changed = longestCommon(a.slice(start, a.length - end), b.slice(start, b.length - end));
  return [...same(a.slice(0, start)), ...changed, ...same(a.slice(a.length - end))];
}

function longestCommon(a: string[], b: string[]): DiffLine[] {
  const removed = a.map((text): DiffLine => ({ kind: "removed", text }));
  const added = b.map((text): DiffLine => ({ kind: "added", text }));
  if (a.length * b.length > MOST_CELLS) return [...removed, ...added];
  const width = b.length + 1;
  const length = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      length[i * width + j] = a[i] === b[j] ? length[(i + 1) * width + j + 1]! + 1 : Math.max(length[(i + 1) * width + j]!, length[i * width + j + 1]!);
  const lines: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      lines.push({ kind: "same", text: a[i]! });
      i += 1;
      j += 1;
    } else if (length[(i + 1) * width + j]! >= length[i * width + j + 1]!) lines.push(removed[i++]!);
    else lines.push(added[j++]!);
  }
  return [...lines, ...removed.slice(i), ...added.slice(j)];
}

/** What changed, with some lines around it. What is between is counted: for showing what is done, not for deciding. */
export function nearby(lines: DiffLine[], around = 3): (DiffLine | { kind: "skipped"; count: number })[] {
  const near = new Set<number>();
  lines.forEach((line, at) => {
    if (line.kind !== "same") for (let other = at - around; other <= at + around; other += 1) near.add(other);
  });
  const shown: (DiffLine | { kind: "skipped"; count: number })[] = [];
  lines.forEach((line, at) => {
    const last = shown.at(-1);
    if (near.has(at)) shown.push(line);
    else if (last?.kind === "skipped") last.count += 1;
    else shown.push({ kind: "skipped", count: 1 });
  });
  return shown;
}

/** The edits that a call's arguments hold: a text with its replacement, or a patch. They are shown beside the arguments, not instead. */
export function findDiffs(args: unknown): FoundDiff[] {
  if (Array.isArray(args)) return args.flatMap(findDiffs);
  if (typeof args !== "object" || args === null) return [];
  const members = args as Record<string, unknown>;
  const found: FoundDiff[] = [];
  for (const [old, fresh] of PAIRS) {
    const [before, after] = [members[old] ?? "", members[fresh]];
    if (old in members && typeof before === "string" && typeof after === "string") found.push({ names: [old, fresh], lines: diffLines(before, after) });
  }
  for (const [name, value] of Object.entries(members)) {
    if (typeof value === "string" && isPatch(value)) found.push({ names: [name], lines: patchLines(value) });
    else if (typeof value === "object") found.push(...findDiffs(value));
  }
  return found;
}

function isPatch(text: string): boolean {
  return /^(--- |diff --git |\*\*\* Begin Patch|@@ )/m.test(text) && /^[-+]/m.test(text);
}

function patchLines(text: string): DiffLine[] {
  return text.split("\n").map((line) => ({ kind: /^\+(?!\+\+ )/.test(line) ? "added" : /^-(?!-- )/.test(line) ? "removed" : "same", text: line.replace(/^[-+](?![-+]{2} )/, "") }));
}
