import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SILENT } from "../../../src/lib/log.js";
import { ExportTable } from "../../../src/protocol/exports.js";
import type { ReplyCache } from "../../../src/protocol/rpc/reply-cache.js";
import { NfsServer, newReplyCache } from "../../../src/protocol/server.js";
import { MemoryFileSystem } from "../../support/memory-file-system.js";
import { diropArgs, encode, NfsClient, Proc, writeSattr, writeTime, writeU64 } from "../../support/nfs-client.js";
import { pattern, RW } from "./fixture.js";

/** The server and the whole file system under it, which can crash; a client that says each request's xid itself. */
class Life {
  readonly #clients: NfsClient[] = [];
  #server!: NfsServer;
  replyCache!: ReplyCache;
  port = 0;

  constructor(readonly storage: MemoryFileSystem) {}

  static async begin(t: TestContext): Promise<Life> {
    const life = new Life(await MemoryFileSystem.open());
    await life.#serve();
    t.after(async () => {
      await life.#stop();
      await life.storage.end();
    });
    return life;
  }

  async connect(): Promise<NfsClient> {
    const client = await NfsClient.connect(this.port);
    this.#clients.push(client);
    return client;
  }

  /** The power fails now; another server, which remembers nothing, serves what is on the LUs. */
  async crash(): Promise<NfsClient> {
    const halt = () => "halt" as const;
    this.storage.data.beforeOperation = halt;
    this.storage.metadata.beforeOperation = halt;
    await this.#stop();
    await this.storage.crash();
    await this.#serve();
    return await this.connect();
  }

  /** A clean end, as before a planned takeover. */
  async remount(): Promise<NfsClient> {
    await this.#stop();
    await this.storage.remount();
    await this.#serve();
    return await this.connect();
  }

  async #serve(): Promise<void> {
    const { clock, fs } = this.storage;
    const exports = new ExportTable();
    this.replyCache = newReplyCache(clock);
    this.replyCache.adopt(fs.id, fs.takeKeptReplies());
    exports.add({ path: "/data", fileSystem: fs, rules: [RW] });
    this.#server = new NfsServer({ exports, clock, log: SILENT, replyCache: this.replyCache });
    this.port = (await this.#server.listen({ host: "127.0.0.1", port: 0 })).port;
  }

  async #stop(): Promise<void> {
    for (const client of this.#clients.splice(0)) await client.close();
    await this.#server.close({ drainMs: 10 });
  }
}

interface Request {
  readonly procedure: number;
  readonly args: Buffer;
  readonly xid: number;
}

/** Status and body as they came. */
async function send(client: NfsClient, { procedure, args, xid }: Request): Promise<Buffer> {
  const { body } = await client.call(procedure, args, { xid });
  return Buffer.from(body.fixed(body.remaining));
}

function statusOf(reply: Buffer): number {
  return reply.readUInt32BE(0);
}

function createArgs(directory: Buffer, name: string, how: "guarded" | "exclusive"): Buffer {
  return encode((w) => {
    w.fixed(diropArgs(directory, name));
    w.u32(how === "guarded" ? 1 : 2);
    if (how === "guarded") writeSattr(w, { mode: 0o644 });
    else w.fixed(Buffer.from("verifier"));
  });
}

function writeArgs(file: Buffer, offset: number, data: Buffer, stable: 0 | 2): Buffer {
  return encode((w) => {
    w.opaque(file);
    writeU64(w, offset);
    w.u32(data.length);
    w.u32(stable);
    w.opaque(data);
  });
}

/** One of everything whose repetition would go wrong, in an order in which each succeeds once; and what fails. */
async function requests(client: NfsClient, root: Buffer): Promise<{ all: Request[]; failing: Request }> {
  const { handle: file, attributes } = await client.create(root, "file");
  await client.create(root, "gone");
  await client.create(root, "old");
  await client.mkdir(root, "empty");
  const named = (name: string, rest: (w: Parameters<Parameters<typeof encode>[0]>[0]) => void) =>
    encode((w) => {
      w.fixed(diropArgs(root, name));
      rest(w);
    });
  const guarded = encode((w) => {
    w.opaque(file);
    writeSattr(w, { mode: 0o600 });
    w.bool(true);
    writeTime(w, attributes!.ctime);
  });
  const bodies: [number, Buffer][] = [
    [Proc.setattr, guarded],
    [Proc.create, createArgs(root, "guarded", "guarded")],
    [Proc.create, createArgs(root, "exclusive", "exclusive")],
    [Proc.mkdir, named("directory", (w) => writeSattr(w, {}))],
    [
      Proc.symlink,
      named("symlink", (w) => {
        writeSattr(w, {});
        w.text("target");
      }),
    ],
    [
      Proc.mknod,
      named("fifo", (w) => {
        w.u32(7);
        writeSattr(w, {});
      }),
    ],
    [
      Proc.link,
      encode((w) => {
        w.opaque(file);
        w.fixed(diropArgs(root, "link"));
      }),
    ],
    [Proc.rename, Buffer.concat([diropArgs(root, "old"), diropArgs(root, "new")])],
    [Proc.remove, diropArgs(root, "gone")],
    [Proc.rmdir, diropArgs(root, "empty")],
    [Proc.write, writeArgs(file, 0, pattern(5000), 2)],
    [Proc.write, writeArgs(file, 8192, pattern(100_000), 2)],
  ];
  const all = bodies.map(([procedure, args], i) => ({ procedure, args, xid: 7000 + i }));
  return { all, failing: { procedure: Proc.remove, args: diropArgs(root, "never"), xid: 7999 } };
}

test("exactly once: every call that is sent again gets its first answer, also after a crash from a server that knew nothing", async (t) => {
  const life = await Life.begin(t);
  const client = await life.connect();
  const { handle: root } = await client.mount("/data");
  const { all, failing } = await requests(client, root);
  const first: Buffer[] = [];
  for (const request of all) first.push(await send(client, request));
  for (const [i, reply] of first.entries()) assert.equal(statusOf(reply), 0, `request ${i} succeeds`);
  const refused = await send(client, failing);
  assert.equal(statusOf(refused), 2);

  const repeat = async (how: string, by: NfsClient) => {
    for (const [i, request] of all.entries())
      assert.deepEqual(await send(by, request), first[i], `${how}, request ${i}`);
  };
  await repeat("same connection", client);
  await repeat("another connection", await life.connect());
  // The name that was not there is there now; its answer went with that commit.
  await client.create(root, "never");
  await repeat("after a crash", await life.crash());
  const again = await life.crash();
  await repeat("after another crash", again);
  assert.deepEqual(await send(again, failing), refused, "a failure too is answered as the first time");
  assert.equal((await again.lookup(root, "never")).status, 0, "and nothing was removed");
  await repeat("after a clean restart", await life.remount());
  assert.deepEqual(
    (await life.storage.fs.check({ data: true })).faults,
    [],
    "and the file system is consistent with its replies in it",
  );
});

test("exactly once: calls that no answer came for before the crash are done once, whether they had been applied or not", async (t) => {
  const life = await Life.begin(t);
  let client = await life.connect();
  const { handle: root } = await client.mount("/data");
  for (let round = 0; round < 6; round++) {
    const burst: Request[] = [];
    for (let i = 0; i < 40; i++) {
      const name = `r${round}-${i}`;
      burst.push({ procedure: Proc.create, args: createArgs(root, name, "guarded"), xid: 10_000 * (round + 1) + i });
    }
    const answered = new Map<number, Buffer>();
    const sent = burst.map((request) =>
      send(client, request).then(
        (reply) => answered.set(request.xid, reply),
        () => {},
      ),
    );
    // So many answers, and the power fails.
    while (answered.size < round * 5) await Promise.race(sent.filter((_, i) => !answered.has(burst[i]!.xid)));
    client = await life.crash();
    for (const request of burst) {
      const reply = await send(client, request);
      assert.equal(statusOf(reply), 0, "neither EEXIST nor anything else");
      const before = answered.get(request.xid);
      if (before !== undefined) assert.deepEqual(reply, before);
    }
  }
});

test("exactly once: a late repetition of a WRITE does not undo a later one, and an unstable one counts once it is committed", async (t) => {
  const life = await Life.begin(t);
  const client = await life.connect();
  const { handle: root } = await client.mount("/data");
  const { handle: file } = await client.create(root, "file");
  const early = { procedure: Proc.write, args: writeArgs(file, 0, Buffer.alloc(8192, "a"), 2), xid: 1 };
  const unstable = { procedure: Proc.write, args: writeArgs(file, 8192, Buffer.alloc(8192, "c"), 0), xid: 3 };
  const first = [await send(client, early), await send(client, unstable)];
  await client.write(file, 0, Buffer.alloc(16384, "b"));
  const after = await life.crash();
  assert.deepEqual([await send(after, early), await send(after, unstable)], first);
  const { data } = await after.read(file, 0, 16384);
  assert.deepEqual(data, Buffer.alloc(16384, "b"));
});

test("exactly once: other arguments, another client or another procedure with the same xid are other calls", async (t) => {
  const life = await Life.begin(t);
  const client = await life.connect();
  const { handle: root } = await client.mount("/data");
  const { handle: file } = await client.create(root, "file");
  const large = pattern(100_000);
  assert.equal(statusOf(await send(client, { procedure: Proc.write, args: writeArgs(file, 0, large, 2), xid: 5 })), 0);
  const after = await life.crash();
  large[99_999]! ^= 1;
  await send(after, { procedure: Proc.write, args: writeArgs(file, 0, large, 2), xid: 5 });
  assert.deepEqual((await after.read(file, 0, 100_000)).data, large);
  const args = encode((w) => {
    w.fixed(diropArgs(root, "x"));
    writeSattr(w, {});
  });
  assert.equal(statusOf(await send(after, { procedure: Proc.mkdir, args, xid: 5 })), 0);
});

test("exactly once: another user of the same host with the same xid and arguments is not answered as the first", async (t) => {
  const life = await Life.begin(t);
  const client = await life.connect();
  const { handle: root } = await client.mount("/data");
  const { handle } = await client.mkdir(root, "private", { mode: 0o700, uid: 1000, gid: 1000 });
  const request = { procedure: Proc.create, args: createArgs(handle, "secret", "guarded"), xid: 4711 };
  client.auth = { uid: 1000, gid: 1000, groups: [] };
  const first = await send(client, request);
  assert.equal(statusOf(first), 0);
  for (const auth of [{ uid: 1001, gid: 1001, groups: [] }, { uid: 1001, gid: 1000, groups: [] }, null]) {
    client.auth = auth;
    assert.equal(statusOf(await send(client, request)), 13);
  }
  // Also by the partner, who has only what was kept.
  const after = await life.crash();
  after.auth = { uid: 1001, gid: 1001, groups: [] };
  assert.equal(statusOf(await send(after, request)), 13);
  after.auth = { uid: 1000, gid: 1000, groups: [] };
  assert.deepEqual(await send(after, request), first);
});

test("exactly once: writes that differ in one byte anywhere are two writes, and the same bytes are one, also after a crash", async (t) => {
  const life = await Life.begin(t);
  let client = await life.connect();
  const { handle: root } = await client.mount("/data");
  const file = (await client.create(root, "file")).handle!;
  for (const [offset, byteCount] of [
    [0, 65_536],
    [100, 200_001],
  ] as const) {
    const data = pattern(byteCount);
    const xid = 99;
    const first = await send(client, { procedure: Proc.write, args: writeArgs(file, offset, data, 2), xid });
    for (const at of [0, 8_191, 8_192, 20_000, byteCount >> 1, byteCount - 8_193, byteCount - 1]) {
      data[at]! ^= 1;
      const args = writeArgs(file, offset, data, 2);
      assert.equal(statusOf(await send(client, { procedure: Proc.write, args, xid })), 0);
      assert.ok((await client.read(file, offset, byteCount)).data.equals(data.subarray(0, byteCount)), `byte ${at}`);
      data[at]! ^= 1;
    }
    await client.write(file, offset, Buffer.from("newer"));
    client = await life.crash();
    const again = await send(client, { procedure: Proc.write, args: writeArgs(file, offset, data, 2), xid });
    assert.deepEqual(again, first);
    assert.equal((await client.read(file, offset, 5)).data.toString(), "newer");
  }
});
