const BASE_MS = 500;
const CAP_MS = 60_000;

/** Full jitter between 0.5 s and a ceiling that doubles up to 60 s; what the server asks for wins. */
export function backoffMs(attempt: number, random: number, retryAfterS?: number): number {
  if (retryAfterS !== undefined) return Math.round(retryAfterS * 1000);
  const ceiling = Math.min(CAP_MS, BASE_MS * 2 ** Math.min(attempt, 10));
  return Math.round(BASE_MS + random * Math.max(0, ceiling - BASE_MS));
}
