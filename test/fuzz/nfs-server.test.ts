import assert from "node:assert/strict";
import { test } from "node:test";
import { SystemClock } from "../../src/lib/clock.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { ExportTable } from "../../src/protocol/exports.js";
import { RpcClient } from "../../src/protocol/rpc/client.js";
import { NfsServer } from "../../src/protocol/server.js";
import { MemoryFileSystem } from "../support/memory-fs.js";
import { encode, encodeCall, frame, MOUNT, NfsClient, PORTMAP, Proc, writeSattr } from "../support/nfs-client.js";
import {
  cancelArgs,
  lockArgs,
  NLM,
  NlmProc,
  NSM,
  notifyArgs,
  shareArgs,
  testArgs,
  unlockArgs,
} from "../support/nlm-client.js";

/**
 * Valid calls of every procedure, mutated: the server answers each or closes the connection, says nothing unexpected, stays alive and does
 * not grow. `STRIPEWARD_FUZZ_SEED` and `STRIPEWARD_FUZZ_MS` repeat or lengthen a run. The canary plants a bug that the same loop must find.
 */
const SEED = Number(process.env.STRIPEWARD_FUZZ_SEED ?? 20240229);
const DURATION_MS = Number(process.env.STRIPEWARD_FUZZ_MS ?? 6000);
const BATCH = 24;

interface Outcome {
  calls: number;
  answered: number;
  closed: number;
  problems: string[];
}

/** Records (without mark) of well-formed calls; the handle and names are real. */
function corpus(root: Buffer, file: Buffer): Buffer[] {
  const name = (text: string) => encode((w) => w.text(text));
  const handle = (h: Buffer) => encode((w) => w.opaque(h));
  const words = (...values: number[]) =>
    encode((w) => {
      for (const value of values) w.u32(value);
    });
  const sattr = encode((w) => writeSattr(w, { mode: 0o644, size: 10, mtime: "now" }));
  const join = (...parts: Buffer[]) => Buffer.concat(parts);
  const calls: [number, Buffer][] = [
    [Proc.null, Buffer.alloc(0)],
    [Proc.getattr, handle(file)],
    [Proc.setattr, join(handle(file), sattr, words(0))],
    [Proc.lookup, join(handle(root), name("file"))],
    [Proc.access, join(handle(root), words(63))],
    [Proc.readlink, handle(file)],
    [Proc.read, join(handle(file), words(0, 0, 5000))],
    [Proc.read, join(handle(file), words(0, 0, 60000))],
    [Proc.write, join(handle(file), words(0, 0, 8, 2), name("12345678"))],
    [Proc.create, join(handle(root), name("a"), words(0), sattr)],
    [Proc.create, join(handle(root), name("b"), words(2, 1, 2))],
    [Proc.mkdir, join(handle(root), name("dir"), sattr)],
    [Proc.symlink, join(handle(root), name("l"), sattr, name("target"))],
    [Proc.mknod, join(handle(root), name("n"), words(4), sattr, words(1, 2))],
    [Proc.remove, join(handle(root), name("a"))],
    [Proc.rmdir, join(handle(root), name("dir"))],
    [Proc.rename, join(handle(root), name("b"), handle(root), name("c"))],
    [Proc.link, join(handle(file), handle(root), name("hard"))],
    [Proc.readdir, join(handle(root), words(0, 0, 0, 0, 4096))],
    [Proc.readdirplus, join(handle(root), words(0, 0, 0, 0, 4096, 8192))],
    [Proc.fsstat, handle(root)],
    [Proc.fsinfo, handle(root)],
    [Proc.pathconf, handle(root)],
    [Proc.commit, join(handle(file), words(0, 0, 0))],
  ];
  const nfs = calls.map(([procedure, args]) => encodeCall(0, procedure, args));
  const mount = [1, 2, 3, 5].map((procedure) => encodeCall(0, procedure, name("/data"), { program: MOUNT }));
  const portmap = [3, 4].map((procedure) =>
    encodeCall(0, procedure, words(100003, 3, 6, 0), { program: PORTMAP, version: 2 }),
  );
  return [...nfs, ...mount, ...portmap, ...lockCalls(file)];
}

/** Every procedure of the lock manager and the status monitor that takes arguments. */
function lockCalls(file: Buffer): Buffer[] {
  const [mine, other] = [
    { handle: file, offset: 3n, length: 9n },
    { handle: file, host: "other", block: true },
  ];
  const { test, lock, cancel, unlock, granted, testMsg, lockMsg, cancelMsg, unlockMsg, grantedMsg } = NlmProc;
  const calls: [number, Buffer][] = [
    ...[test, testMsg, granted, grantedMsg].map((procedure): [number, Buffer] => [procedure, testArgs(mine)]),
    ...[lock, lockMsg, NlmProc.nmLock].map((procedure): [number, Buffer] => [procedure, lockArgs(mine)]),
    ...[lock, lockMsg].map((procedure): [number, Buffer] => [procedure, lockArgs(other)]),
    ...[cancel, cancelMsg].map((procedure): [number, Buffer] => [procedure, cancelArgs(other)]),
    ...[unlock, unlockMsg].map((procedure): [number, Buffer] => [procedure, unlockArgs(mine)]),
    ...[NlmProc.share, NlmProc.unshare].map((procedure): [number, Buffer] => [procedure, shareArgs(mine, 1, 2)]),
    [
      NlmProc.grantedRes,
      encode((w) =>
        [0, 0].forEach((word) => {
          w.u32(word);
        }),
      ),
    ],
    [NlmProc.freeAll, notifyArgs("other", 3)],
  ];
  const nlm = calls.map(([procedure, args]) => encodeCall(0, procedure, args, { program: NLM, version: 4 }));
  return [...nlm, encodeCall(0, 6, notifyArgs("client", 5), { program: NSM, version: 1 })];
}

/** Change a call behind its xid and message type: some bytes, a word to an edge value, the length, or a copy of another part. */
function mutate(random: SeededRandom, call: Buffer): Buffer {
  let bytes = Buffer.from(call);
  for (let i = random.below(4); i >= 0; i--) {
    const at = 8 + random.below(Math.max(1, bytes.length - 8));
    const word = Math.min(at & ~3, bytes.length - 4);
    const edges = [0, 1, 3, 255, 256, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff];
    const kind = random.below(5);
    if (kind === 0) bytes[at] = random.next() & 255;
    else if (kind === 1) bytes.writeUInt32BE(edges[random.below(edges.length)] ?? 0, word);
    else if (kind === 2) bytes = bytes.subarray(0, Math.max(8, at));
    else if (kind === 3) bytes = Buffer.concat([bytes, Buffer.alloc(random.below(64), random.next() & 255)]);
    else bytes.copy(bytes, at, 8 + random.below(bytes.length - 8));
  }
  return bytes;
}

/** Now and then the framing itself is wrong. */
function frameOrNot(random: SeededRandom, record: Buffer): Buffer {
  const framed = frame(record);
  const kind = random.below(200);
  if (kind === 0) framed.writeUInt32BE(0xffffffff, 0);
  if (kind === 1) framed.writeUInt32BE(record.length, 0);
  if (kind === 2) framed[4 + random.below(8)] = random.next() & 255;
  return framed;
}

async function openServer(plantBug: boolean) {
  const fs = new MemoryFileSystem();
  const exports = new ExportTable();
  exports.add({
    path: "/data",
    fileSystem: fs,
    rules: [{ clients: "*", access: "rw", squash: "none", anonUid: 1, anonGid: 1, secure: false }],
  });
  const problems: string[] = [];
  const log = {
    error: (fields: object, what: string) => problems.push(`${what} ${JSON.stringify(fields)}`),
    warn: () => {},
    info: () => {},
    debug: () => {},
  };
  if (plantBug) {
    const access = fs.access.bind(fs);
    fs.access = (cred, id, wanted) => {
      if (wanted > 32) throw new RangeError("planted");
      return access(cred, id, wanted);
    };
  }
  const clock = new SystemClock();
  const exchange = () => Promise.reject(new Error("nobody is called back"));
  const server = new NfsServer({ exports, clock, log, callback: new RpcClient({ clock, dialer: { exchange } }) });
  const { port } = await server.listen({ host: "127.0.0.1", port: 0 });
  const client = await NfsClient.connect(port);
  const { handle: root } = await client.mount("/data");
  const { handle: file } = await client.create(root, "file");
  await client.write(file, 0, Buffer.alloc(70000, 1));
  return { server, port, client, root, file, problems };
}

type Opened = Awaited<ReturnType<typeof openServer>>;

/** Send one batch on a connection of its own; every call is answered, or the connection closes. */
async function oneBatch(
  opened: Opened,
  random: SeededRandom,
  calls: readonly Buffer[],
  outcome: Outcome,
): Promise<void> {
  const client = await NfsClient.connect(opened.port);
  const answers: Promise<string>[] = [];
  const frames: Buffer[] = [];
  for (let i = 0; i < BATCH; i++) {
    const record = mutate(random, calls[random.below(calls.length)] ?? Buffer.alloc(8));
    const xid = client.nextXid();
    record.writeUInt32BE(xid, 0);
    const framed = frameOrNot(random, record);
    frames.push(framed);
    const intact = framed.subarray(4).equals(record) && framed[0] === 0x80;
    if (!intact) break;
    answers.push(
      client.reply(xid, 3000).then(
        () => "answered",
        (error: Error) => error.message,
      ),
    );
  }
  client.send(Buffer.concat(frames));
  outcome.calls += frames.length;
  for (const answer of await Promise.all(answers)) {
    if (answer === "answered") outcome.answered++;
    else if (answer === "connection closed") outcome.closed++;
    else outcome.problems.push(answer);
  }
  await client.close();
}

async function fuzz(seed: number, durationMs: number, plantBug: boolean): Promise<Outcome> {
  const opened = await openServer(plantBug);
  const outcome: Outcome = { calls: 0, answered: 0, closed: 0, problems: opened.problems };
  const random = new SeededRandom(seed);
  const calls = corpus(opened.root, opened.file);
  const endMs = performance.now() + durationMs;
  while (performance.now() < endMs && outcome.problems.length === 0) await oneBatch(opened, random, calls, outcome);
  const { status } = await opened.client.getattr(opened.root);
  if (status !== 0) outcome.problems.push(`the root answers ${status} at the end`);
  await opened.client.close();
  await opened.server.close({ drainMs: 500 });
  return outcome;
}

test(`fuzz: mutated calls are answered or close the connection (seed ${SEED})`, async (t) => {
  await fuzz(SEED + 1, 300, false);
  const before = process.memoryUsage().arrayBuffers;
  const outcome = await fuzz(SEED, DURATION_MS, false);
  t.diagnostic(JSON.stringify({ seed: SEED, ...outcome }));
  assert.deepEqual(outcome.problems, []);
  assert.ok(outcome.answered > 1000, "most calls are answered");
  assert.ok(process.memoryUsage().arrayBuffers - before < 96 * 1024 * 1024, "memory is bounded");
});

test("fuzz: the canary, a planted bug, is found", async () => {
  const outcome = await fuzz(SEED, 10000, true);
  assert.ok(outcome.problems.some((problem) => problem.includes("planted")));
});
