/*
 * Numbers for `Math.random`. The engine seeds its own when the plugin is built, and the file holds what came
 * of it: every device, and every start, would draw the same ones.
 */

/** FNV-1a of a text, from any beginning. */
function hash(text, beginning) {
  let word = beginning;
  for (let at = 0; at < text.length; at++) word = Math.imul(word ^ text.charCodeAt(at), 0x01000193);
  return word >>> 0;
}

/** A generator in the place of `Math.random`: sfc32 (Chris Doty-Humphrey, PractRand), seeded by a text. */
export function generator(seed) {
  let [a, b, c, count] = [hash(seed, 0x811c9dc5), hash(seed, 1), hash(seed, 2), 1];
  const word = () => {
    const sum = (a + b + count) | 0;
    count = (count + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  // What the seeds have in common is gone after a dozen rounds.
  for (let round = 0; round < 12; round++) word();
  // 53 bits, all that a number below 1 has.
  return () => (word() * 0x200000 + (word() >>> 11)) / 2 ** 53;
}
