import assert from "node:assert/strict";
import { DirentTable } from "../../src/fs/dirent-table.js";
import { initializeNamespace } from "../../src/fs/initialize.js";
import { InodeTable } from "../../src/fs/inode-table.js";
import { MetaTable } from "../../src/fs/meta.js";
import { NameCache } from "../../src/fs/name-cache.js";
import { type FileSystemEvent, Namespace } from "../../src/fs/namespace.js";
import { FileSystemParticipant } from "../../src/fs/participant.js";
import { ReplyLog } from "../../src/fs/reply-log.js";
import type { Attributes, Credentials, FileId, FileSystem } from "../../src/fs/vfs.js";
import type { Clock, Time } from "../../src/lib/clock.js";
import { type Errno, StorageError } from "../../src/lib/errors.js";
import { SILENT } from "../../src/lib/log.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { FakeContents } from "./fake-contents.js";
import { FakePageStore } from "./fake-page-store.js";

/** Each look at the wall clock is one microsecond later, so that every change has its own time. Timers run when told. */
export class StepClock implements Clock {
  seconds = 1_000_000;
  #nanoseconds = 0;
  #timers = new Set<() => void>();

  monotonicMs(): number {
    return this.seconds * 1000;
  }

  wallTime(): Time {
    this.#nanoseconds += 1000;
    if (this.#nanoseconds >= 1e9) {
      this.#nanoseconds -= 1e9;
      this.seconds++;
    }
    return { seconds: this.seconds, nanoseconds: this.#nanoseconds };
  }

  after(_delayMs: number, action: () => void): () => void {
    this.#timers.add(action);
    return () => this.#timers.delete(action);
  }

  /** Run every timer that is set now. */
  fire(): void {
    const due = [...this.#timers];
    this.#timers.clear();
    for (const action of due) action();
  }
}

export const ROOT: Credentials = { uid: 0, gid: 0, groups: [] };
export const ALICE: Credentials = { uid: 1000, gid: 100, groups: [200] };
export const BOB: Credentials = { uid: 1001, gid: 100, groups: [] };
export const EVE: Credentials = { uid: 1002, gid: 300, groups: [] };

export interface Fixture {
  readonly fs: Namespace;
  readonly store: FakePageStore;
  readonly contents: FakeContents;
  readonly inodes: InodeTable;
  readonly dirents: DirentTable;
  readonly clock: StepClock;
  readonly events: FileSystemEvent[];
}

export interface FixtureOptions {
  readonly rootMode?: number;
  readonly inodesCachedMax?: number;
  readonly namesBytesMax?: number;
  /** Go on with what this store holds, instead of a new file system. */
  readonly store?: FakePageStore;
}

/** A namespace over the fake store and the fake contents layer. */
export function openNamespace(options: FixtureOptions = {}): Fixture {
  const clock = new StepClock();
  const random = new SeededRandom(7);
  const store = options.store ?? new FakePageStore();
  if (options.store === undefined) {
    const rootMode = options.rootMode ?? 0o777;
    initializeNamespace(store.db, { name: "test", dataLuUuid: "data-uuid", clock, random, rootMode });
  }
  const meta = new MetaTable(store.db);
  const cached = options.inodesCachedMax === undefined ? {} : { inodesCachedMax: options.inodesCachedMax };
  const inodes = new InodeTable({ db: store.db, meta, random, ...cached });
  const dirents = new DirentTable(store.db, new NameCache(options.namesBytesMax));
  const replies = new ReplyLog({ db: store.db, clock, freePages: () => store.freePages() });
  const contents = new FakeContents(store, inodes, (kept) => replies.add(kept));
  store.join(new FileSystemParticipant(contents, inodes, replies));
  const events: FileSystemEvent[] = [];
  const fs = new Namespace({
    store,
    contents,
    meta,
    inodes,
    dirents,
    replies,
    clock,
    random,
    log: SILENT,
    writeVerifier: Buffer.alloc(8, 1),
    volume: "data",
    onEvent: (event) => events.push(event),
  });
  return { fs, store, contents, inodes, dirents, clock, events };
}

export function bytes(text: string): Buffer {
  return Buffer.from(text, "latin1");
}

/** The operation is refused with this code. */
export async function refused(code: Errno, action: () => unknown): Promise<void> {
  await assert.rejects(
    async () => await action(),
    (error: unknown) => {
      assert.ok(error instanceof StorageError, `no StorageError: ${String(error)}`);
      assert.equal(error.code, code, error.message);
      return true;
    },
  );
}

export async function makeFile(
  fs: FileSystem,
  cred: Credentials,
  directory: FileId,
  name: string,
  mode = 0o644,
): Promise<Attributes> {
  const created = await fs.create(cred, directory, bytes(name), { mode: "guarded", attributes: { mode } });
  return created.attributes;
}

export async function makeDirectory(
  fs: FileSystem,
  cred: Credentials,
  directory: FileId,
  name: string,
  mode = 0o755,
): Promise<Attributes> {
  return (await fs.mkdir(cred, directory, bytes(name), { mode })).attributes;
}

/** All names of a directory, as text, in the order of the listing. */
export function namesOf(fs: FileSystem, directory: FileId, pageSize = 3): string[] {
  const names: string[] = [];
  for (let cookie = 0; ; ) {
    const page = fs.readdir(ROOT, directory, cookie, pageSize, false);
    for (const entry of page.entries) names.push(entry.name.toString("latin1"));
    cookie = page.entries.at(-1)?.cookie ?? cookie;
    if (page.endOfDirectory) return names;
  }
}
