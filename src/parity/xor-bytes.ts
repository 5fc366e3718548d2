import { assert } from "../lib/assert.js";

/**
 * target = sources[0] ^ sources[1] ^ …, for buffers that do not live in the arena. `target` may be one of the sources.
 * @param sources  one or more, each exactly as long as `target`
 */
export function xorBytes(target: Uint8Array, sources: readonly Uint8Array[]): void {
  assert(sources.length > 0, "parity has a source");
  for (const source of sources) assert(source.length === target.length, "sources are as long as the target");
  const words = wordsOf(target);
  const sourceWords = sources.map(wordsOf);
  if (words !== null && sourceWords.every((view) => view !== null)) combine(words, sourceWords);
  else combine(target, sources);
}

/** A view on the same bytes in words of 4, or null when place or length does not allow it. */
function wordsOf(bytes: Uint8Array): Uint32Array | null {
  if (bytes.byteOffset % 4 !== 0 || bytes.length % 4 !== 0) return null;
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

function combine<T extends Uint8Array | Uint32Array>(target: T, sources: readonly T[]): void {
  for (let i = 0; i < target.length; i++) {
    let value = 0;
    for (const source of sources) value ^= source[i] as number;
    target[i] = value;
  }
}
