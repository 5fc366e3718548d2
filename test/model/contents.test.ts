import assert from "node:assert/strict";
import { test } from "node:test";
import type { Inode } from "../../src/fs/inode.js";
import { isStorageError } from "../../src/lib/errors.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { KIB, MIB } from "../../src/lib/units.js";
import { bytes, Rig, type RigOptions } from "../unit/fs/contents/fixture.js";

/**
 * Random operations on a few files against Buffers, with crashes. The model keeps, for each file, the contents after every operation
 * since the last stable point: what a crash leaves must be one of them (a prefix of the file's history: each unstable write is there
 * whole or not at all), and nothing older than what stabilize has promised. Crashes come at any write or flush of either LU.
 */
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
const ROUNDS = Number(process.env.ROUNDS ?? 4);

const FILES = 5;
const FILE_BYTES_MAX = 6 * MIB;

interface ModelFile {
  inode: Inode;
  /** Contents after each operation; the first one is durable. */
  history: Buffer[];
}

class Model {
  readonly files = new Map<number, ModelFile>();
  #nextIno = 10;
  #writes = 0;

  constructor(
    public rig: Rig,
    readonly random: SeededRandom,
  ) {}

  current(file: ModelFile): Buffer {
    return file.history.at(-1)!;
  }

  pick(): ModelFile {
    const files = [...this.files.values()];
    return files[this.random.below(files.length)]!;
  }

  async create(): Promise<void> {
    const inode = this.rig.inodes.create(this.#nextIno++);
    await this.rig.store.durable();
    this.files.set(inode.ino, { inode, history: [Buffer.alloc(0)] });
  }

  async write(file: ModelFile): Promise<void> {
    const old = this.current(file);
    const byteCount = this.#length();
    const offset = this.random.below(Math.min(FILE_BYTES_MAX - byteCount, old.length + 100 * KIB) + 1);
    const data = bytes(byteCount, this.#writes++);
    await this.rig.write(file.inode, offset, data);
    const next = Buffer.alloc(Math.max(old.length, offset + byteCount));
    old.copy(next);
    data.copy(next, offset);
    file.history.push(next);
  }

  async truncate(file: ModelFile): Promise<void> {
    const old = this.current(file);
    // Often most of the file goes: with few groups a step that takes several commits.
    const deep = this.random.below(2) === 0;
    const sizeMax = deep ? old.length / 4 : Math.min(FILE_BYTES_MAX, old.length + 200 * KIB);
    const sizeBytes = this.random.below(Math.floor(sizeMax) + 1);
    if (sizeBytes < old.length && this.random.below(2) === 0) return await this.#truncateUnstable(file, sizeBytes);
    // As in the contract the size may become durable before older unstable writes do: those are made stable first.
    await this.stabilize(file);
    await this.rig.truncate(file.inode, sizeBytes);
    file.history.push(resized(old, sizeBytes));
    if (this.random.below(2) === 0) await this.stabilize(file);
  }

  /**
   * With unstable writes pending. Until something later is stable a crash may leave any earlier content, or any of them cut (or grown
   * with zeros) to the new size: the size may be durable before those writes are.
   */
  async #truncateUnstable(file: ModelFile, sizeBytes: number): Promise<void> {
    const cut = file.history.map((content) => resized(content, sizeBytes));
    await this.rig.truncate(file.inode, sizeBytes);
    file.history.push(...cut);
    if (this.random.below(2) === 0) await this.stabilize(file);
  }

  async stabilize(file: ModelFile): Promise<void> {
    const point = file.history.length - 1;
    await this.rig.contents.stabilize(file.inode);
    file.history.splice(0, point);
  }

  async read(file: ModelFile): Promise<void> {
    const wanted = this.current(file);
    const offset = this.random.below(wanted.length + 1);
    const byteCount = this.#length();
    const found = await this.rig.read(file.inode, offset, byteCount);
    assert.ok(found.equals(wanted.subarray(offset, offset + byteCount)), `read of ${file.inode.ino} at ${offset}`);
  }

  async discard(file: ModelFile): Promise<void> {
    this.rig.discard(file.inode);
    this.files.delete(file.inode.ino);
    // Durable or not: after a crash the file may be there, which `check` alone looks at.
    await this.rig.store.durable();
  }

  /** What survived is in every file's history. */
  async verify(): Promise<void> {
    for (const [ino, file] of this.files) {
      const inode = this.rig.inodes.load(ino);
      assert.ok(inode, `file ${ino} exists`);
      const found = await this.rig.content(inode);
      const at = file.history.findLastIndex((content) => content.equals(found));
      assert.ok(at >= 0, `file ${ino}: ${found.length} bytes, none of ${file.history.map((one) => one.length)}`);
      file.inode = inode;
      file.history = [found];
    }
    assert.deepEqual(await this.rig.faults(), []);
  }

  #length(): number {
    const kind = this.random.below(4);
    if (kind === 0) return 1 + this.random.below(200);
    if (kind === 1) return 4096 * (1 + this.random.below(3));
    if (kind === 2) return 1 + this.random.below(64 * KIB);
    return 1 + this.random.below(MIB);
  }
}

function resized(content: Buffer, sizeBytes: number): Buffer {
  const next = Buffer.alloc(sizeBytes);
  content.copy(next, 0, 0, sizeBytes);
  return next;
}

async function step(model: Model): Promise<void> {
  if (model.files.size < FILES) return await model.create();
  const file = model.pick();
  const choice = model.random.below(100);
  if (choice < 55) await model.write(file);
  else if (choice < 75) await model.read(file);
  else if (choice < 85) await model.truncate(file);
  else if (choice < 97) await model.stabilize(file);
  else if (choice < 98) await model.rig.store.checkpoint();
  else await model.discard(file);
}

/** Several operations at once, each on a file of its own. */
async function steps(model: Model): Promise<void> {
  const files = [...model.files.values()];
  const some = files.slice(0, 1 + model.random.below(files.length));
  await Promise.all(
    some.map(async (file) => {
      for (let i = 0; i < 4; i++) {
        const choice = model.random.below(10);
        if (choice < 6) await model.write(file);
        else if (choice < 8) await model.stabilize(file);
        else await model.read(file);
      }
    }),
  );
}

/** Stop both LUs at one operation in the near future: a crash point between any two writes or flushes. */
function haltSoon(model: Model): void {
  let left = 1 + model.random.below(60);
  const count = () => (--left <= 0 ? ("halt" as const) : undefined);
  model.rig.data.beforeOperation = count;
  model.rig.metadata.beforeOperation = count;
}

async function untilHalted(model: Model, stepCount: number): Promise<void> {
  try {
    for (let i = 0; i < stepCount; i++) {
      await step(model);
      if (model.files.size > 0 && model.random.below(12) === 0) await steps(model);
    }
    await someWrites(model);
  } catch (error) {
    const { data, metadata } = model.rig;
    if (!isStorageError(error, "EIO") || !(data.halted || metadata.halted)) throw error;
  }
}

async function run(options: RigOptions, seed: number, stepCount: number): Promise<void> {
  const random = new SeededRandom(seed);
  const model = new Model(await Rig.create({ ...options, random: new SeededRandom(seed + 1) }), random);
  for (let crash = 0; crash < 8; crash++) {
    await untilHalted(model, random.below(stepCount));
    haltSoon(model);
    await untilHalted(model, stepCount);
    const behind = someWrites(model);
    if (random.below(2) === 0) await new Promise((resolve) => setTimeout(resolve, random.below(4)));
    model.rig = await model.rig.crash(random.below(4) === 0 ? "none" : "random");
    await behind;
    await model.verify();
  }
  await model.rig.close();
}

/** Left in flight when the crash comes. */
async function someWrites(model: Model): Promise<void> {
  const pending = [...model.files.values()].map(async (file) => {
    const point = file.history.length;
    try {
      await model.write(file);
      await model.rig.contents.stabilize(file.inode);
    } catch (error) {
      if (!isStorageError(error)) throw error;
    }
    assert.ok(point > 0);
  });
  await Promise.all(pending);
}

for (let round = 0; round < ROUNDS; round++) {
  const seed = SEED + round * 1000;
  test(`contents: random operations and crashes, SEED=${seed} ROUNDS=1`, async () => {
    // A write that waits for the next attempt at a failed write-back waits for a timer, which does not keep the process alive.
    const alive = setInterval(() => {}, 1000);
    const options = {
      dataBytes: (round % 2 === 0 ? 64 : 40) * MIB,
      cacheBytes: 4 * MIB,
      redundant: round % 2 === 0,
      freedGroupsPerStep: 2,
    };
    await run(options, seed, 150).finally(() => clearInterval(alive));
  });
}
