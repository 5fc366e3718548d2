import { UNSTABLE } from "../../../src/protocol/nfs3/stable-how.js";
import { type CallOptions, encode, MOUNT, NfsClient, PORTMAP, Proc } from "../../support/nfs-client.js";
import { type LockArgs, NlmClient, NlmProc, NSM, notifyArgs, testArgs } from "../../support/nlm-client.js";
import { type HostileContext, overTime, type Scenario } from "../scenario.js";
import type { Target } from "../target.js";

const AT_ONCE = 128;
const ENTRIES = 3000;
/** Each block of the file lies in another row of the extent table. */
const FRAGMENTS = 2000;
const FRAGMENT_STRIDE = 1024 * 1024;
const DIRTY_BYTES = 24 * 1024 * 1024;
const WRITE_BYTES = 512 * 1024;
const LOCKS = 3000;
const DEPTH = 300;

interface World {
  readonly nfs: NfsClient;
  readonly nlm: NlmClient;
  readonly root: Buffer;
  /** ENTRIES files. */
  readonly wide: Buffer;
  readonly files: readonly Buffer[];
  readonly deep: Buffer;
}

async function many(count: number, call: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const one = async () => {
    while (next < count) await call(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

async function directory({ nfs }: Pick<World, "nfs">, parent: Buffer, name: string): Promise<Buffer> {
  const found = await nfs.lookup(parent, name);
  return found.status === 0 ? found.handle : (await nfs.mkdir(parent, name)).handle!;
}

async function file({ nfs }: Pick<World, "nfs">, parent: Buffer, name: string): Promise<Buffer> {
  const found = await nfs.lookup(parent, name);
  return found.status === 0 ? found.handle : (await nfs.create(parent, name)).handle!;
}

/** What is only looked at is made once. */
async function build({ target, clients, random }: HostileContext): Promise<World> {
  const nfs = await NfsClient.connect(target.port, target.host, clients[0]);
  nfs.beginXidsAt(random.below(2 ** 31));
  const { handle: root } = await nfs.mount("/data");
  const wide = await directory({ nfs }, root, "walk-wide");
  const files: Buffer[] = [];
  await many(ENTRIES, async (i) => {
    files[i] = await file({ nfs }, wide, `${i}`.padEnd(200, "x"));
  });
  let deep = await directory({ nfs }, root, "walk-deep");
  for (let i = 0; i < DEPTH; i++) deep = await directory({ nfs }, deep, "d");
  return { nfs, nlm: new NlmClient(nfs), root, wide, files, deep };
}

async function fragmented(world: World, name: string): Promise<Buffer> {
  const handle = await file(world, world.root, name);
  const block = Buffer.alloc(4096, 1);
  await many(FRAGMENTS, (i) => world.nfs.write(handle, i * FRAGMENT_STRIDE, block, UNSTABLE));
  await world.nfs.commit(handle);
  return handle;
}

async function dirty(world: World, name: string): Promise<Buffer> {
  const handle = await file(world, world.root, name);
  const piece = Buffer.alloc(WRITE_BYTES, 2);
  for (let at = 0; at < DIRTY_BYTES; at += WRITE_BYTES) await world.nfs.write(handle, at, piece, UNSTABLE);
  return handle;
}

async function locked(world: World, name: string): Promise<LockArgs> {
  const lock: LockArgs = { handle: await file(world, world.root, name), host: "walker" };
  await many(LOCKS, (i) => world.nlm.lock({ ...lock, offset: BigInt(2 * i), length: 1n }));
  return lock;
}

/** Something to prepare, which is not judged, and the one call that is. */
interface Step {
  readonly name: string;
  prepare?(world: World): Promise<unknown>;
  run(world: World, target: Target): Promise<unknown>;
}

const call = (name: string, procedure: number, options: CallOptions, args: Buffer = Buffer.alloc(0)): Step => {
  return { name, run: ({ nfs }) => nfs.call(procedure, args, options) };
};
const get = (path: string): Step => ({ name: `GET ${path}`, run: (_world, target) => target.get(path) });

/** Every procedure of every program, and what the management API reads. */
const STEPS: readonly Step[] = [
  call("NFS NULL", 0, {}),
  { name: "GETATTR", run: ({ nfs, wide }) => nfs.getattr(wide) },
  {
    name: "SETATTR of thousands at once",
    run: ({ nfs, files }) => many(ENTRIES, (i) => nfs.setattr(files[i]!, { mode: 0o600 + (Date.now() % 64) })),
  },
  {
    name: "SETATTR size 0",
    prepare: (world) => fragmented(world, "walk-f1"),
    run: async (world) => world.nfs.setattr(await file(world, world.root, "walk-f1"), { size: 0 }),
  },
  {
    name: "LOOKUP of thousands",
    run: ({ nfs, wide }) => many(ENTRIES, (i) => nfs.lookup(wide, `${i}`.padEnd(200, "x"))),
  },
  { name: "ACCESS", run: ({ nfs, deep }) => nfs.access(deep, 0x3f) },
  { name: "READLINK", run: async ({ nfs, root }) => nfs.readlink((await nfs.lookup(root, "walk-link")).handle) },
  {
    name: "READ of fragments",
    prepare: (world) => fragmented(world, "walk-f1"),
    run: async (world) => {
      const handle = await file(world, world.root, "walk-f1");
      await many(200, (i) => world.nfs.read(handle, i * FRAGMENT_STRIDE, 1024 * 1024));
    },
  },
  { name: "WRITE of much", run: (world) => dirty(world, "walk-dirty") },
  {
    name: "COMMIT of much",
    prepare: (world) => dirty(world, "walk-dirty"),
    run: async (world) => world.nfs.commit(await file(world, world.root, "walk-dirty")),
  },
  { name: "CREATE of many at once", run: ({ nfs, root }) => many(500, (i) => nfs.create(root, `walk-new-${i}`)) },
  { name: "REMOVE of many at once", run: ({ nfs, root }) => many(500, (i) => nfs.remove(root, `walk-new-${i}`)) },
  { name: "SYMLINK", run: ({ nfs, root }) => nfs.symlink(root, "walk-link", "t".repeat(4000)) },
  { name: "MKDIR", run: ({ nfs, deep }) => nfs.mkdir(deep, "walk-dir") },
  { name: "RMDIR", run: ({ nfs, deep }) => nfs.rmdir(deep, "walk-dir") },
  {
    name: "RENAME of a deep directory",
    prepare: ({ nfs, deep }) => nfs.mkdir(deep, "walk-moved"),
    run: ({ nfs, deep, root }) => nfs.rename(deep, "walk-moved", root, "walk-moved"),
  },
  {
    name: "RENAME over a file of fragments",
    prepare: async (world) => {
      await fragmented(world, "walk-f2");
      await file(world, world.root, "walk-over");
    },
    run: ({ nfs, root }) => nfs.rename(root, "walk-over", root, "walk-f2"),
  },
  {
    name: "REMOVE of fragments",
    prepare: (world) => fragmented(world, "walk-f3"),
    run: ({ nfs, root }) => nfs.remove(root, "walk-f3"),
  },
  { name: "LINK", run: ({ nfs, root, files }) => nfs.link(files[0]!, root, `walk-link-${Date.now()}`) },
  { name: "READDIR", run: ({ nfs, wide }) => nfs.readdir(wide, 0, Buffer.alloc(8), 1024 * 1024) },
  { name: "READDIRPLUS", run: ({ nfs, wide }) => nfs.readdirplus(wide, 0, Buffer.alloc(8), 1024 * 1024, 1024 * 1024) },
  ...["FSSTAT", "FSINFO", "PATHCONF"].map((name, i): Step => {
    return {
      name,
      run: ({ nfs, root }) =>
        nfs.nfs(
          Proc.fsstat + i,
          encode((w) => w.opaque(root)),
        ),
    };
  }),
  ...["NULL", "MNT", "DUMP", "UMNT", "UMNTALL", "EXPORT"].map((name, i) =>
    call(
      `MOUNT ${name}`,
      i,
      { program: MOUNT },
      encode((w) => w.text("/data/walk-deep")),
    ),
  ),
  ...["NULL", "SET", "UNSET", "GETPORT", "DUMP"].map((name, i) =>
    call(`PORTMAP ${name}`, i, { program: PORTMAP, version: 2 }, Buffer.alloc(16)),
  ),
  ...["NULL", "STAT", "MON", "UNMON", "UNMON_ALL", "SIMU_CRASH"].map((name, i) =>
    call(
      `NSM ${name}`,
      i,
      { program: NSM, version: 1 },
      encode((w) => w.text("walker")),
    ),
  ),
  {
    name: "NLM TEST",
    prepare: (world) => locked(world, "walk-locked"),
    run: async (world) => world.nlm.test({ handle: await file(world, world.root, "walk-locked"), host: "other" }),
  },
  { name: "NLM GRANTED", run: ({ nlm, root }) => nlm.call(NlmProc.granted, testArgs({ handle: root })) },
  {
    name: "NLM CANCEL",
    run: async (world) => world.nlm.cancel({ handle: await file(world, world.root, "walk-locked"), host: "walker" }),
  },
  {
    name: "NLM LOCK of all",
    run: async (world) => world.nlm.lock({ handle: await file(world, world.root, "walk-locked"), host: "walker" }),
  },
  {
    name: "NLM UNLOCK of all",
    prepare: (world) => locked(world, "walk-locked"),
    run: async (world) => world.nlm.unlock({ handle: await file(world, world.root, "walk-locked"), host: "walker" }),
  },
  {
    name: "NLM SHARE and UNSHARE",
    run: async (world) => {
      const lock = { handle: world.files[0]!, host: "walker" };
      await world.nlm.share(lock, 3, 3);
      await world.nlm.unshare(lock);
    },
  },
  { name: "NLM FREE_ALL", prepare: (world) => locked(world, "walk-locked"), run: ({ nlm }) => nlm.freeAll("walker") },
  {
    name: "NSM NOTIFY",
    prepare: (world) => locked(world, "walk-locked"),
    run: ({ nfs }) => nfs.call(6, notifyArgs("walker", Date.now() % 2 ** 31), { program: NSM, version: 1 }),
  },
  {
    name: "REMOVE of a locked file",
    prepare: (world) => locked(world, "walk-locked"),
    run: ({ nfs, root }) => nfs.remove(root, "walk-locked"),
  },
  ...[
    "status",
    "disks",
    "groups",
    "lus",
    "file-systems",
    "exports",
    "events?last=4096",
    "lu-locks",
    "file-systems/data/files",
  ].map((path) => get(`/v1/${path}`)),
  {
    name: "GET /v1/locks",
    prepare: (world) => locked(world, "walk-locked"),
    run: (_world, target) => target.get("/v1/locks"),
  },
  get("/metrics"),
  { name: "fs check", run: (_world, target) => target.post("/v1/file-systems/data/check", {}) },
  { name: "locks released", run: (_world, target) => target.post("/v1/locks/release", { host: "walker" }) },
];

const worlds = new WeakMap<Target, Promise<World>>();
const CLASSES = ["0.2", "0.1", "0.05", "0.02", "0.01", "0.005"] as const;

/** How many pieces were longer than each class, the highest first. */
async function pieces(target: Target): Promise<number[]> {
  const found: number[] = [];
  for (const over of CLASSES) found.push((await target.metric(`event_loop_delays_total{over="${over}"}`)) ?? 0);
  return found;
}

/** Every call of every program with much prepared, one after the other: which of them holds the event loop longest? */
export const walk: Scenario = {
  name: "walk",
  async run(context) {
    const { target, random } = context;
    const building = worlds.get(target) ?? build(context);
    worlds.set(target, building);
    const world = await building;
    const longest = new Map<string, string[]>();
    let count = 0;
    const start = random.below(STEPS.length);
    for (let i = 0; i < STEPS.length && (!overTime(context) || count < 4); i++) {
      const { name, prepare, run } = STEPS[(start + i) % STEPS.length]!;
      await prepare?.(world);
      const before = await pieces(target);
      await run(world, target);
      const after = await pieces(target);
      const at = after.findIndex((n, k) => n > before[k]!);
      if (at >= 0) longest.set(CLASSES[at]!, [...(longest.get(CLASSES[at]!) ?? []), name]);
      count++;
    }
    const [worst] = CLASSES.filter((over) => longest.has(over));
    context.note(
      `${count} kinds of call from "${STEPS[start]!.name}" on${worst === undefined ? "" : `; longest, above ${Number(worst) * 1000} ms: ${longest.get(worst)!.join(", ")}`}`,
    );
  },
};
