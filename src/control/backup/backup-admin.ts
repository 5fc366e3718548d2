import { existsSync } from "node:fs";
import { encodePart } from "../../backup/encode.js";
import { fileSystemRecords } from "../../backup/file-system-source.js";
import { type BackupHeader, jsonRecord, type OutgoingRecord, RecordType } from "../../backup/format.js";
import { DigestWriter, type GroupDigest, joinDigests, noDigests, readDigests } from "../../backup/group-digests.js";
import { restoreFileSystem } from "../../backup/restore.js";
import { StreamScanner } from "../../backup/scan.js";
import { sharedRecords } from "../../backup/shared-source.js";
import { type Clock, timeMs } from "../../lib/clock.js";
import { operatingError, StorageError } from "../../lib/errors.js";
import type { Random } from "../../lib/prng.js";
import { formatSize } from "../../lib/size.js";
import type { EventLog } from "../event-log.js";
import type { BackupSubject, FileSystemKeeper } from "../file-system-keeper.js";
import type { SharedAdmin } from "../shared-admin.js";
import type { BackupRow } from "../types.js";
import type { BackupBook, BookedBackup } from "./backup-book.js";
import { allRecords, type RestoredNode, restoreRecords, uuidOf } from "./shared-backup.js";

export interface BackupParts {
  readonly node: string;
  readonly fileSystems: Pick<FileSystemKeeper, "backupSubject" | "mounted" | "refill" | "requireFillable">;
  readonly shared: Pick<SharedAdmin, "records" | "openRecords" | "group">;
  readonly book: BackupBook;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly random: Random;
}

export interface BackupOrder {
  /** null: the shared LU. */
  readonly fileSystem: string | null;
  /** Also when an incremental one would do. */
  readonly full: boolean;
  /** For the list. */
  readonly target: string;
  readonly series: string;
  /** Go on from a backup that was broken off behind this group. */
  readonly resume?: { readonly backup: string; readonly ino: number; readonly group: number } | undefined;
}

/** A backup under way. */
export interface BackupStream {
  readonly backup: string;
  /** Its stream: whole blocks. Nothing is begun before the first is asked for. */
  readonly pieces: AsyncGenerator<Buffer>;
}

interface Plan {
  readonly order: BackupOrder;
  readonly backup: string;
  readonly parent: BookedBackup | null;
  readonly resumed: BookedBackup | null;
}

/** Makes the streams of backups, keeps the book of them, and restores. Who writes a stream to its target is somebody else. */
export class BackupAdmin {
  readonly #running = new Set<string>();

  constructor(private readonly parts: BackupParts) {}

  get book(): BackupBook {
    return this.parts.book;
  }

  /** Whether a backup of it could be begun. @param fileSystem  null: the shared LU */
  isThere(fileSystem: string | null): boolean {
    const { fileSystems, shared } = this.parts;
    if (fileSystem === null) return shared.group("primary") !== undefined || shared.group("backup") !== undefined;
    return fileSystems.mounted().some(({ name }) => name === fileSystem);
  }

  rows(): BackupRow[] {
    return this.parts.book.rows().map(({ finished, chain: _, uuid: __, ...row }) => {
      const state = finished ? "finished" : this.#running.has(row.backup) ? "running" : "broken-off";
      return { ...row, state };
    });
  }

  /** @throws StorageError ENOENT (no such file system; nothing known of what should go on), EEXIST (it has ended), EIO (not mounted) */
  begin(order: BackupOrder): BackupStream {
    const { book, fileSystems } = this.parts;
    const subject = order.fileSystem === null ? null : fileSystems.backupSubject(order.fileSystem);
    const uuid = subject?.uuid ?? uuidOf(this.parts.shared);
    const resumed = order.resume === undefined ? null : this.#resumable(order.resume.backup, uuid);
    const last = order.full || subject === null ? undefined : book.last(uuid, order.series);
    const parent = resumed === null ? (last ?? null) : this.#parentOf(resumed);
    const plan = { order, backup: this.#newId(), parent, resumed };
    const records = subject === null ? this.#sharedBackup(plan) : this.#fileSystemBackup(plan, subject);
    return { backup: plan.backup, pieces: this.#run(plan.backup, records) };
  }

  /** Whoever wrote it to its target says that it is there, durably. */
  finished(backup: string, target: string, bytes: number): BackupRow {
    const { book, events } = this.parts;
    const row = book.change(backup, { target, bytes, finished: true });
    if (row === undefined) throw new StorageError("ENOENT", `backup ${backup} was not begun here`);
    book.prune(this.#running);
    const what = `${row.parent === null ? "full" : "incremental"} backup of ${subjectOf(row)} made: ${target}, ${formatSize(bytes)}`;
    events.add({ severity: "info", kind: "backup-made", what, detail: { backup, target, bytes } });
    return this.#rowOf(backup);
  }

  verified(backup: string): BackupRow {
    const verified = new Date(timeMs(this.parts.clock.wallTime())).toISOString();
    if (this.parts.book.change(backup, { verified }) === undefined)
      throw new StorageError("ENOENT", `backup ${backup} was not made here`);
    return this.#rowOf(backup);
  }

  /** @throws StorageError ENOENT, EEXIST (not empty), EBUSY, EIO */
  requireRestorable(name: string): void {
    this.parts.fileSystems.requireFillable(name);
  }

  /** @param source  `parts` streams, the newest first. @throws StorageError EEXIST (not empty), ENOSPC, EIO, EINVAL */
  async restore(name: string, source: AsyncIterable<Buffer>, parts: number): Promise<{ readonly time: string }> {
    const { fileSystems, events } = this.parts;
    let header: BackupHeader | null = null;
    await fileSystems.refill(name, async (restorer) => {
      header = await restoreFileSystem(source, parts, restorer);
    });
    const time = (header as BackupHeader | null)?.time ?? "";
    const what = `file system ${name} restored from a backup of ${time}`;
    events.add({ severity: "info", kind: "backup-restored", what, detail: { fileSystem: name } });
    return { time };
  }

  /** @param source  one stream, of the shared LU. @throws StorageError EIO, EINVAL (another kind), EACCES */
  async restoreShared(source: AsyncIterable<Buffer>): Promise<{ readonly nodes: readonly RestoredNode[] }> {
    const { shared, events } = this.parts;
    const nodes: RestoredNode[] = [];
    await new StreamScanner(source, {
      header: ({ kind }) => {
        if (kind !== "shared") throw new StorageError("EINVAL", "this is no backup of the shared LU");
      },
      node: async (record) => {
        nodes.push(await restoreRecords(shared, record));
      },
    }).run();
    const what = `records of ${nodes.filter(({ outcome }) => outcome === "restored").length} nodes restored from a backup`;
    events.add({ severity: "info", kind: "backup-restored", what });
    return { nodes };
  }

  #rowOf(backup: string): BackupRow {
    const row = this.rows().find((one) => one.backup === backup);
    if (row === undefined) throw new StorageError("ENOENT", `backup ${backup} is not in the list`);
    return row;
  }

  #newId(): string {
    const id = Buffer.alloc(16);
    this.parts.random.fill(id);
    return id.toString("hex");
  }

  #resumable(backup: string, uuid: string): BookedBackup {
    const row = this.parts.book.find(backup);
    if (row === undefined || row.uuid !== uuid)
      throw new StorageError("ENOENT", "this daemon knows nothing of the backup whose beginning is there");
    if (row.finished) throw new StorageError("EEXIST", "the backup that is there was finished and is damaged");
    if (this.#running.has(backup)) throw new StorageError("EBUSY", "the backup that is there is being written now");
    return row;
  }

  #parentOf({ parent }: BookedBackup): BookedBackup | null {
    return parent === null ? null : (this.parts.book.find(parent) ?? null);
  }

  async *#run(backup: string, records: AsyncGenerator<OutgoingRecord>): AsyncGenerator<Buffer> {
    this.#running.add(backup);
    try {
      yield* encodePart(Buffer.from(backup, "hex"), orFailure(records));
    } finally {
      this.#running.delete(backup);
    }
  }

  async *#fileSystemBackup(plan: Plan, subject: BackupSubject): AsyncGenerator<OutgoingRecord> {
    const { book } = this.parts;
    book.makeFolder();
    const base = await this.#baseOf(plan);
    const snapshot = await subject.snapshot();
    try {
      const seen = await DigestWriter.create(book.seen(plan.backup));
      try {
        const header = this.#header(plan, subject);
        this.#enter(plan, header);
        yield* fileSystemRecords({ snapshot, header, base, seen });
      } finally {
        await seen.close();
      }
    } finally {
      snapshot.close();
    }
  }

  async *#sharedBackup(plan: Plan): AsyncGenerator<OutgoingRecord> {
    const { uuid, reports } = await allRecords(this.parts.shared);
    const header = this.#commonHeader(plan, { kind: "shared", name: "shared", uuid, dataBytes: 0 });
    this.#enter(plan, header);
    yield* sharedRecords(header, reports);
  }

  #header(plan: Plan, subject: BackupSubject): BackupHeader {
    const { name, uuid, level, sizeBytes, metadataBytes, usedBytes: dataBytes } = subject;
    const about = { kind: "file-system", name, uuid, dataBytes } as const;
    return { ...this.#commonHeader(plan, about), level, sizeBytes, metadataBytes };
  }

  #commonHeader(
    { backup, parent, resumed }: Plan,
    about: Pick<BackupHeader, "kind" | "name" | "uuid" | "dataBytes">,
  ): BackupHeader {
    return {
      ...{ ...about, backup, parent: parent?.backup ?? null, chain: parent?.chain ?? backup },
      continues: resumed?.backup ?? null,
      time: new Date(timeMs(this.parts.clock.wallTime())).toISOString(),
      node: this.parts.node,
    };
  }

  #enter({ order: { target, series } }: Plan, header: BackupHeader): void {
    const { backup, kind, name, uuid, parent, chain, time } = header;
    this.parts.book.add({
      ...{ backup, kind, name, uuid, parent, chain, series, time, target },
      ...{ bytes: null, finished: false, verified: null },
    });
  }

  /** What is known to be in the backups before this one. */
  async #baseOf({ backup, parent, resumed, order }: Plan): Promise<AsyncIterable<GroupDigest>> {
    const { book } = this.parts;
    if (resumed === null || order.resume === undefined)
      return parent === null ? noDigests() : readDigests(book.seen(parent.backup));
    // Kept as a whole: this one may be broken off, too.
    const joined = await DigestWriter.create(book.base(backup));
    try {
      const began = this.#beganFrom(resumed);
      for await (const one of joinDigests(readDigests(book.seen(resumed.backup)), order.resume, began))
        await joined.put(one);
    } finally {
      await joined.close();
    }
    return readDigests(book.base(backup));
  }

  #beganFrom({ backup, parent }: BookedBackup): AsyncIterable<GroupDigest> {
    const { book } = this.parts;
    if (existsSync(book.base(backup))) return readDigests(book.base(backup));
    if (parent === null) return noDigests();
    if (existsSync(book.seen(parent))) return readDigests(book.seen(parent));
    throw new StorageError(
      "ENOENT",
      "this daemon does not know any more what the backup whose beginning is there adds to",
    );
  }
}

function subjectOf({ kind, name }: BookedBackup): string {
  return kind === "shared" ? "the shared LU" : `file system ${name}`;
}

/** An operating error in the middle is told in the stream: its answer has begun long ago. */
async function* orFailure(records: AsyncGenerator<OutgoingRecord>): AsyncGenerator<OutgoingRecord> {
  try {
    yield* records;
  } catch (error) {
    const failure = operatingError(error);
    if (failure === null) throw error;
    yield jsonRecord(RecordType.failed, { message: failure.message });
  }
}
