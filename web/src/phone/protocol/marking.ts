/** Cuts a text where a searched one stands in it, without regard to case. */
export interface Marked {
  text: string;
  hit: boolean;
}

export function marked(text: string, query: string): Marked[] {
  const wanted = query.trim();
  if (wanted === "") return [{ text, hit: false }];
  // The same length is needed to cut by place: where lower case changes it, nothing is marked.
  const folded = text.toLowerCase();
  const needle = wanted.toLowerCase();
  if (folded.length !== text.length) return [{ text, hit: false }];
  const parts: Marked[] = [];
  let from = 0;
  for (let at = folded.indexOf(needle); at >= 0; at = folded.indexOf(needle, from)) {
    if (at > from) parts.push({ text: text.slice(from, at), hit: false });
    parts.push({ text: text.slice(at, at + needle.length), hit: true });
    from = at + needle.length;
  }
  if (from < text.length) parts.push({ text: text.slice(from), hit: false });
  return parts;
}
