const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** 26 Crockford characters: 48 bits of time, 80 of randomness. */
export function makeUlid(now: number, random: Uint8Array = crypto.getRandomValues(new Uint8Array(16))): string {
  let time = "";
  for (let rest = now, i = 0; i < 10; i += 1) {
    time = ALPHABET[rest % 32]! + time;
    rest = Math.floor(rest / 32);
  }
  // 5 bits of a byte each: simpler than packing, and as random.
  const tail = Array.from(random.slice(0, 16), (byte) => ALPHABET[byte & 31]!).join("");
  return time + tail;
}
