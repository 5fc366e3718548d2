import type { Clock } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { Random } from "../lib/prng.js";
import type { LogicalUnit } from "../lu/lu.js";
import { formatPageStore } from "../pagestore/format.js";
import { type OpenOptions, openPageStore } from "../pagestore/open.js";
import type { LogPageStore } from "../pagestore/store.js";
import { UntouchedLu } from "../pagestore/untouched-lu.js";
import type { Arena } from "../parity/arena.js";
import { FileContents, type WithoutChecks } from "./contents/file-contents.js";
import { createContentsTables } from "./contents/schema.js";
import { SidecarRecovery } from "./contents/sidecar-recovery.js";
import { DirentTable } from "./dirent-table.js";
import { FileNames } from "./file-names.js";
import { initializeNamespace } from "./initialize.js";
import { InodeTable } from "./inode-table.js";
import { MetaKey, MetaTable } from "./meta.js";
import { withFileNames } from "./named-events.js";
import { type FileSystemEvent, type MountedFileSystem, Namespace } from "./namespace.js";
import { FileSystemParticipant } from "./participant.js";
import { ReplyLog } from "./reply-log.js";
import { SCHEMA_VERSION } from "./schema.js";
import { Restorer } from "./snapshot/restorer.js";
import { removeSnapshots, takeSnapshot } from "./snapshot/snapshot.js";
import type { ReadMemory } from "./vfs.js";

export type { CheckFault, CheckOptions, CheckReport } from "./check.js";
export type { FileRow, ListFilesOptions } from "./list-files.js";
export type { FileSystemEvent, FileSystemStatistics, MountedFileSystem } from "./namespace.js";

/** `kind` of the page store that holds a file system. */
export const PAGE_STORE_KIND = "fs";

const VERIFIER_BYTES = 8;

export interface FormatFileSystemOptions {
  /** Shown to people and in the export; 1 to 64 bytes of UTF-8. */
  readonly name: string;
  /** RAID-1: everything but the contents of files. */
  readonly metadataLu: LogicalUnit;
  readonly dataLu: LogicalUnit;
  readonly clock: Clock;
  /** Makes the file system's id and its handle key: a real source outside of tests. */
  readonly random: Random;
  readonly log: Logger;
  readonly scratchDir: string;
  /** Default 0o755, owned by root. */
  readonly rootMode?: number;
  readonly rootUid?: number;
  readonly rootGid?: number;
  /** Of the metadata log; default: the page store's. */
  readonly logBytes?: number;
  readonly epoch?: () => number;
  readonly arena?: Arena;
}

export interface MountFileSystemOptions {
  readonly metadataLu: LogicalUnit;
  readonly dataLu: LogicalUnit;
  /** For SQLite's copy of the metadata, as large as that becomes; nothing there needs to survive. */
  readonly scratchDir: string;
  readonly arena: Arena;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** The owner epoch of this node. Default: 0. */
  readonly epoch?: () => number;
  /** Data cache in the arena. Default: the contents layer's. */
  readonly cacheBytes?: number;
  /** Memory for large reads, of the same arena. Default: ordinary memory, into which direct I/O cannot read by itself. */
  readonly readMemory?: ReadMemory | undefined;
  /** SQLite's page cache. Default: the page store's. */
  readonly sqliteCacheBytes?: number;
  readonly inodesCachedMax?: number;
  /** Of the metadata, kept while another node served it. */
  readonly warm?: OpenOptions["warm"] | undefined;
  readonly onEvent?: (event: FileSystemEvent) => void;
  /** As OpenOptions.folder. */
  readonly scratchFolder?: OpenOptions["folder"];
  /** Serve what the last durable commit left, and never write to an LU: what is in the log and not yet at its place must fit the data cache. Default: false. */
  readonly readOnly?: boolean;
  /** Parts that are switched off. */
  readonly without?: WithoutChecks;
}

/**
 * Make an empty file system on two LUs; whatever they held is lost. Durable when it resolves.
 * @throws StorageError EINVAL (name), ENOSPC (an LU is too small), EIO
 */
export async function formatFileSystem(options: FormatFileSystemOptions): Promise<void> {
  const { metadataLu, dataLu, name, clock, random, log, scratchDir } = options;
  const shared = options.arena === undefined ? {} : { arena: options.arena };
  const logBytes = options.logBytes === undefined ? {} : { logBytes: options.logBytes };
  await formatPageStore({ lu: metadataLu, kind: PAGE_STORE_KIND, name, random, clock, ...shared, ...logBytes });
  const epoch = options.epoch === undefined ? {} : { epoch: options.epoch };
  const store = await openPageStore({ lu: metadataLu, scratchDir, clock, log, ...shared, ...epoch });
  initializeNamespace(store.db, { ...options, dataLuUuid: dataLu.description.uuid });
  createContentsTables(store.db, dataLu);
  await store.close();
  log.info({ fileSystem: name, data: dataLu.description.name, metadata: metadataLu.description.name }, "fs formatted");
}

/**
 * Recover and serve. After a crash this is all there is to do: the log is replayed and intents go back into the cache (I-5).
 * @throws StorageError ENXIO (no file system here), EINVAL (the other LU belongs to another one), ENOTSUP (a newer format), ESTALE (a newer
 * owner), EIO
 */
export async function mountFileSystem(wanted: MountFileSystemOptions): Promise<MountedFileSystem> {
  const options = wanted.readOnly === true ? { ...wanted, dataLu: new UntouchedLu(wanted.dataLu) } : wanted;
  const recovery = new SidecarRecovery();
  // The log is looked through while the tables are made.
  let search: Promise<void> = Promise.resolve();
  const store = await openStore(options, recovery, (searching) => {
    search = searching;
    searching.catch(() => {});
  });
  try {
    return await serve(options, store, recovery, search);
  } catch (error) {
    // Nothing is appended where a later record might stand.
    await search.catch(() => {});
    await store.abandon().catch(() => {});
    throw error;
  }
}

async function openStore(
  options: MountFileSystemOptions,
  recovery: SidecarRecovery,
  searching: (search: Promise<void>) => void,
): Promise<LogPageStore> {
  const { metadataLu, scratchDir, clock, log, arena } = options;
  return await openPageStore({
    lu: metadataLu,
    scratchDir,
    clock,
    log,
    arena,
    ...(options.epoch && { epoch: options.epoch }),
    ...(options.sqliteCacheBytes !== undefined && { cacheBytes: options.sqliteCacheBytes }),
    warm: options.warm,
    folder: options.scratchFolder,
    readOnly: options.readOnly ?? false,
    searching,
    onReplay: (seq, sidecar) => recovery.replay(seq, sidecar),
  });
}

async function serve(
  options: MountFileSystemOptions,
  store: LogPageStore,
  recovery: SidecarRecovery,
  search: Promise<void>,
): Promise<MountedFileSystem> {
  const { dataLu, arena, clock, log, random } = options;
  if (store.kind !== PAGE_STORE_KIND)
    throw new StorageError("ENXIO", "the LU carries no file system", { kind: store.kind });
  const { db } = store;
  const meta = new MetaTable(db);
  requireKnown(meta, dataLu);
  const cached = options.inodesCachedMax === undefined ? {} : { inodesCachedMax: options.inodesCachedMax };
  const inodes = new InodeTable({ db, meta, random, ...cached });
  const dirents = new DirentTable(db);
  const names = new FileNames(db, { inodes, dirents });
  const onEvent = withFileNames(names, options.onEvent ?? (() => {}));
  const replies = new ReplyLog({ db, clock, freePages: () => store.freePages() });
  const contents = new FileContents({
    ...{ dataLu, arena, store, inodes, clock, log, random, onEvent },
    ...(options.cacheBytes !== undefined && { cacheBytes: options.cacheBytes }),
    ...(options.without && { without: options.without }),
    onReplySaved: (kept) => replies.add(kept),
  });
  store.join(new FileSystemParticipant(contents, inodes, replies));
  await search;
  const readOnly = options.readOnly ?? false;
  await contents.start(recovery, { readOnly });
  const writeVerifier = takeVerifier(meta, store, random);
  const countsBelow = () => ({ ...contents.statistics(), ...prefixed("pageStore", store.statistics()) });
  const inspectors = () =>
    new Map([
      [dataLu.description.number, contents.inspector(options.scratchDir, names)],
      [options.metadataLu.description.number, store.inspector()],
    ]);
  removeSnapshots(options.scratchDir);
  const namespace = new Namespace({
    snapshot: () => takeSnapshot(contents, options.scratchDir, random),
    restorer: () => new Restorer({ store, inodes, contents }),
    ...{ store, contents, meta, inodes, dirents, replies, clock, random, log, onEvent, writeVerifier },
    ...{ countsBelow, inspectors, readMemory: options.readMemory },
    volume: dataLu.description.name,
    readOnly,
    ...(options.without && { without: options.without }),
    nameOf: (ino) => names.nameOf(ino),
  });
  return await namespace.restoreLocks();
}

function prefixed(prefix: string, counts: object): Record<string, number> {
  const named = Object.entries(counts).map(([key, value]) => [
    `${prefix}${key.charAt(0).toUpperCase()}${key.slice(1)}`,
    Number(value),
  ]);
  return Object.fromEntries(named) as Record<string, number>;
}

/** @throws StorageError ENOTSUP, EINVAL */
function requireKnown(meta: MetaTable, dataLu: LogicalUnit): void {
  const version = meta.number(MetaKey.schemaVersion);
  if (version !== SCHEMA_VERSION) {
    throw new StorageError("ENOTSUP", "a file system of another format version", { version, known: SCHEMA_VERSION });
  }
  const expected = meta.required(MetaKey.dataLuUuid).toString("utf8");
  if (expected !== dataLu.description.uuid) {
    throw new StorageError("EINVAL", "the data LU belongs to another file system", {
      expected,
      found: dataLu.description.uuid,
    });
  }
}

/**
 * After a clean close nothing was lost and the verifier stays; else there is a new one. The row goes with the first commit, before which the store is
 * marked as open already: a crash from now on is seen.
 */
function takeVerifier(meta: MetaTable, store: LogPageStore, random: Random): Buffer {
  const clean = meta.bytes(MetaKey.cleanVerifier);
  if (clean !== undefined) meta.delete(MetaKey.cleanVerifier);
  if (clean !== undefined && store.wasClosed) return clean;
  const verifier = Buffer.alloc(VERIFIER_BYTES);
  random.fill(verifier);
  return verifier;
}
