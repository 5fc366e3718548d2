import fs from "node:fs/promises";
import { crc32c } from "../lib/crc32c.js";
import { StorageError } from "../lib/errors.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../lib/units.js";
import type { LogicalUnit } from "../lu/lu.js";
import { type ChecksumTable, markOf } from "./checksum-table.js";
import { type ImageMap, loadImages } from "./images.js";
import { type Geometry, homeOf } from "./layout.js";
import type { LogArea } from "./log.js";
import { writePages } from "./page-file.js";
import { inParallel } from "./parallel.js";
import { type HealCounters, prove } from "./prove.js";
import type { WarmPages } from "./warm-copy.js";

const PIECE_PAGES = MIB / BLOCK_BYTES;

export interface LoadParts {
  readonly lu: LogicalUnit;
  readonly geometry: Geometry;
  readonly log: LogArea;
  readonly table: ChecksumTable;
  readonly images: ImageMap;
  /** Pages in the page area, and in the database once the log is applied. */
  readonly homePageCount: number;
  readonly pageCount: number;
  /** Some MiB. */
  readonly buffer: Buffer;
  readonly counters: HealCounters;
  /** A copy that somebody kept while the last owner wrote; every record before its position is in it. */
  readonly warm?: WarmPages | undefined;
}

/**
 * Write the database into a new file (mode 0600): the page area, then the images from the log over it.
 * @throws StorageError EIO when a page that the log does not hold is bad in every copy
 */
export async function loadScratch(parts: LoadParts, file: string): Promise<void> {
  const { warm } = parts;
  if (warm !== undefined) await fs.rename(warm.file, file);
  const handle = await fs.open(file, warm === undefined ? "wx" : "r+", 0o600);
  try {
    await loadLog(parts, handle, await loadHome(parts, handle));
    await handle.truncate(parts.pageCount * BLOCK_BYTES);
  } finally {
    await handle.close();
  }
}

/** @returns the first pages of the pieces that were read from the page area */
async function loadHome(parts: LoadParts, handle: fs.FileHandle): Promise<ReadonlySet<number>> {
  const loaded = new Set<number>();
  const count = Math.min(parts.homePageCount, parts.pageCount);
  const lanes = Math.max(1, Math.floor(parts.buffer.length / MIB));
  const pieces = Array.from({ length: Math.ceil(count / PIECE_PAGES) }, (_, i) => 1 + i * PIECE_PAGES).values();
  await inParallel([...Array(lanes).keys()], lanes, async (lane) => {
    const buffer = parts.buffer.subarray(lane * MIB, (lane + 1) * MIB);
    for (const firstPage of pieces) {
      if (isWarm(parts, firstPage, count)) continue;
      loaded.add(firstPage);
      await loadPiece(parts, handle, buffer, firstPage, count);
    }
  });
  return loaded;
}

/** Every page of the piece is in the file already, as the table says it is at home, or will come from the log. */
function isWarm({ warm, images, table }: LoadParts, firstPage: number, lastPage: number): boolean {
  if (warm === undefined) return false;
  const end = Math.min(firstPage + PIECE_PAGES - 1, lastPage);
  for (let page = firstPage; page <= end; page++) {
    const mark = table.mark(page);
    if (mark !== 0 && mark !== warm.marks[page - 1] && !images.has(page)) return false;
  }
  return true;
}

async function loadPiece(
  parts: LoadParts,
  handle: fs.FileHandle,
  buffer: Buffer,
  firstPage: number,
  lastPage: number,
): Promise<void> {
  const pages = Math.min(PIECE_PAGES, lastPage - firstPage + 1);
  const piece = buffer.subarray(0, pages * BLOCK_BYTES);
  await parts.lu.read(piece, homeOf(parts.geometry, firstPage) as LuByte);
  for (let i = 0; i < pages; i++) {
    const page = firstPage + i;
    // Perhaps half written home when the last owner died; the log has it.
    if (parts.images.has(page)) continue;
    await provePage(parts, piece.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES), page);
  }
  await writeAll(handle, piece, (firstPage - 1) * BLOCK_BYTES);
}

async function provePage(parts: LoadParts, content: Buffer, page: number): Promise<void> {
  const mark = parts.table.mark(page);
  if (mark === 0) {
    // Never written home: SQLite put it on its free list before it held anything.
    content.fill(0);
    return;
  }
  if (markOf(crc32c(content)) === mark) return;
  const at = homeOf(parts.geometry, page);
  if (await prove(parts.lu, content, at, (block) => markOf(crc32c(block)) === mark, parts.counters)) return;
  throw new StorageError("EIO", "a page of the database does not match its checksum in any copy", { page });
}

/** What the copy has is left as it is, but where the page area was put over it the whole log counts. */
async function loadLog(parts: LoadParts, handle: fs.FileHandle, loaded: ReadonlySet<number>): Promise<void> {
  const from = parts.warm?.position ?? 0;
  const images = [...parts.images.values()].filter(
    ({ page, position }) => page <= parts.pageCount && (position >= from || loaded.has(pieceOf(page))),
  );
  await loadImages(parts.lu, parts.log, images, parts.buffer, parts.counters, async (pages) => {
    writePages(handle.fd, pages);
  });
}

/** The first page of a page's piece. */
function pieceOf(page: number): number {
  return page - ((page - 1) % PIECE_PAGES);
}

async function writeAll(handle: fs.FileHandle, source: Buffer, at: number): Promise<void> {
  for (let done = 0; done < source.length; ) {
    const { bytesWritten } = await handle.write(source, done, source.length - done, at + done);
    done += bytesWritten;
  }
}
