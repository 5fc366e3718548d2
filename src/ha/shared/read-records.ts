import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import { type Clock, pause } from "../../lib/clock.js";
import { isStorageError, StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import { probePageStore } from "../../pagestore/format.js";
import { openPageStore } from "../../pagestore/open.js";
import { RECORD_CACHE_BYTES } from "./node-records.js";
import type { PartitionLu } from "./partition.js";
import { decodeRow, hasTables, PAGE_STORE_KIND, type RecordAge, readAge, readRows } from "./record-tables.js";
import type { NodeRecord, RecordKind } from "./records.js";

/** A torn view is read again, each time after a little longer: the owner commits now and then, not all the time. */
const ATTEMPTS_MAX = 12;
const PAUSE_MS = 15;

/** In this process; the next one begins with the same names, so that what is left over does not pile up. */
let foldersMade = 0;

export interface ReadOptions {
  /** Of this process alone. */
  readonly scratchDir: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** The records of a node as they were at one moment. */
export interface NodeRecordsView {
  readonly node: string;
  readonly age: RecordAge;
  readonly records: { readonly [K in RecordKind]: readonly NodeRecord<K>[] };
  /** Keys of records whose shape this version does not know, with their kind. */
  readonly unknown: readonly { readonly kind: RecordKind; readonly key: string }[];
}

/**
 * Read another node's records while it goes on writing them. Nothing is written, and what is returned was durable at one moment.
 * @param lu  open for reading
 * @returns null when the node has no records yet
 * @throws StorageError EIO when no copy can be read, EBUSY when the owner was too busy
 */
export async function readNodeRecords(lu: PartitionLu, options: ReadOptions): Promise<NodeRecordsView | null> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await readOnce(lu, options);
    } catch (error) {
      const torn = isStorageError(error, "EIO") || isStorageError(error, "EBUSY");
      if (!torn || attempt === ATTEMPTS_MAX) throw error;
      await pause(options.clock, attempt * PAUSE_MS);
    }
  }
}

async function readOnce(lu: PartitionLu, options: ReadOptions): Promise<NodeRecordsView | null> {
  await lu.refresh();
  const { generation, epoch } = lu;
  const view = await readStore(lu, options);
  await lu.refresh();
  // A copy that the owner has excluded meanwhile may have been read after that.
  if (lu.generation === generation && lu.epoch === epoch) return view;
  throw new StorageError("EBUSY", `the copies of ${lu.description.name} changed while it was read`);
}

async function readStore(lu: PartitionLu, { scratchDir, clock, log }: ReadOptions): Promise<NodeRecordsView | null> {
  const there = await probePageStore(lu);
  if (there === null) return null;
  if (there.kind !== PAGE_STORE_KIND) throw new StorageError("EIO", `the partition of ${lu.node} holds no records`);
  // Its name comes from the store's uuid: two who read at the same time must not share it.
  const folder = path.join(scratchDir, `records-${++foldersMade}`);
  // What a process that was killed has left there.
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { mode: 0o700 });
  try {
    const cacheBytes = RECORD_CACHE_BYTES;
    const store = await openPageStore({ lu, scratchDir: folder, clock, log, cacheBytes, readOnly: true });
    try {
      return hasTables(store.db) ? viewOf(lu.node, store.db) : null;
    } finally {
      await store.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function viewOf(node: string, db: Parameters<typeof readRows>[0]): NodeRecordsView {
  const unknown: { kind: RecordKind; key: string }[] = [];
  const decoded = <K extends RecordKind>(kind: K): NodeRecord<K>[] =>
    readRows(db, kind).flatMap((row) => {
      const record = decodeRow(kind, row);
      if (record === null) unknown.push({ kind, key: row.key });
      return record ?? [];
    });
  const records = {
    client: decoded("client"),
    user: decoded("user"),
    service: decoded("service"),
    daemon: decoded("daemon"),
  };
  return { node, age: readAge(db), records, unknown };
}
