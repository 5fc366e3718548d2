import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  formatFileSystem,
  type MountedFileSystem,
  type MountFileSystemOptions,
  mountFileSystem,
} from "../../src/fs/file-system.js";
import { type Attributes, type DirectoryEntry, type FileId, ROOT_CREDENTIALS } from "../../src/fs/vfs.js";
import { must } from "../../src/lib/assert.js";
import { type Errno, isStorageError } from "../../src/lib/errors.js";
import { SILENT } from "../../src/lib/log.js";
import type { Random } from "../../src/lib/prng.js";
import { KIB, MIB } from "../../src/lib/units.js";
import type { Group, Without } from "../../src/raid/contract.js";
import { PlayedFolder } from "../support/played-folder.js";
import { FaultBudget } from "./fault-budget.js";
import { Filler, FULL } from "./filler.js";
import { type Actual, DIRECTORIES, FsModel, type Key, type ModelFile } from "./fs-model.js";
import { idOf, operate, stopped } from "./fs-operations.js";
import { Machine, type MachineBroken, THREADS } from "./machine.js";
import { Simulation } from "./simulation.js";
import type { World } from "./world.js";

const DISK_BYTES = 40 * MIB;
const CHUNK_BYTES = 16 * KIB;
const DATA_BYTES = 6 * MIB;
const METADATA_BYTES = 6 * MIB;
/** Small, so that checkpoints happen; a commit is well below a quarter of it. */
const LOG_BYTES = 2 * MIB;

const scratchDir = mkdtempSync(path.join(tmpdir(), "stripeward-sim-"));
process.once("exit", () => rmSync(scratchDir, { recursive: true, force: true }));

/** What is broken in a file system (MountFileSystemOptions.without). */
interface FsWithout {
  readonly checksum?: boolean;
  /** Room that is held for a commit is not there when it is needed. */
  readonly room?: boolean;
  /** No space is kept for what accepted requests will add. */
  readonly promise?: boolean;
}

/** A file system on a RAID-5 and a RAID-1 LU of one group, and the model of its files. */
export class FsWorld implements World {
  readonly simulation: Simulation;
  readonly machine: Machine;
  readonly budget = new FaultBudget();
  readonly proves = true;
  patient = false;
  readonly model = new FsModel();
  readonly folder: PlayedFolder;
  /** EBUSY: the scratch folder is full. ENOSPC: an LU is. */
  readonly lacks = new Set<Errno>();
  readonly #filler: Filler;
  readonly #without: FsWithout;
  fs!: MountedFileSystem;
  #directories = new Map<string, FileId>();
  #verifier = Buffer.alloc(0);
  #clean = false;

  constructor(seed: number, without: Without, broken: MachineBroken, fsWithout: FsWithout) {
    this.simulation = new Simulation(seed);
    this.#without = fsWithout;
    this.#filler = new Filler(this, this.simulation);
    this.folder = new PlayedFolder({ keepsHeld: fsWithout.room === true });
    this.machine = new Machine({
      ...{ simulation: this.simulation, members: 3 + (Math.floor(seed / 3) % 3), diskBytes: DISK_BYTES, without },
      ...{ broken, threads: THREADS },
      ...{ chunkBytes: CHUNK_BYTES, rowBytes: 8 * CHUNK_BYTES, parityRun: 2 },
    });
  }

  async create(): Promise<void> {
    const { machine, simulation } = this;
    await simulation.until(machine.create(), "creating the group");
    await simulation.until(machine.group.createLu("data", 5, DATA_BYTES), "an LU");
    await simulation.until(machine.group.createLu("data.meta", 1, METADATA_BYTES), "an LU");
    const format = { name: "sim", logBytes: LOG_BYTES, ...this.#common(machine, machine.group) };
    await simulation.until(formatFileSystem(format), "formatting");
    await this.#mount();
    for (const name of DIRECTORIES.slice(1)) {
      const made = this.fs.mkdir(ROOT_CREDENTIALS, this.fs.root, Buffer.from(name), {});
      await simulation.until(made, "a directory");
    }
    await this.#open();
  }

  #common({ clock, random }: Machine, group: Group) {
    return { dataLu: group.openLu(1), metadataLu: group.openLu(2), clock, random, log: SILENT, scratchDir };
  }

  #mountOptions(machine: Machine): MountFileSystemOptions {
    const { arena } = machine;
    const { checksum = false, promise = false } = this.#without;
    const options = { arena, cacheBytes: 4 * MIB, sqliteCacheBytes: MIB, without: { checksum, promise } };
    return { ...this.#common(machine, machine.group), ...options, scratchFolder: this.folder };
  }

  async #mount(): Promise<void> {
    this.fs = await this.simulation.until(mountFileSystem(this.#mountOptions(this.machine)), "mounting");
  }

  async #open(): Promise<void> {
    this.#directories = directoriesOf(this.fs);
    this.#filler.crowd.listen();
    this.#verifier = Buffer.from(this.fs.writeVerifier);
  }

  checkAge(): void {
    const dirtyBlocks = must(this.fs.statistics().dirtyBlocks, "a file system counts its dirty blocks");
    if (dirtyBlocks > 0) throw new Error(`${dirtyBlocks} dirty blocks wait, and nobody writes them back`);
  }

  directory(key: Key): FileId {
    return this.#directories.get(key.slice(0, key.indexOf("/")))!;
  }

  burst(random: Random): Promise<unknown> {
    const works: Promise<unknown>[] = Array.from({ length: 2 + random.below(10) }, () => operate(this, random));
    if (this.#isFull) works.push(this.#filler.act(random));
    return Promise.all(works);
  }

  /** What it has in its cache asks no disk. */
  readers(_count: number, random: Random): Promise<unknown> {
    return this.burst(random);
  }

  get #isFull(): boolean {
    return this.lacks.has("ENOSPC");
  }

  /** The data LU grows: a page store's cannot, and a file system does not become smaller. */
  async resize(random: Random): Promise<void> {
    const { group } = this.machine;
    const { fs } = this;
    const wanted = group.openLu(1).sizeBytes + (1 + random.below(4)) * 8 * CHUNK_BYTES;
    await group.resizeLu(1, wanted).catch(unlessFull);
    await fs.grow();
  }

  /** It would have to bear that it cannot be read. */
  async checkSilent(): Promise<void> {}

  async fullScratch(random: Random): Promise<void> {
    const { simulation, folder } = this;
    folder.fill(random.below(3) === 0 ? random.below(512 * KIB) : 0);
    this.lacks.add("EBUSY");
    for (let i = 1 + random.below(4); i > 0; i--) await simulation.until(this.burst(random), "requests");
    await simulation.until(simulation.sleep(random.below(12_000)), "time");
    this.#requireAlive();
    if (random.below(3) === 0) await this.#crashIn(this.burst(random), random);
    folder.clear();
    this.lacks.delete("EBUSY");
    await simulation.until(this.burst(random), "requests");
  }

  async fillUp(random: Random): Promise<void> {
    const { simulation } = this;
    if (this.#isFull) return await this.makeRoom(random);
    this.lacks.add("ENOSPC");
    await simulation.until(this.#filler.fill(FULL[random.below(FULL.length)]!, random), "filling an LU");
    for (let i = 1 + random.below(6); i > 0; i--) {
      await simulation.until(this.burst(random), "requests");
      if (random.below(3) === 0) await simulation.until(simulation.sleep(random.below(12_000)), "time");
      await this.#requireHealthy();
      if (random.below(5) === 0) await this.#crashIn(this.burst(random), random);
      if (random.below(5) === 0) await this.settle();
    }
    if (random.below(3) > 0) await this.makeRoom(random);
  }

  async makeRoom(random: Random): Promise<void> {
    const { simulation } = this;
    if (!this.#isFull) return;
    if (random.below(4) === 0) await this.#crashIn(this.#filler.empty(random), random);
    await simulation.until(this.#filler.empty(random), "removing");
    await this.#requireHealthy();
    this.lacks.delete("ENOSPC");
    for (let i = 0; i < 3; i++) await simulation.until(this.burst(random), "requests");
    this.#requireAlive();
  }

  async #crashIn(work: Promise<unknown>, random: Random): Promise<void> {
    const { machine } = this;
    if (!(await machine.runUntilCut(work, 1 + random.below(20), "requests"))) machine.cut();
    this.crashed();
    await this.recover();
  }

  async #requireHealthy(): Promise<void> {
    this.#requireAlive();
    await this.#filler.crowd.check();
  }

  #requireAlive(): void {
    if (this.fs.failed !== null) throw stopped(this.fs.failed);
  }

  crashed(): void {
    this.model.life++;
    this.#clean = false;
  }

  async recover(): Promise<void> {
    await this.#letGo();
    await this.simulation.until(this.machine.assemble(), "assembling");
    await this.#mount();
    if (this.#verifier.equals(this.fs.writeVerifier) !== this.#clean)
      throw new Error(
        this.#clean ? "the write verifier changed in a clean stop" : "a crash left the write verifier as it was",
      );
    await this.#open();
    this.model.settle(actualOf(this.fs, this.#directories));
    await this.#checkAll(this.fs, (file, found, key) => this.model.adopt(file, found, key));
    await this.#requireHealthy();
  }

  /** SQLite's scratch copy of a life that has ended goes; nothing reaches the disks any more. */
  async #letGo(): Promise<void> {
    const { fs, simulation } = this;
    const dead = fs.setSetting("over", "").catch(() => fs.close().catch(() => {}));
    await simulation.until(Promise.race([dead, simulation.sleep(1000)]), "letting go of a dead file system");
  }

  /** Every file against the model, links by their target, and the file system against itself. */
  async #checkAll(fs: MountedFileSystem, look: (file: ModelFile, found: Buffer, key: Key) => void): Promise<void> {
    const seen = new Set<ModelFile>();
    for (const [key, entry] of this.model.entries) {
      if (entry.kind === "symlink") this.#checkLink(fs, key, entry.target);
      if (entry.kind !== "file" || seen.has(entry.file)) continue;
      seen.add(entry.file);
      look(entry.file, await this.#content(fs, entry.file), key);
    }
    const report = await this.simulation.until(fs.check({ data: true }), "fs check");
    if (!report.ok) throw new Error(`fs check: ${JSON.stringify(report.faults.slice(0, 3))}`);
  }

  #checkLink(fs: MountedFileSystem, key: Key, target: string): void {
    const name = Buffer.from(key.slice(key.indexOf("/") + 1));
    const found = fs.readlink(ROOT_CREDENTIALS, idOf(fs.lookup(ROOT_CREDENTIALS, this.directory(key), name)));
    if (found.target.toString() !== target) throw new Error(`${key} points elsewhere`);
  }

  async #content(fs: MountedFileSystem, { id }: ModelFile): Promise<Buffer> {
    const target = Buffer.alloc(fs.getattr(id!).sizeBytes + 1);
    const reading = Promise.resolve(fs.read(ROOT_CREDENTIALS, id!, 0, target));
    const { count } = await this.simulation.until(reading, "reading a file");
    return target.subarray(0, count);
  }

  async stop(): Promise<void> {
    await this.simulation.until(this.fs.close(), "closing the file system");
    await this.simulation.until(this.machine.close(), "closing the group");
    for (const file of this.model.files()) file.history = [file.content];
    this.#clean = true;
  }

  async settle(): Promise<void> {
    await this.stop();
    await this.recover();
  }

  async end(): Promise<void> {
    await this.settle();
    const members = this.machine.memberDrives();
    await this.stop();
    const victim = this.budget.mayMiss(this.machine.group.describe().disks);
    for (const index of members) if (victim === null || victim === index) await this.#checkWithout(index);
  }

  async #checkWithout(index: number): Promise<void> {
    const { simulation } = this;
    const twin = this.machine.copy(simulation, new Set([index]));
    try {
      await simulation.until(twin.assemble(), "assembling");
      const fs = await simulation.until(mountFileSystem(this.#mountOptions(twin)), "mounting");
      await this.#checkAll(fs, requireLast);
      await simulation.until(fs.close(), "closing the file system");
    } catch (error) {
      throw new Error(`without disk ${index}: ${(error as Error).message}`);
    }
    await simulation.until(twin.group.close(), "closing the group");
  }
}

function unlessFull(error: unknown): void {
  if (!isStorageError(error, "ENOSPC")) throw error;
}

function requireLast(file: ModelFile, found: Buffer, key: Key): void {
  if (!file.content.equals(found)) throw new Error(`${key} is not what it was with all members`);
}

function directoriesOf(fs: MountedFileSystem): Map<string, FileId> {
  const root = fs.root;
  return new Map(
    DIRECTORIES.map((name) => [name, name === "" ? root : idOf(fs.lookup(ROOT_CREDENTIALS, root, Buffer.from(name)))]),
  );
}

/** Every entry of the directories that operations take place in. */
function actualOf(fs: MountedFileSystem, directories: ReadonlyMap<string, FileId>): Actual {
  const actual = new Map<Key, Attributes>();
  for (const [directory, id] of directories) {
    for (const { name, attributes } of entriesOf(fs, id)) {
      const text = name.toString();
      const own = text === "." || text === ".." || (directory === "" && directories.has(text));
      if (!own && attributes !== undefined) actual.set(`${directory}/${text}`, attributes);
    }
  }
  return actual;
}

function* entriesOf(fs: MountedFileSystem, directory: FileId): Generator<DirectoryEntry> {
  for (let cookie = 0, end = false; !end; ) {
    const page = fs.readdir(ROOT_CREDENTIALS, directory, cookie, 1000, true);
    yield* page.entries;
    cookie = page.entries.at(-1)?.cookie ?? cookie;
    end = page.endOfDirectory;
  }
}
