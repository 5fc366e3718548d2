import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type Database from "better-sqlite3";
import type { ContentsEvent } from "../../../../src/fs/contents/events.js";
import { FileContents, type WithoutChecks } from "../../../../src/fs/contents/file-contents.js";
import { createContentsTables } from "../../../../src/fs/contents/schema.js";
import { SidecarRecovery } from "../../../../src/fs/contents/sidecar-recovery.js";
import type { ApplyObserver } from "../../../../src/fs/contents-contract.js";
import { Inode, type InodeMarks } from "../../../../src/fs/inode.js";
import { FileKind } from "../../../../src/fs/vfs.js";
import { type BlockChecksums, checksumWithBlocks } from "../../../../src/lib/block-checksums.js";
import { type CancelTimer, type Clock, SystemClock } from "../../../../src/lib/clock.js";
import { SILENT } from "../../../../src/lib/log.js";
import { type Random, SeededRandom } from "../../../../src/lib/prng.js";
import { MIB } from "../../../../src/lib/units.js";
import type { CommitParticipant } from "../../../../src/pagestore/contract.js";
import { formatPageStore } from "../../../../src/pagestore/format.js";
import { openPageStore } from "../../../../src/pagestore/open.js";
import type { LogPageStore } from "../../../../src/pagestore/store.js";
import { MemoryLu } from "../../../support/memory-lu.js";

/** The smallest inode table that the contents layer can stand on: number, size, blocks. */
export class TestInodes implements InodeMarks {
  readonly #cache = new Map<number, Inode>();
  readonly #dirty = new Set<Inode>();
  readonly #select: Database.Statement<[number], [number, number]>;
  readonly #put: Database.Statement<[number, number, number]>;
  readonly #delete: Database.Statement<[number]>;

  constructor(readonly db: Database.Database) {
    this.#select = db.prepare<[number], [number, number]>("SELECT size, used FROM inode WHERE ino = ?").raw();
    this.#put = db.prepare("REPLACE INTO inode (ino, size, used) VALUES (?, ?, ?)");
    this.#delete = db.prepare("DELETE FROM inode WHERE ino = ?");
  }

  markDirty(inode: Inode): void {
    if (!inode.dead) this.#dirty.add(inode);
  }

  load(ino: number): Inode | null {
    const known = this.#cache.get(ino);
    if (known !== undefined) return known;
    const row = this.#select.get(ino);
    if (row === undefined) return null;
    const inode = new Inode(ino, 1, FileKind.file);
    inode.sizeBytes = row[0];
    inode.durableSizeBytes = row[0];
    inode.usedBlocks = row[1];
    this.#cache.set(ino, inode);
    return inode;
  }

  create(ino: number): Inode {
    const inode = new Inode(ino, 1, FileKind.file);
    this.#cache.set(ino, inode);
    this.markDirty(inode);
    return inode;
  }

  remove(inode: Inode): void {
    this.#delete.run(inode.ino);
    this.#dirty.delete(inode);
    this.#cache.delete(inode.ino);
    inode.dead = true;
  }

  numbers(): number[] {
    return this.db.prepare<[], number>("SELECT ino FROM inode ORDER BY ino").pluck().all();
  }

  /** What an inode cache would do: forget whom nothing holds. */
  evict(): void {
    for (const [ino, inode] of this.#cache)
      if (!this.#dirty.has(inode) && inode.contents === null) this.#cache.delete(ino);
  }

  flush(): void {
    for (const inode of this.#dirty) this.#put.run(inode.ino, inode.durableSizeBytes, inode.usedBlocks);
    this.#dirty.clear();
  }
}

export const NOBODY: ApplyObserver = { before: () => {}, after: () => {} };

export interface RigOptions {
  readonly dataBytes?: number;
  readonly metadataBytes?: number;
  readonly logBytes?: number;
  readonly stripeBytes?: number;
  readonly cacheBytes?: number;
  readonly freedGroupsPerStep?: number;
  /** Smaller than the geometry would choose: as many segments as a large LU has. */
  readonly segmentBlocks?: number;
  readonly redundant?: boolean;
  readonly random?: Random;
  readonly clock?: Clock;
  readonly latencyMs?: number;
  readonly without?: WithoutChecks;
}

const scratchDir = mkdtempSync(path.join(tmpdir(), "contents-test-"));
process.on("exit", () => rmSync(scratchDir, { recursive: true, force: true }));

/** Contents over a real page store, both on LUs in memory that can crash. */
export class Rig {
  readonly events: ContentsEvent[] = [];
  private constructor(
    readonly options: RigOptions,
    readonly data: MemoryLu,
    readonly metadata: MemoryLu,
    readonly store: LogPageStore,
    readonly inodes: TestInodes,
    readonly contents: FileContents,
    events: ContentsEvent[],
    readonly replayedBlocks: number,
  ) {
    this.events = events;
  }

  static async create(options: RigOptions = {}): Promise<Rig> {
    const random = options.random ?? new SeededRandom(7);
    const { stripeBytes = 256 * 1024, redundant = false, latencyMs = 0 } = options;
    const data = new MemoryLu({ sizeBytes: options.dataBytes ?? 64 * MIB, stripeBytes, redundant, random, latencyMs });
    const metadata = new MemoryLu({ sizeBytes: options.metadataBytes ?? 48 * MIB, random, name: "metadata" });
    const clock = new SystemClock();
    const logBytes = { logBytes: options.logBytes ?? 8 * MIB };
    await formatPageStore({ lu: metadata, kind: "fs", name: "test", random, clock, ...logBytes });
    const store = await openPageStore({ lu: metadata, scratchDir, clock, log: SILENT });
    store.db.exec("CREATE TABLE inode (ino INTEGER PRIMARY KEY, size INTEGER, used INTEGER) STRICT");
    createContentsTables(store.db, data);
    if (options.segmentBlocks !== undefined) {
      store.db.prepare("UPDATE contents_geometry SET segment_blocks = ?").run(options.segmentBlocks);
    }
    await store.close();
    return await Rig.mount(options, data, metadata);
  }

  static async mount(options: RigOptions, data: MemoryLu, metadata: MemoryLu): Promise<Rig> {
    const clock = options.clock ?? new SystemClock();
    const recovery = new SidecarRecovery();
    const onReplay = (seq: number, sidecar: Buffer) => recovery.replay(seq, sidecar);
    const store = await openPageStore({ lu: metadata, scratchDir, clock, log: SILENT, onReplay });
    const inodes = new TestInodes(store.db);
    const events: ContentsEvent[] = [];
    const contents = new FileContents({
      ...{ dataLu: data, store, inodes, clock, log: SILENT, random: new SeededRandom(1) },
      arena: { take: (byteCount) => Buffer.alloc(byteCount) },
      cacheBytes: options.cacheBytes ?? 4 * MIB,
      ...(options.freedGroupsPerStep === undefined ? {} : { freedGroupsPerStep: options.freedGroupsPerStep }),
      ...(options.without && { without: options.without }),
      onEvent: (event) => events.push(event),
    });
    store.join(participant(contents, inodes));
    let blockCount = 0;
    for (const blocks of recovery.files.values()) blockCount += blocks.size;
    await contents.start(recovery);
    return new Rig(options, data, metadata, store, inodes, contents, events, blockCount);
  }

  /** Pull the plug and mount what is left. */
  async crash(keep: "none" | "all" | "random" = "random", keepMetadata = keep): Promise<Rig> {
    const data = this.data.crash({ keep });
    const metadata = this.metadata.crash({ keep: keepMetadata });
    await this.contents.close().catch(() => {});
    await this.store.close().catch(() => {});
    return await Rig.mount(this.options, data, metadata);
  }

  async remount(): Promise<Rig> {
    await this.close();
    return await Rig.mount(this.options, this.data, this.metadata);
  }

  async close(): Promise<void> {
    await this.contents.close();
    await this.store.close();
  }

  /** As a large WRITE comes: with the checksums of its blocks. `stableWrite` is as a small one. */
  async write(inode: Inode, offset: number, source: Buffer): Promise<void> {
    await this.contents.write(inode, offset, source, NOBODY, checksumsOf(source, offset));
  }

  async stableWrite(inode: Inode, offset: number, source: Buffer): Promise<void> {
    await this.contents.write(inode, offset, source, NOBODY);
    await this.contents.stabilize(inode);
  }

  async truncate(inode: Inode, sizeBytes: number): Promise<void> {
    await this.contents.truncate(inode, sizeBytes, NOBODY);
  }

  discard(inode: Inode): void {
    this.inodes.remove(inode);
    this.contents.discard(inode);
  }

  async read(inode: Inode, offset: number, byteCount: number): Promise<Buffer> {
    const target = Buffer.alloc(byteCount, 0xee);
    const count = await this.contents.read(inode, offset, target);
    return target.subarray(0, count);
  }

  async content(inode: Inode): Promise<Buffer> {
    return await this.read(inode, 0, inode.sizeBytes);
  }

  async faults(data = true): Promise<string[]> {
    const faults: string[] = [];
    for await (const fault of this.contents.check({ data, files: this.inodes.numbers() })) {
      faults.push(`${fault.ino}: ${fault.what}`);
    }
    return faults;
  }
}

export function checksumsOf(source: Buffer, offset: number): BlockChecksums {
  const whole = { start: 0, dataStart: 0, dataEnd: source.length, end: source.length };
  return checksumWithBlocks(source, whole, offset).blocks;
}

function participant(contents: FileContents, inodes: TestInodes): CommitParticipant {
  return {
    prepare: () => contents.prepare(),
    seal: () => {
      const sidecar = contents.seal();
      inodes.flush();
      return sidecar;
    },
    settle: () => contents.settle(),
    durable: (seq) => contents.durable(seq),
    releaseSidecars: (seq) => contents.releaseSidecars(seq),
    oldestSidecar: () => contents.oldestSidecar(),
    releasePages: () => contents.releasePages(),
  };
}

/** Time stands still until the test moves it. */
export class ManualClock extends SystemClock {
  #nowMs = 0;
  #timers: Array<{ atMs: number; action: () => void }> = [];

  override monotonicMs(): number {
    return this.#nowMs;
  }

  override after(delayMs: number, action: () => void): CancelTimer {
    const timer = { atMs: this.#nowMs + delayMs, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  advance(ms: number): void {
    this.#nowMs += ms;
    const due = this.#timers.filter((timer) => timer.atMs <= this.#nowMs);
    this.#timers = this.#timers.filter((timer) => timer.atMs > this.#nowMs);
    for (const timer of due) timer.action();
  }
}

export function bytes(byteCount: number, seed: number): Buffer {
  const random = new SeededRandom(seed);
  const buffer = Buffer.alloc(byteCount);
  for (let i = 0; i + 4 <= byteCount; i += 4) buffer.writeUInt32LE(random.next(), i);
  for (let i = byteCount - (byteCount % 4); i < byteCount; i++) buffer[i] = random.below(256);
  return buffer;
}
