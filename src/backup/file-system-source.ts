import { setImmediate as nextTurn } from "node:timers/promises";
import {
  GROUP_BYTES,
  GROUPS_START,
  type GroupPlace,
  type Snapshot,
  type SnapshotEntry,
  type SnapshotGroup,
} from "../fs/snapshot/snapshot.js";
import { assert } from "../lib/assert.js";
import { isStorageError, StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { type BackupHeader, GROUP_BLOCKS, jsonRecord, type OutgoingRecord, RecordType } from "./format.js";
import { comparePlaces, type DigestWriter, digestOf, type GroupDigest } from "./group-digests.js";
import { entriesRecord, groupRecord, inodesRecord } from "./rows.js";

/** Rows of one look into the snapshot: some milliseconds. */
const PAGE_ROWS = 500;

/** Groups that are read while another is sent: 1 MiB. */
const READS_AHEAD = 4;

const NOTHING = Buffer.alloc(0);

type SnapshotReader = Pick<Snapshot, "inodes" | "entries" | "groups" | "reaches" | "read" | "nextIno">;

export interface FileSystemSource {
  readonly snapshot: SnapshotReader;
  readonly header: BackupHeader;
  /** What the backup that this one adds to saw; nothing for a full one. */
  readonly base: AsyncIterable<GroupDigest>;
  /** What this one sees. */
  readonly seen: DigestWriter;
}

/** All records of a backup of a file system: its header, all inodes and entries, the groups that the base does not know as they are. */
export async function* fileSystemRecords(source: FileSystemSource): AsyncGenerator<OutgoingRecord> {
  let records = 0;
  let groups = 0;
  let dataBytes = 0;
  for await (const record of everything(source)) {
    yield record;
    records++;
    if (record.type !== RecordType.group) continue;
    groups++;
    dataBytes += record.parts[1]?.length ?? 0;
  }
  yield jsonRecord(RecordType.end, { records, groups, dataBytes });
}

async function* everything(source: FileSystemSource): AsyncGenerator<OutgoingRecord> {
  yield jsonRecord(RecordType.header, source.header);
  yield* tables(source.snapshot);
  yield* changedGroups(source);
}

async function* tables(snapshot: SnapshotReader): AsyncGenerator<OutgoingRecord> {
  let inodes = 0;
  for (let after = 0; ; await nextTurn()) {
    const rows = snapshot.inodes(after, PAGE_ROWS);
    const last = rows.at(-1);
    if (last === undefined) break;
    inodes += rows.length;
    after = last[0];
    yield inodesRecord(rows);
  }
  let entries = 0;
  for (let after: Pick<SnapshotEntry, "parent" | "name"> = { parent: 0, name: NOTHING }; ; await nextTurn()) {
    const page = snapshot.entries(after, PAGE_ROWS);
    const last = page.at(-1);
    if (last === undefined) break;
    entries += page.length;
    after = last;
    yield entriesRecord(page);
  }
  yield jsonRecord(RecordType.tables, { inodes, entries, nextIno: snapshot.nextIno });
}

/** A group of the snapshot, and whether the base knows it as it is; or one that only the base knows. */
interface Step {
  readonly place: GroupPlace;
  readonly group: SnapshotGroup | null;
  readonly digest: GroupDigest | null;
  readonly changed: boolean;
}

/** Two lists in one order, walked side by side. */
async function* steps({ snapshot, base }: FileSystemSource): AsyncGenerator<Step> {
  const known = base[Symbol.asyncIterator]();
  let next = await known.next();
  try {
    for await (const group of groupsOf(snapshot)) {
      const digest = digestOf(group);
      for (; next.done !== true && comparePlaces(next.value, group) < 0; next = await known.next())
        yield { place: next.value, group: null, digest: null, changed: true };
      const found = next.done !== true && comparePlaces(next.value, group) === 0 ? next.value : null;
      yield { place: group, group, digest, changed: found?.digest.equals(digest.digest) !== true };
      if (found !== null) next = await known.next();
    }
    for (; next.done !== true; next = await known.next())
      yield { place: next.value, group: null, digest: null, changed: true };
  } finally {
    await known.return?.(undefined);
  }
}

/** A step whose blocks are being read. */
interface Reading {
  readonly step: Step;
  readonly target: Buffer;
  readonly slots: Promise<number[]> | null;
}

/** Some groups are read ahead of the one that is sent, so that the disks and the target work at the same time. */
async function* changedGroups(source: FileSystemSource): AsyncGenerator<OutgoingRecord> {
  const targets = Array.from({ length: READS_AHEAD + 1 }, () => Buffer.alloc(GROUP_BYTES));
  const readings: Reading[] = [];
  let started = 0;
  for await (const step of steps(source)) {
    // The one whose record was sent last is free again.
    const target = targets[started++ % targets.length]!;
    const slots = step.group !== null && step.changed ? readGroup(source.snapshot, step.group, target) : null;
    // Whoever waits for it hears of its failure; when nobody does any more it is nobody's.
    slots?.catch(() => {});
    readings.push({ step, target, slots });
    if (readings.length > READS_AHEAD) yield* ended(source, readings.shift()!);
  }
  for (const reading of readings) yield* ended(source, reading);
}

async function* ended({ snapshot, seen }: FileSystemSource, reading: Reading): AsyncGenerator<OutgoingRecord> {
  const { step, target, slots } = reading;
  if (step.group === null) yield* hole(snapshot, step.place);
  else if (slots !== null) yield groupRecord(step.group.ino, step.group.group, await slots, target);
  if (step.digest !== null) await seen.put(step.digest);
}

/** A block that nothing can prove is not made up: there is no backup until its file is mended or gone. */
async function readGroup(snapshot: SnapshotReader, group: SnapshotGroup, target: Buffer): Promise<number[]> {
  try {
    return await snapshot.read(group, target);
  } catch (error) {
    if (!isStorageError(error, "EIO")) throw error;
    const what = `the file with inode ${group.ino} cannot be read: ${error.message}; events names it`;
    throw new StorageError("EIO", what, {}, error);
  }
}

async function* groupsOf(snapshot: SnapshotReader): AsyncGenerator<SnapshotGroup> {
  for (let after: GroupPlace | null = GROUPS_START; after !== null; await nextTurn()) {
    const page: ReturnType<SnapshotReader["groups"]> = snapshot.groups(after, PAGE_ROWS);
    yield* page.groups;
    after = page.next;
  }
}

/** A group that held something and holds nothing now, of a file that is still there and as long. */
function* hole(snapshot: SnapshotReader, place: GroupPlace): Generator<OutgoingRecord> {
  if (snapshot.reaches(place)) yield groupRecord(place.ino, place.group, [], NOTHING);
}

assert(GROUP_BYTES === GROUP_BLOCKS * BLOCK_BYTES, "a record speaks of a group as the file system knows it");
