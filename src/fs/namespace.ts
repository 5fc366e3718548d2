import type { BlockChecksums } from "../lib/block-checksums.js";
import { BuddyMemory } from "../lib/buddy-memory.js";
import type { CancelTimer, Clock, Time } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { Random } from "../lib/prng.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { BlockInspector } from "../lu/lu.js";
import type { CommitParticipant, PageStore } from "../pagestore/contract.js";
import { type CheckOptions, type CheckReport, NamespaceCheck } from "./check.js";
import type { ContentsEvent } from "./contents/events.js";
import type { Contents, ContentsFault } from "./contents-contract.js";
import { Core, METADATA_RESERVE_PAGES, NO_SCRATCH_ROOM } from "./core.js";
import { reading } from "./database-error.js";
import type { DirentTable } from "./dirent-table.js";
import type { InodeTable } from "./inode-table.js";
import { FileLister, type FileRow, type FileSlice, type ListFilesOptions } from "./list-files.js";
import { FileLockTable } from "./locks/file-locks.js";
import { SqlLockRows } from "./locks/rows.js";
import { MetaKey, type MetaTable } from "./meta.js";
import * as creating from "./ops/create.js";
import * as data from "./ops/data.js";
import * as linking from "./ops/link.js";
import * as look from "./ops/look.js";
import { readdir } from "./ops/readdir.js";
import { rename } from "./ops/rename.js";
import { setattr } from "./ops/setattr.js";
import type { ReplyLog } from "./reply-log.js";
import { ROOT_INO } from "./schema.js";
import type { Restorer } from "./snapshot/restorer.js";
import type { Snapshot } from "./snapshot/snapshot.js";
import type {
  Attributes,
  Change,
  Created,
  CreateHow,
  Credentials,
  DirectoryPage,
  FileId,
  FileKind,
  FileSystem,
  KeptReplies,
  KeptReply,
  Linked,
  OnApplied,
  ReadMemory,
  ReadResult,
  Renamed,
  SetAttributes,
  SpaceUsage,
  Stability,
  WriteResult,
} from "./vfs.js";

/** The contents layer as the file system runs it. */
export interface ContentsLayer extends Contents, CommitParticipant {
  /** Extents, space and sizes against each other; reads only. `files` have blocks, by their rows. */
  check(options: { readonly data: boolean; readonly files: Iterable<number> }): AsyncIterable<ContentsFault>;
  /** What the data LU has grown by is used from now on, durably with the next commit. Nothing when it has not grown. */
  grow(): void;
  /** Write back everything that is dirty, and commit it. */
  settleAll(): Promise<void>;
  /** Write back everything that is dirty; the page store commits it as it closes. */
  close(): Promise<void>;
}

/** What the owner of a file system should hear of. */
export type FileSystemEvent =
  | { readonly kind: "failed"; readonly error: StorageError }
  /** In the scratch folder, for a copy that grows. */
  | { readonly kind: "no-room" | "room" }
  | ContentsEvent;

/** Numbers by name: those of the namespace, and whatever the layers below count. */
export type FileSystemStatistics = NamespaceStatistics & Readonly<Record<string, number>>;

export interface NamespaceStatistics {
  readonly inodes: number;
  readonly inodesCached: number;
  readonly inodesDirty: number;
  readonly inodeMisses: number;
  readonly nameHits: number;
  readonly nameMisses: number;
  /** Entries of the lock table, those of them that wait, and the addresses that have some. */
  readonly locks: number;
  readonly locksWaiting: number;
  readonly lockAddresses: number;
}

/** A file system that is served, with what only its owner may ask. */
export interface MountedFileSystem extends FileSystem {
  readonly failed: StorageError | null;
  /** Every change is refused (EROFS). */
  readonly readOnly: boolean;
  /** Why it does less than it should, though it is served; null: nothing is in the way. */
  trouble(): string | null;
  /** Settings are text, kept with the file system; the keys are the caller's. */
  getSetting(key: string): string | undefined;
  /** Durable when it resolves. */
  setSetting(key: string, value: string): Promise<void>;
  /** Prove it consistent while it serves; nothing is mended. */
  check(options?: CheckOptions): Promise<CheckReport>;
  /** In one piece: for few. */
  listFiles(options: ListFilesOptions): FileRow[];
  /** The same a bounded number of entries at a time. */
  listFilesSlice(after: string | undefined): FileSlice;
  /** `/dir/file`; of several links one. It may have to be searched for. "inode 7" when it has no name any more. */
  nameOf(ino: number): Promise<string>;
  /**
   * Who knows the blocks of the LUs, by LU number, for one scrub: they are new at every call, and whoever asked closes them. They go on
   * answering ("unknown") after the file system is closed.
   */
  inspectors(): ReadonlyMap<number, BlockInspector>;
  /**
   * The data LU may have grown: use all of it. Nothing when it has not. Durable when it resolves. The metadata LU's format has its size
   * fixed: more of it stays unused.
   */
  grow(): Promise<void>;
  statistics(): FileSystemStatistics;
  /** Write out what waits in memory, and bring the page area up to date, while it serves: closing is quick afterwards. @throws StorageError EIO */
  settle(): Promise<void>;
  /** As one commit left it, while it goes on serving. Whoever took it closes it. @throws StorageError EBUSY, ENOSPC (scratch folder), EIO */
  snapshot(): Promise<Snapshot>;
  /** Puts a backup into a file system that nobody is served from; it is closed and mounted anew afterwards. */
  restorer(): Restorer;
  /** Write back, commit and let go of the LUs' use. Every operation is EIO afterwards. */
  close(): Promise<void>;
}

export interface NamespaceParts {
  readonly store: PageStore;
  readonly contents: ContentsLayer;
  readonly meta: MetaTable;
  readonly inodes: InodeTable;
  readonly dirents: DirentTable;
  readonly replies: ReplyLog;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly writeVerifier: Buffer;
  /** Default: ordinary memory. */
  readonly readMemory?: ReadMemory | undefined;
  /** Name of the data LU. */
  readonly volume: string;
  readonly onEvent?: (event: FileSystemEvent) => void;
  readonly inspectors?: () => ReadonlyMap<number, BlockInspector>;
  readonly snapshot?: () => Promise<Snapshot>;
  readonly restorer?: () => Restorer;
  /** Default: the number of the inode. */
  readonly nameOf?: (ino: number) => Promise<string>;
  /** Counts of the layers below, for `statistics`. */
  readonly countsBelow?: () => Readonly<Record<string, number>>;
  /** Nothing is ever changed; the page store is open for reading only. */
  readonly readOnly?: boolean;
  /** Parts that are switched off. promise: no space is kept for what accepted requests will add. */
  readonly without?: { readonly promise?: boolean };
}

/**
 * Times that reads moved and unstable writes wait in memory for the next commit. When none comes, this long.
 * It bounds what a crash takes back, and the memory of dirty inodes.
 */
const LAZY_COMMIT_MS = 5000;

/** Files that `check` looks up at a time: half a millisecond. */
const FILES_PER_LOOK = 256;

/** A file costs an inode row and two entries: what the free pages of the metadata LU would hold. */
const FILES_PER_PAGE = 12;

/** Looked up as they are asked for, few at a time. */
function* filesWithBlocks(core: Core): Generator<number> {
  const rows = core.store.db
    .prepare<[number, number], number>(
      "SELECT ino FROM inode WHERE kind = 1 AND used_blocks > 0 AND ino > ? ORDER BY ino LIMIT ?",
    )
    .pluck();
  for (let page: number[], after = 0; ; after = page.at(-1) ?? after) {
    core.apply(() => core.inodes.flushDirty());
    page = reading(() => rows.all(after, FILES_PER_LOOK));
    if (page.length === 0) return;
    yield* page;
  }
}

function locksOn(core: Core, promising: boolean): FileLockTable {
  const rows = new SqlLockRows(core.store.db, (change, pages) => core.apply(change, pages));
  const ground = {
    rows,
    requireFile: (id: FileId) => void core.regularFile(id),
    exists: (ino: number) => core.inodes.load(ino) !== null,
    requireAlive: () => core.requireAlive(),
    requireSpace: (unlocking: boolean) => {
      core.requireWritable();
      if (unlocking) core.requireLittleSpace();
      else core.requireMetadataSpace();
    },
    keepReply: (kept: KeptReply) => core.replies.add(kept),
    durable: () => core.durable(),
    roomInCommit: () => core.roomInCommit(),
  };
  const locks = new FileLockTable(ground);
  // Rows of up to 2 KiB: of a page that they do not fill exactly half may stay empty.
  if (promising) core.store.promise(() => Math.ceil((2 * locks.promisedBytes) / BLOCK_BYTES));
  core.onDropped = (ino) => locks.forget(ino);
  core.locksAreGoing = (ino) => locks.isClearing(ino);
  return locks;
}

/** One mounted file system: the operations (ops/, one file a group) on one core. */
export class Namespace implements MountedFileSystem {
  readonly id: number;
  readonly name: string;
  readonly root: FileId;
  readonly handleKey: Buffer;
  readonly writeVerifier: Buffer;
  readonly locks: FileLockTable;
  readonly readMemory: ReadMemory;
  readonly #core: Core;
  readonly #contents: ContentsLayer;
  readonly #meta: MetaTable;
  readonly #files: FileLister;
  readonly #countsBelow: () => Readonly<Record<string, number>>;
  readonly #inspectors: () => ReadonlyMap<number, BlockInspector>;
  readonly #backup: Pick<NamespaceParts, "snapshot" | "restorer">;
  readonly #nameOf: (ino: number) => Promise<string>;
  #cancelLazyCommit: CancelTimer = () => {};
  #closed = false;

  constructor(parts: NamespaceParts) {
    this.#meta = parts.meta;
    this.#contents = parts.contents;
    this.#countsBelow = parts.countsBelow ?? (() => ({}));
    this.#inspectors = parts.inspectors ?? (() => new Map());
    this.#backup = parts;
    this.#nameOf = parts.nameOf ?? (async (ino) => `inode ${ino}`);
    this.writeVerifier = parts.writeVerifier;
    this.readMemory = parts.readMemory ?? new BuddyMemory(Buffer.alloc(0));
    this.id = parts.meta.number(MetaKey.id);
    this.name = parts.meta.required(MetaKey.name).toString("utf8");
    this.handleKey = parts.meta.required(MetaKey.handleKey);
    const root = parts.inodes.child(ROOT_INO);
    this.root = { ino: root.ino, generation: root.generation };
    const onFailed = (error: StorageError) => {
      parts.log.error({ fileSystem: this.name, ...error.detail }, "file system stopped: nothing more is written");
      parts.onEvent?.({ kind: "failed", error });
    };
    const onScratchRoom = (roomy: boolean) => parts.onEvent?.({ kind: roomy ? "room" : "no-room" });
    this.#core = new Core({ ...parts, onFailed, onScratchRoom });
    this.locks = locksOn(this.#core, parts.without?.promise !== true);
    this.#files = new FileLister(this.#core, parts.volume);
    this.#scheduleLazyCommit();
  }

  get readOnly(): boolean {
    return this.#core.readOnly;
  }

  get failed(): StorageError | null {
    return this.#core.failed;
  }

  /** The locks that rows say, once, before anybody is served. @throws StorageError EIO, and it serves nothing */
  async restoreLocks(): Promise<this> {
    // Rows that a crash has left would have to go; nobody can lock anything.
    if (this.#core.readOnly) return this;
    try {
      await this.locks.restore(new SqlLockRows(this.#core.store.db, (change) => this.#core.apply(change)));
    } catch (error) {
      this.#closed = true;
      this.#cancelLazyCommit();
      throw error;
    }
    return this;
  }

  getattr(id: FileId): Attributes {
    return look.getattr(this.#core, id);
  }

  setattr(
    cred: Credentials,
    id: FileId,
    set: SetAttributes,
    guardCtime?: Time,
    onApplied?: OnApplied<Change>,
  ): Promise<Change> {
    return this.#change(() => setattr(this.#core, cred, id, set, guardCtime, onApplied));
  }

  access(cred: Credentials, id: FileId, wanted: number): { granted: number; attributes: Attributes } {
    return look.access(this.#core, cred, id, wanted);
  }

  lookup(cred: Credentials, directory: FileId, name: Buffer): Attributes {
    return look.lookup(this.#core, cred, directory, name);
  }

  readlink(_cred: Credentials, id: FileId): { target: Buffer; attributes: Attributes } {
    return look.readlink(this.#core, id);
  }

  read(cred: Credentials, id: FileId, offset: number, target: Buffer): ReadResult | Promise<ReadResult> {
    return data.read(this.#core, cred, id, offset, target);
  }

  write(
    cred: Credentials,
    id: FileId,
    offset: number,
    source: Buffer,
    stability: Stability,
    onApplied?: OnApplied<WriteResult>,
    checksums?: BlockChecksums | null,
  ): WriteResult | Promise<WriteResult> {
    return this.#change(() => data.write(this.#core, cred, id, offset, source, stability, onApplied, checksums));
  }

  commit(_cred: Credentials, id: FileId, offset: number, count: number): Promise<Change> {
    return this.#change(() => data.commit(this.#core, id, offset, count));
  }

  create(
    cred: Credentials,
    directory: FileId,
    name: Buffer,
    how: CreateHow,
    onApplied?: OnApplied<Created>,
  ): Promise<Created> {
    return this.#change(() => creating.create(this.#core, cred, directory, name, how, onApplied));
  }

  mkdir(
    cred: Credentials,
    directory: FileId,
    name: Buffer,
    set: SetAttributes,
    onApplied?: OnApplied<Created>,
  ): Promise<Created> {
    return this.#change(() => creating.mkdir(this.#core, cred, directory, name, set, onApplied));
  }

  symlink(
    cred: Credentials,
    directory: FileId,
    name: Buffer,
    target: Buffer,
    set: SetAttributes,
    onApplied?: OnApplied<Created>,
  ): Promise<Created> {
    return this.#change(() => creating.symlink(this.#core, cred, directory, name, target, set, onApplied));
  }

  mknod(
    cred: Credentials,
    directory: FileId,
    name: Buffer,
    kind: FileKind,
    rdev: { major: number; minor: number },
    set: SetAttributes,
    onApplied?: OnApplied<Created>,
  ): Promise<Created> {
    return this.#change(() => creating.mknod(this.#core, cred, directory, name, kind, rdev, set, onApplied));
  }

  link(cred: Credentials, id: FileId, directory: FileId, name: Buffer, onApplied?: OnApplied<Linked>): Promise<Linked> {
    return this.#change(() => linking.link(this.#core, cred, id, directory, name, onApplied));
  }

  remove(cred: Credentials, directory: FileId, name: Buffer, onApplied?: OnApplied<Change>): Promise<Change> {
    return this.#change(() => linking.remove(this.#core, cred, directory, name, onApplied));
  }

  rmdir(cred: Credentials, directory: FileId, name: Buffer, onApplied?: OnApplied<Change>): Promise<Change> {
    return this.#change(() => linking.rmdir(this.#core, cred, directory, name, onApplied));
  }

  rename(
    cred: Credentials,
    from: FileId,
    fromName: Buffer,
    to: FileId,
    toName: Buffer,
    onApplied?: OnApplied<Renamed>,
  ): Promise<Renamed> {
    return this.#change(() => rename(this.#core, cred, from, fromName, to, toName, onApplied));
  }

  readdir(cred: Credentials, directory: FileId, cookie: number, limit: number, withAttributes: boolean): DirectoryPage {
    return readdir(this.#core, cred, directory, cookie, limit, withAttributes);
  }

  /** A change begins: at once, which is nearly always, or when the open commit has room for it. @throws StorageError EROFS */
  #change<T>(change: () => T): T | Promise<Awaited<T>> {
    this.#core.requireWritable();
    const room = this.#core.roomInCommit();
    return room === null ? change() : this.#changeLater(room, change);
  }

  async #changeLater<T>(first: Promise<void>, change: () => T): Promise<Awaited<T>> {
    for (let room: Promise<void> | null = first; room !== null; room = this.#core.roomInCommit()) await room;
    return await change();
  }

  space(): SpaceUsage {
    this.#core.requireAlive();
    const { totalBlocks, freeBlocks } = this.#contents.space();
    const freePages = Math.max(0, this.#core.store.freePages() - METADATA_RESERVE_PAGES);
    const freeFiles = freePages * FILES_PER_PAGE;
    return {
      totalBytes: totalBlocks * BLOCK_BYTES,
      freeBytes: freeBlocks * BLOCK_BYTES,
      availableBytes: freeBlocks * BLOCK_BYTES,
      totalFiles: this.#core.inodes.inodeCount + freeFiles,
      freeFiles,
    };
  }

  keepReply(kept: KeptReply): void {
    if (this.#core.failed === null) this.#core.replies.add(kept);
  }

  takeKeptReplies(): KeptReplies {
    return this.#core.replies.takeLoaded();
  }

  getSetting(key: string): string | undefined {
    this.#core.requireAlive();
    return this.#meta.text(MetaKey.settingPrefix + key);
  }

  async setSetting(key: string, value: string): Promise<void> {
    this.#core.requireAlive();
    this.#core.requireWritable();
    this.#core.requireMetadataSpace();
    this.#core.apply(() => this.#meta.put(MetaKey.settingPrefix + key, value));
    await this.#core.durable();
  }

  async check(options: CheckOptions = {}): Promise<CheckReport> {
    this.#core.requireAlive();
    const faults = this.#contents.check({ data: options.data ?? false, files: filesWithBlocks(this.#core) });
    return await new NamespaceCheck(this.#core, options).run(faults);
  }

  listFiles(options: ListFilesOptions): FileRow[] {
    return this.#files.list(options);
  }

  listFilesSlice(after: string | undefined): FileSlice {
    return this.#files.slice(after);
  }

  nameOf(ino: number): Promise<string> {
    return this.#nameOf(ino);
  }

  inspectors(): ReadonlyMap<number, BlockInspector> {
    return this.#closed ? new Map() : this.#inspectors();
  }

  async grow(): Promise<void> {
    this.#core.requireAlive();
    this.#core.requireWritable();
    this.#core.apply(() => this.#contents.grow());
    await this.#core.durable();
  }

  async settle(): Promise<void> {
    this.#core.requireAlive();
    if (this.#core.readOnly) return;
    await this.#contents.settleAll();
    await this.#core.store.checkpoint();
  }

  async snapshot(): Promise<Snapshot> {
    this.#core.requireAlive();
    this.#core.requireWritable();
    if (this.#backup.snapshot === undefined) throw new StorageError("ENOTSUP", "no snapshots here");
    return await this.#backup.snapshot();
  }

  restorer(): Restorer {
    this.#core.requireAlive();
    this.#core.requireWritable();
    if (this.#backup.restorer === undefined) throw new StorageError("ENOTSUP", "nothing is restored here");
    return this.#backup.restorer();
  }

  trouble(): string | null {
    return this.#core.failed !== null || this.#core.hasScratchRoom() ? null : NO_SCRATCH_ROOM;
  }

  statistics(): FileSystemStatistics {
    const { inodes, dirents } = this.#core;
    return {
      ...this.#countsBelow(),
      inodes: inodes.inodeCount,
      inodesCached: inodes.cachedCount,
      inodesDirty: inodes.dirtyCount,
      inodeMisses: inodes.misses,
      nameHits: dirents.names.hits,
      nameMisses: dirents.names.misses,
      locks: this.locks.counts().entries,
      locksWaiting: this.locks.counts().waiting,
      lockAddresses: this.locks.counts().addresses,
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelLazyCommit();
    this.locks.stop();
    const failedBefore = this.#core.failed !== null;
    this.#core.failed ??= new StorageError("EIO", "the file system is closed");
    // After a failure nothing more is written, and the next mount must have another verifier.
    if (!failedBefore && !this.#core.readOnly) {
      await this.#contents.close();
      this.#meta.put(MetaKey.cleanVerifier, this.writeVerifier);
    }
    await this.#core.store.close();
  }

  #scheduleLazyCommit(): void {
    this.#cancelLazyCommit = this.#core.clock.after(LAZY_COMMIT_MS, () => this.#lazyCommit());
  }

  #lazyCommit(): void {
    if (this.#closed || this.#core.failed !== null) return;
    this.#scheduleLazyCommit();
    this.#core.hasScratchRoom();
    this.#core.commitLazily();
  }
}
