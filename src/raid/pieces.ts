/**
 * Cut the buffers of one request at every multiple of `step` (a chunk), in order. A buffer that lies inside one step is passed on as
 * it is: the common case makes no view.
 * @param at    bytes; where the first buffer begins
 * @param part  makes the other views
 */
export function cutPieces(
  buffers: readonly Buffer[],
  at: number,
  step: number,
  visit: (piece: Buffer, at: number) => void,
  part: (buffer: Buffer, from: number, byteCount: number) => Buffer = subarray,
): void {
  let position = at;
  for (const buffer of buffers) {
    let from = 0;
    while (from < buffer.length) {
      const byteCount = Math.min(step - (position % step), buffer.length - from);
      visit(byteCount === buffer.length ? buffer : part(buffer, from, byteCount), position);
      from += byteCount;
      position += byteCount;
    }
  }
}

function subarray(buffer: Buffer, from: number, byteCount: number): Buffer {
  return buffer.subarray(from, from + byteCount);
}

export function totalBytes(buffers: readonly Buffer[]): number {
  let byteCount = 0;
  for (const buffer of buffers) byteCount += buffer.length;
  return byteCount;
}

/** The part [from, from+byteCount) of a list of buffers, as a list of buffers. */
export function slicePieces(buffers: readonly Buffer[], from: number, byteCount: number): Buffer[] {
  const part: Buffer[] = [];
  let skip = from;
  let left = byteCount;
  for (const buffer of buffers) {
    if (left === 0) break;
    if (skip >= buffer.length) {
      skip -= buffer.length;
      continue;
    }
    const end = Math.min(buffer.length, skip + left);
    part.push(skip === 0 && end === buffer.length ? buffer : buffer.subarray(skip, end));
    left -= end - skip;
    skip = 0;
  }
  return part;
}
