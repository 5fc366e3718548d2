/**
 * The parity arithmetic, on byte offsets into the arena's memory. Two implementations (WebAssembly SIMD and plain TypeScript)
 * pass one test suite; the switch STRIPEWARD_PARITY=wasm|scalar forces either.
 *
 * Offsets and lengths are multiples of 16, `target` may equal a source, ranges otherwise do not overlap.
 */
export interface ParityKernel {
  readonly name: "wasm-simd" | "scalar";
  /** target = source[0] ^ source[1] ^ … (1 to 32 sources; with one source this is a copy). */
  xor(target: number, sources: readonly number[], byteCount: number): void;
  /** target ^= source. */
  xorInto(target: number, source: number, byteCount: number): void;
  copy(target: number, source: number, byteCount: number): void;
  fill(target: number, byte: number, byteCount: number): void;
  isZero(at: number, byteCount: number): boolean;
}
