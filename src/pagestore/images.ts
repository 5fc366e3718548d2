import { assert, must } from "../lib/assert.js";
import { crc32c } from "../lib/crc32c.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES, KIB, MIB } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import type { LogArea } from "./log.js";
import { inParallel } from "./parallel.js";
import { type HealCounters, prove } from "./prove.js";

/** Where the newest durable content of a page stands in the log. */
export interface Image {
  readonly page: number;
  position: number;
  checksum: number;
}

/** Page number to image: what the page area does not hold yet. In the order of positions, as they are noted, so that nobody has to sort thousands of them in one piece. */
export type ImageMap = Map<number, Image>;

/** @param position  behind all that were noted before */
export function noteImage(images: ImageMap, page: number, position: number, checksum: number): void {
  const known = images.get(page);
  if (known === undefined) {
    images.set(page, { page, position, checksum });
    return;
  }
  assert(position > known.position, "a newer image stands behind the older one");
  known.position = position;
  known.checksum = checksum;
  images.delete(page);
  images.set(page, known);
}

/** A page as it was read back from the log and proven; the view is valid until the sink's promise settles. */
export interface LoadedPage {
  readonly page: number;
  readonly checksum: number;
  readonly content: Buffer;
}

/** Images that lie closer than this are read together; reading the blocks between costs less than another request. */
const GAP_BYTES_MAX = 64 * KIB;
const READS_IN_FLIGHT = 8;
const RUN_PAGES_MAX = MIB / BLOCK_BYTES;

interface Span {
  readonly position: number;
  readonly bufferStart: number;
  byteCount: number;
  readonly images: Image[];
}

/**
 * Read images back from the log, in batches of what the buffer holds, and hand each batch over sorted by page number.
 * @param images  in the order of an ImageMap
 * @throws StorageError EIO when an image is bad in every copy
 */
export async function loadImages(
  lu: LogicalUnit,
  log: LogArea,
  images: readonly Image[],
  buffer: Buffer,
  counters: HealCounters,
  sink: (pages: readonly LoadedPage[]) => Promise<void>,
): Promise<void> {
  for (let next = 0; next < images.length; ) {
    const spans = planBatch(images, next, buffer.length);
    for (const span of spans) next += span.images.length;
    const pages: LoadedPage[] = [];
    await inParallel(spans, READS_IN_FLIGHT, (span) => loadSpan(lu, log, span, buffer, counters, pages));
    await sink(pages.sort((a, b) => a.page - b.page));
  }
}

function planBatch(images: readonly Image[], from: number, bufferBytes: number): Span[] {
  const spans: Span[] = [];
  let used = 0;
  for (let i = from; i < images.length; i++) {
    const image = must(images[i], "in range");
    const last = spans.at(-1);
    const gap = last === undefined ? Number.POSITIVE_INFINITY : image.position - (last.position + last.byteCount);
    assert(gap >= 0, "images come in the order of their positions");
    const joins = last !== undefined && gap <= GAP_BYTES_MAX;
    const needed = joins ? gap + BLOCK_BYTES : BLOCK_BYTES;
    if (used + needed > bufferBytes) break;
    if (joins) {
      last.byteCount += needed;
      last.images.push(image);
    } else {
      spans.push({ position: image.position, bufferStart: used, byteCount: needed, images: [image] });
    }
    used += needed;
  }
  return spans;
}

async function loadSpan(
  lu: LogicalUnit,
  log: LogArea,
  span: Span,
  buffer: Buffer,
  counters: HealCounters,
  pages: LoadedPage[],
): Promise<void> {
  await log.read(buffer.subarray(span.bufferStart, span.bufferStart + span.byteCount), span.position);
  for (const image of span.images) {
    const start = span.bufferStart + (image.position - span.position);
    const content = buffer.subarray(start, start + BLOCK_BYTES);
    const { page, position, checksum } = image;
    if (!(await prove(lu, content, log.place(position), (block) => crc32c(block) === checksum, counters))) {
      throw new StorageError("EIO", "a page in the log does not match its checksum", { page, position });
    }
    pages.push({ page, checksum, content });
  }
}

/** Cut a sorted list of pages into runs of neighbours, each of them one write. */
export function runsOf(pages: readonly LoadedPage[]): LoadedPage[][] {
  const runs: LoadedPage[][] = [];
  let run: LoadedPage[] = [];
  for (const page of pages) {
    const previous = run.at(-1);
    if (previous === undefined || previous.page + 1 !== page.page || run.length === RUN_PAGES_MAX) {
      run = [];
      runs.push(run);
    }
    run.push(page);
  }
  return runs;
}
