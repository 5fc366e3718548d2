/**
 * Byte ranges and what fcntl(F_SETLK) of POSIX does to those of one owner. Pure: no owner, no file, no clock.
 *
 * Offsets and lengths are u64 on the wire (NLM version 4, X/Open XNFS chapter 14), so a range is two BigInts and exact everywhere. Both
 * ends belong to the range; "to the end of the file, however far it grows" is a range whose last byte is LAST_BYTE.
 */
export interface ByteRange {
  readonly first: bigint;
  readonly last: bigint;
}

export interface LockedRange extends ByteRange {
  readonly exclusive: boolean;
}

export const LAST_BYTE = 2n ** 64n - 1n;

/** @param length  0: to the end of the file. @returns null when the range passes 2^64 */
export function rangeOf(offset: bigint, length: bigint): ByteRange | null {
  if (length === 0n) return { first: offset, last: LAST_BYTE };
  const last = offset + length - 1n;
  return last > LAST_BYTE ? null : { first: offset, last };
}

/** As on the wire: 0 for a range that goes to the end of the file. */
export function lengthOf({ first, last }: ByteRange): bigint {
  return last === LAST_BYTE ? 0n : last - first + 1n;
}

export function overlaps(a: ByteRange, b: ByteRange): boolean {
  return a.first <= b.last && b.first <= a.last;
}

export function sameRange(a: ByteRange, b: ByteRange): boolean {
  return a.first === b.first && a.last === b.last;
}

export interface Replacement<T> {
  readonly removed: readonly T[];
  readonly added: readonly LockedRange[];
}

/**
 * Lock (`exclusive` says how) or unlock (`exclusive` is null) a range of one owner: what it held there changes its kind or goes, what sticks
 * out stays, and neighbours of one kind become one range. So the ranges of an owner never overlap, and two that touch differ in kind.
 * @param own  the ranges of this owner that overlap the range or touch it, in any order; others may be among them
 */
export function replace<T extends LockedRange>(
  own: readonly T[],
  range: ByteRange,
  exclusive: boolean | null,
): Replacement<T> {
  const removed: T[] = [];
  const added: LockedRange[] = [];
  let { first, last } = range;
  for (const held of own) {
    if (held.exclusive === exclusive && held.first <= range.last + 1n && range.first <= held.last + 1n) {
      removed.push(held);
      if (held.first < first) first = held.first;
      if (held.last > last) last = held.last;
    } else if (overlaps(held, range)) {
      removed.push(held);
      const kind = { exclusive: held.exclusive };
      if (held.first < range.first) added.push({ ...kind, first: held.first, last: range.first - 1n });
      if (held.last > range.last) added.push({ ...kind, first: range.last + 1n, last: held.last });
    }
  }
  if (exclusive !== null) added.push({ first, last, exclusive });
  const unchanged = removed.length === 1 && added.length === 1 && sameLock(removed[0], added[0]);
  return unchanged ? { removed: [], added: [] } : { removed, added };
}

function sameLock(a: LockedRange | undefined, b: LockedRange | undefined): boolean {
  return a !== undefined && b !== undefined && sameRange(a, b) && a.exclusive === b.exclusive;
}
