/** The page's one Trusted Types policy. HTML passes only on its way through DOMPurify, script only as the service worker. */
interface Policy {
  createHTML(html: string): string;
  createScriptURL(url: string): string;
}

interface PolicyFactory {
  createPolicy(name: string, rules: Policy): Policy;
}

const rules: Policy = {
  createHTML: (html) => html,
  createScriptURL: (url) => {
    if (url !== "/sw.js") throw new TypeError("Only the page's own service worker may be loaded.");
    return url;
  },
};

const factory = (globalThis as { trustedTypes?: PolicyFactory }).trustedTypes;

/** Used by `markdown.ts` and `offline.ts` only. */
export const policy: Policy = factory?.createPolicy("entobot", rules) ?? rules;
