import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SystemClock } from "../../../src/lib/clock.js";
import { SILENT } from "../../../src/lib/log.js";
import { ExportTable } from "../../../src/protocol/exports.js";
import { RpcClient } from "../../../src/protocol/rpc/client.js";
import { NfsServer, newReplyCache } from "../../../src/protocol/server.js";
import { FakeLockManager } from "../../support/lock-manager.js";
import { MemoryFileSystem } from "../../support/memory-file-system.js";
import { NfsClient } from "../../support/nfs-client.js";
import { lockArgs, NLM, NlmClient, NlmProc, NlmStat, readResult, unlockArgs } from "../../support/nlm-client.js";
import { RW } from "./fixture.js";

const A = { host: "alpha" };
const B = { host: "beta" };

/** The server over a whole file system that can crash, and a client with its lock manager. */
class Life {
  client!: NfsClient;
  nlm!: NlmClient;
  handle: Buffer = Buffer.alloc(0);
  #server!: NfsServer;

  private constructor(
    readonly storage: MemoryFileSystem,
    readonly manager: FakeLockManager,
  ) {}

  static async begin(t: TestContext): Promise<Life> {
    const life = new Life(await MemoryFileSystem.open(), await FakeLockManager.start(t));
    t.after(async () => {
      await life.#stop();
      await life.storage.end();
    });
    await life.#serve();
    const { handle: root } = await life.client.mount("/data");
    life.handle = Buffer.from((await life.client.create(root, "file")).handle!);
    return life;
  }

  /** The power fails now; a server that remembers nothing serves what is on the LUs. */
  async crash(): Promise<void> {
    const halt = () => "halt" as const;
    this.storage.data.beforeOperation = halt;
    this.storage.metadata.beforeOperation = halt;
    await this.#stop();
    await this.storage.crash();
    await this.#serve();
  }

  states(): string[] {
    return this.storage.fs.locks
      .list()
      .map(({ state, owner }) => `${state} ${owner.host}`)
      .sort();
  }

  async #serve(): Promise<void> {
    const clock = new SystemClock();
    const exports = new ExportTable();
    const replyCache = newReplyCache(clock);
    replyCache.adopt(this.storage.fs.id, this.storage.fs.takeKeptReplies());
    exports.add({ path: "/data", fileSystem: this.storage.fs, rules: [RW] });
    const callback = new RpcClient({ clock, portmapPort: this.manager.port, callMsMax: 500 });
    this.#server = new NfsServer({ exports, clock, log: SILENT, replyCache, callback });
    const { port } = await this.#server.listen({ host: "127.0.0.1", port: 0 });
    this.client = await NfsClient.connect(port);
    this.nlm = new NlmClient(this.client);
  }

  async #stop(): Promise<void> {
    await this.client.close();
    await this.#server.close({ drainMs: 10 });
  }
}

test("a crash keeps locks and requests that wait; the client is told by the server that comes up", async (t) => {
  const life = await Life.begin(t);
  const { handle, manager } = life;
  assert.equal(await life.nlm.lock({ handle, ...A }), NlmStat.granted);
  assert.equal(await life.nlm.lock({ handle, ...B, offset: 2n ** 63n, block: true }), NlmStat.blocked);
  await life.crash();
  assert.deepEqual(life.states(), ["held alpha", "waiting beta"]);
  assert.equal(await life.nlm.lock({ handle, ...B, svid: 2 }), NlmStat.denied);
  assert.equal(await life.nlm.lock({ handle, ...A, reclaim: true }), NlmStat.granted, "reclaiming finds what is there");
  await life.nlm.unlock({ handle, ...A });
  const { granted } = await manager.next(NlmProc.granted);
  assert.deepEqual([granted?.oh, granted?.offset, granted?.handle], ["1@beta", 2n ** 63n, handle]);
});

test("a grant that was not confirmed before a crash is told after it", async (t) => {
  const life = await Life.begin(t);
  const { handle, manager } = life;
  manager.answer = null;
  await life.nlm.lock({ handle, ...A });
  await life.nlm.lock({ handle, ...B, block: true });
  await life.nlm.unlock({ handle, ...A });
  await manager.next(NlmProc.granted);
  await life.crash();
  assert.deepEqual(life.states(), ["held beta", "offered beta"]);
  const before = manager.received.length;
  manager.answer = NlmStat.granted;
  await manager.next(NlmProc.granted, before);
  for (let i = 0; i < 200 && life.states().length > 1; i++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(life.states(), ["held beta"]);
});

test("calls that are repeated after a crash are answered as before it, and not done again", async (t) => {
  const life = await Life.begin(t);
  const { handle } = life;
  const calls = [
    { xid: 501, procedure: NlmProc.lock, args: lockArgs({ handle, ...A }), status: NlmStat.granted },
    { xid: 502, procedure: NlmProc.lock, args: lockArgs({ handle, ...B, block: true }), status: NlmStat.blocked },
    { xid: 503, procedure: NlmProc.nmLock, args: lockArgs({ handle, host: "gamma" }), status: NlmStat.denied },
    { xid: 504, procedure: NlmProc.unlock, args: unlockArgs({ handle, ...A }), status: NlmStat.granted },
  ];
  const all = async () => {
    for (const { xid, procedure, args, status } of calls) {
      const { body } = await life.client.call(procedure, args, { program: NLM, version: 4, xid });
      assert.equal(readResult(body).status, status, `xid ${xid}`);
    }
  };
  await all();
  await life.nlm.lock({ handle, host: "delta", block: true });
  const before = life.states();
  await life.crash();
  await all();
  // Done again, alpha would wait, and its unlocking would not.
  assert.deepEqual(life.states(), before);
});
