/** Numbers that must not be mixed. A brand costs nothing at run time. */
export type LuByte = number & { readonly unit: "byte in the LU" };
export type MemberIndex = number & { readonly unit: "member slot, 0-based" };

/** Everything on a disk is counted in these; so are cache frames and SQLite pages. */
export const BLOCK_BYTES = 4096;

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** `n` rounded up to a multiple of `step`. Division, not shifts: bitwise operators truncate to 32 bits. */
export function roundUp(n: number, step: number): number {
  return Math.ceil(n / step) * step;
}

export function roundDown(n: number, step: number): number {
  return Math.floor(n / step) * step;
}
