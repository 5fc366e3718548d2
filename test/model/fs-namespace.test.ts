import assert from "node:assert/strict";
import { test } from "node:test";
import { type Attributes, type Credentials, FileKind, type FileSystem, type SetAttributes } from "../../src/fs/vfs.js";
import { StorageError } from "../../src/lib/errors.js";
import { nextTurn } from "../../src/lib/next-turn.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { MemoryFileSystem } from "../support/memory-file-system.js";
import { ALICE, BOB, EVE, ROOT } from "../support/namespace-fixture.js";
import { ModelFileSystem, type ModelNode, type Outcome } from "./fs-namespace-model.js";

/**
 * Random operations of four users against a model written by the book: every result, every error, the whole tree with its attributes
 * and contents, over clean restarts and crashes. STRIPEWARD_SEED repeats a run; STRIPEWARD_STEPS makes it longer.
 *
 * A crash comes with operations in flight: afterwards the tree must be the model's after some of them in the order of their calls, at least
 * all that were answered.
 */
const SEED = Number(process.env.STRIPEWARD_SEED ?? Date.now() % 1_000_000);
const STEPS = Number(process.env.STRIPEWARD_STEPS ?? 1000);
const USERS = [ROOT, ALICE, BOB, EVE];
const NAMES = ["a", "b", "c", "d", "e", "\xff\x80", ".", "..", "", "x/y", "n".repeat(255), "n".repeat(256)];
const MODES = [0o777, 0o755, 0o700, 0o644, 0o600, 0o000, 0o1777, 0o2775, 0o4755, 0o6711, 0o070, 0o007];

type Refusal = { readonly error: string };
type Result = Refusal | Attributes | null;

/** One random operation, ready to be done on both sides. */
interface Step {
  readonly what: string;
  onModel(model: ModelFileSystem): Outcome;
  onReal(fs: FileSystem): Promise<Attributes | null>;
}

class Chooser {
  readonly random: SeededRandom;
  constructor(seed: number) {
    this.random = new SeededRandom(seed);
  }

  of<T>(items: readonly T[]): T {
    return items[this.random.below(items.length)] as T;
  }

  /** Ordinary names mostly. */
  name(): string {
    return this.random.below(12) === 0 ? this.of(NAMES) : this.of(NAMES.slice(0, 6));
  }

  user(): Credentials {
    return this.random.below(3) === 0 ? ROOT : this.of(USERS);
  }

  set(): SetAttributes {
    const set: { -readonly [K in keyof SetAttributes]: SetAttributes[K] } = {};
    if (this.random.below(2) === 0) set.mode = this.of(MODES);
    if (this.random.below(5) === 0) set.uid = this.of(USERS).uid;
    if (this.random.below(5) === 0) set.gid = this.of([100, 200, 300, 0]);
    if (this.random.below(4) === 0) set.mtime = this.of(["now", this.time()]);
    if (this.random.below(5) === 0) set.atime = this.of(["now", this.time()]);
    return set;
  }

  time() {
    return { seconds: this.random.below(2 ** 31), nanoseconds: this.random.below(1e9) };
  }
}

/** Nodes are looked up by the place in the model's walk, so that a step can be done on a copy of the model too. */
function pick(model: ModelFileSystem, chooser: Chooser, prefer: FileKind | null): number {
  const nodes = pool(model);
  const liked = [...nodes.keys()].filter((i) => nodes[i]?.kind === prefer && !model.dead.has(nodes[i] as ModelNode));
  return liked.length > 0 && chooser.random.below(12) > 0 ? chooser.of(liked) : chooser.random.below(nodes.length);
}

/** What can be named: a node whose creation was not answered yet has no id. */
function pool(model: ModelFileSystem): ModelNode[] {
  return [...model.nodes(), ...[...model.dead].slice(-4)].filter((node) => node.id !== null);
}

function bytes(text: string): Buffer {
  return Buffer.from(text, "latin1");
}

/** Chooses an operation and its arguments; both sides take them from here. */
function chooseStep(model: ModelFileSystem, chooser: Chooser): Step {
  const { random } = chooser;
  const cred = chooser.user();
  const directory = pick(model, chooser, FileKind.directory);
  const other = pick(model, chooser, FileKind.directory);
  const file = pick(model, chooser, FileKind.file);
  const any = random.below(pool(model).length);
  const name = chooser.name();
  const toName = chooser.name();
  const set = chooser.set();
  const ids = pool(model).map((node) => node.id);
  const id = (at: number) => ids[at] as { ino: number; generation: number };
  const node = (on: ModelFileSystem, at: number) => pool(on)[at] as ModelNode;
  const say = (text: string) => `${text} (uid ${cred.uid}, directory ${id(directory).ino}, name "${name.slice(0, 8)}")`;
  switch (random.below(16)) {
    case 0:
    case 1:
    case 2: {
      const mode = chooser.of(["unchecked", "guarded"] as const);
      const size = random.below(3) === 0 ? { sizeBytes: random.below(9000) } : {};
      const { mtime: _m, atime: _a, ...plain } = set;
      const attributes = { ...plain, ...size };
      return {
        what: say(`create ${mode} ${JSON.stringify(attributes)}`),
        onModel: (on) => on.create(cred, node(on, directory), name, mode, attributes),
        onReal: async (fs) => (await fs.create(cred, id(directory), bytes(name), { mode, attributes })).attributes,
      };
    }
    case 3: {
      const verifier = chooser.of(["11111111", "22222222"]);
      return {
        what: say("create exclusive"),
        onModel: (on) => on.create(cred, node(on, directory), name, "exclusive", {}, verifier),
        onReal: async (fs) => {
          const how = { mode: "exclusive", verifier: bytes(verifier) } as const;
          return (await fs.create(cred, id(directory), bytes(name), how)).attributes;
        },
      };
    }
    case 4:
    case 5:
    case 6: {
      const kind = chooser.of([
        FileKind.directory,
        FileKind.directory,
        FileKind.symlink,
        FileKind.fifo,
        FileKind.block,
      ]);
      const { mtime: _m, atime: _a, ...plain } = set;
      const target = kind === FileKind.symlink ? chooser.of(["t", "../x", ""]) : "";
      return {
        what: say(`make kind ${kind} ${JSON.stringify(plain)}`),
        onModel: (on) => on.make(cred, node(on, directory), name, kind, plain, target),
        onReal: async (fs) => {
          if (kind === FileKind.directory) return (await fs.mkdir(cred, id(directory), bytes(name), plain)).attributes;
          if (kind === FileKind.symlink) {
            return (await fs.symlink(cred, id(directory), bytes(name), bytes(target), plain)).attributes;
          }
          const rdev = { major: 7, minor: 9 };
          return (await fs.mknod(cred, id(directory), bytes(name), kind, rdev, plain)).attributes;
        },
      };
    }
    case 7:
      return {
        what: say(`link ${id(any).ino}`),
        onModel: (on) => on.link(cred, node(on, any), node(on, directory), name),
        onReal: async (fs) => (await fs.link(cred, id(any), id(directory), bytes(name))).file,
      };
    case 8:
      return {
        what: say("remove"),
        onModel: (on) => on.remove(cred, node(on, directory), name),
        onReal: async (fs) => {
          await fs.remove(cred, id(directory), bytes(name));
          return null;
        },
      };
    case 9:
      return {
        what: say("rmdir"),
        onModel: (on) => on.rmdir(cred, node(on, directory), name),
        onReal: async (fs) => {
          await fs.rmdir(cred, id(directory), bytes(name));
          return null;
        },
      };
    case 10:
    case 11:
    case 12:
      return {
        what: say(`rename to ${id(other).ino} "${toName.slice(0, 8)}"`),
        onModel: (on) => on.rename(cred, node(on, directory), name, node(on, other), toName),
        onReal: async (fs) => {
          await fs.rename(cred, id(directory), bytes(name), id(other), bytes(toName));
          return null;
        },
      };
    case 13: {
      const at = random.below(2) === 0 ? any : file;
      const size = random.below(3) === 0 ? { sizeBytes: random.below(9000) } : {};
      const all = { ...set, ...size };
      return {
        what: say(`setattr ${id(at).ino} ${JSON.stringify(all)}`),
        onModel: (on) => on.setattr(cred, node(on, at), all),
        onReal: async (fs) => (await fs.setattr(cred, id(at), all)).after,
      };
    }
    case 14: {
      const data = Buffer.alloc(random.below(6000));
      random.fill(data);
      const offset = random.below(8000);
      return {
        what: say(`write ${id(file).ino} at ${offset}, ${data.length} bytes`),
        onModel: (on) => on.write(cred, node(on, file), offset, data),
        onReal: async (fs) => (await fs.write(cred, id(file), offset, data, "stable")).change.after,
      };
    }
    default:
      return {
        what: say("lookup"),
        onModel: (on) => on.lookup(cred, node(on, directory), name),
        onReal: async (fs) => fs.lookup(cred, id(directory), bytes(name)),
      };
  }
}

async function outcomeOf(run: Promise<Attributes | null>): Promise<Result> {
  try {
    return await run;
  } catch (error) {
    if (error instanceof StorageError) return { error: error.code };
    throw error;
  }
}

function plain(node: ModelNode): object {
  const directory = node.kind === FileKind.directory;
  const sizeBytes = directory ? 4096 : node.kind === FileKind.symlink ? node.target.length : node.data.length;
  const { kind, mode, uid, gid, nlink, rdev } = node;
  return { kind, mode, uid, gid, nlink, sizeBytes, rdev };
}

function plainReal(attributes: Attributes): object {
  const { kind, mode, uid, gid, nlink, sizeBytes, rdevMajor, rdevMinor } = attributes;
  return { kind, mode, uid, gid, nlink, sizeBytes, rdev: { major: rdevMajor, minor: rdevMinor } };
}

/** Times cannot be foretold; but whether they move can. */
class Times {
  readonly #seen = new Map<number, { mtime: string; ctime: string; modified: number; changed: number }>();

  check(node: ModelNode, attributes: Attributes): void {
    const now = {
      mtime: JSON.stringify(attributes.mtime),
      ctime: JSON.stringify(attributes.ctime),
      modified: node.modified,
      changed: node.changed,
    };
    const before = this.#seen.get(attributes.ino);
    this.#seen.set(attributes.ino, now);
    if (before === undefined) return;
    assert.equal(now.mtime !== before.mtime, now.modified !== before.modified, `mtime of inode ${attributes.ino}`);
    assert.equal(now.ctime !== before.ctime, now.changed !== before.changed, `ctime of inode ${attributes.ino}`);
  }

  forget(): void {
    this.#seen.clear();
  }
}

/** Walk both trees. Learns the ids of nodes that the model does not know yet. @throws when they differ */
async function compareTrees(model: ModelFileSystem, fs: FileSystem, times: Times | null): Promise<void> {
  const seen = new Set<ModelNode>();
  const compare = async (node: ModelNode, attributes: Attributes): Promise<void> => {
    if (seen.has(node)) return;
    seen.add(node);
    node.id ??= { ino: attributes.ino, generation: attributes.generation };
    assert.equal(attributes.ino, node.id.ino);
    assert.deepEqual(plainReal(attributes), plain(node), `inode ${attributes.ino}`);
    times?.check(node, attributes);
    if (node.kind === FileKind.symlink) assert.ok(fs.readlink(ROOT, attributes).target.equals(node.target));
    if (node.kind === FileKind.file) await compareData(fs, node, attributes);
    if (node.kind !== FileKind.directory) return;
    const page = fs.readdir(ROOT, attributes, 2, 10_000, true);
    const names = page.entries.map((entry) => entry.name.toString("latin1"));
    assert.deepEqual(names, [...node.entries.keys()]);
    for (const entry of page.entries) {
      const child = node.entries.get(entry.name.toString("latin1")) as ModelNode;
      await compare(child, entry.attributes as Attributes);
    }
  };
  await compare(model.root, fs.getattr(fs.root));
}

async function compareData(fs: FileSystem, node: ModelNode, attributes: Attributes): Promise<void> {
  const data = Buffer.alloc(node.data.length + 10);
  const { count } = await fs.read(ROOT, attributes, 0, data);
  assert.equal(count, node.data.length);
  assert.ok(data.subarray(0, count).equals(node.data), `contents of inode ${attributes.ino}`);
}

async function runStep(model: ModelFileSystem, fs: FileSystem, step: Step): Promise<void> {
  const expected = step.onModel(model);
  const result = await outcomeOf(step.onReal(fs));
  const error = result !== null && "error" in result ? result.error : null;
  assert.equal(error, typeof expected === "string" ? expected : null, step.what);
  if (typeof expected === "string" || result === null || "error" in result) return;
  expected.node.id ??= { ino: result.ino, generation: result.generation };
  assert.deepEqual(plainReal(result), plain(expected.node), step.what);
}

function changesOf(model: ModelFileSystem): number {
  return [...model.nodes(), ...model.dead].reduce((sum, node) => sum + node.modified + node.changed, 0);
}

/** Operations in flight, then the power fails. @returns the model of what is there afterwards */
async function crashInFlight(
  model: ModelFileSystem,
  memory: MemoryFileSystem,
  chooser: Chooser,
): Promise<ModelFileSystem> {
  const states = [model.clone()];
  let answered = 0;
  const running: Promise<void>[] = [];
  for (let i = chooser.random.below(8); i > 0; i--) {
    const step = chooseStep(model, chooser);
    if (step.what.startsWith("write") || step.what.includes("sizeBytes")) continue;
    const changesBefore = changesOf(model);
    step.onModel(model);
    states.push(model.clone());
    // A refusal, or a look, promises nothing about what came before it.
    const at = changesOf(model) === changesBefore ? 0 : states.length - 1;
    const done = () => {
      answered = Math.max(answered, at);
    };
    running.push(outcomeOf(step.onReal(memory.fs)).then(done));
  }
  const turns = chooser.random.below(12);
  for (let i = 0; i < turns; i++) await nextTurn();
  const promised = answered;
  await memory.crash();
  const failures: string[] = [];
  for (const candidate of states.slice(promised)) {
    try {
      await compareTrees(candidate, memory.fs, null);
      return candidate;
    } catch (error) {
      failures.push(String(error).slice(0, 300));
    }
  }
  assert.fail(`after the crash the tree is none of the ${states.length - promised} it may be:\n${failures.join("\n")}`);
}

async function run(seed: number, steps: number): Promise<void> {
  const chooser = new Chooser(seed);
  const memory = await MemoryFileSystem.open({ seed, inodesCachedMax: 16 });
  const times = new Times();
  let model = ModelFileSystem.empty(memory.fs.getattr(memory.fs.root));
  for (let i = 0; i < steps; i++) {
    await runStep(model, memory.fs, chooseStep(model, chooser));
    if (i % 10 === 9) await compareTrees(model, memory.fs, times);
    if (i % 150 === 74) await memory.remount();
    if (i % 50 !== 49) continue;
    await compareTrees(model, memory.fs, times);
    model = await crashInFlight(model, memory, chooser);
    times.forget();
    await compareTrees(model, memory.fs, times);
    const report = await memory.fs.check({ data: true, windowInodes: 64 });
    assert.deepEqual(report.faults, []);
  }
  await memory.end();
}

test(`namespace: ${STEPS} random steps with restarts and crashes agree with the model (STRIPEWARD_SEED=${SEED})`, async () => {
  try {
    await run(SEED, STEPS);
  } catch (error) {
    console.error(`repeat with STRIPEWARD_SEED=${SEED} STRIPEWARD_STEPS=${STEPS}`);
    throw error;
  }
});
