/**
 * The Linux kernel's NFSv3 client locks without `nolock`: it finds NLM by the server's port mapper and asks its own status monitor to watch the
 * server. The guest's lock manager is reached by a forwarded port, so that the server's calls get through as over a network; when they do
 * not, a process that waits gets its lock when the kernel asks again, after 30 seconds. Needs port 111 of 127.0.0.1.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { freePort } from "../../src/cli/rig/free-port.js";
import { SystemClock } from "../../src/lib/clock.js";
import { SILENT } from "../../src/lib/log.js";
import { ExportTable } from "../../src/protocol/exports.js";
import { type Dialer, type Place, RpcClient, SystemDialer } from "../../src/protocol/rpc/client.js";
import { NfsServer } from "../../src/protocol/server.js";
import { GuestMonitor } from "../support/guest-monitor.js";
import { MemoryFileSystem } from "../support/memory-file-system.js";
import { encode, NfsClient } from "../support/nfs-client.js";
import { NlmClient, NlmStat } from "../support/nlm-client.js";
import { skipWithout } from "../support/packages.js";
import { PORTMAP_PORT, portmapTaken } from "../support/portmap-port.js";
import { Vm } from "../support/vm.js";

/** Where the guest's lock manager listens. */
const GUEST_NLM_PORT = 4045;

/** Calls to the guest: its port mapper is played, its lock manager is the real one behind a forwarded port. */
class GuestDialer implements Dialer {
  /** Nothing gets through. */
  isCut = false;
  readonly #system = new SystemDialer();

  constructor(private readonly forwarded: number) {}

  async exchange(
    transport: "tcp" | "udp",
    place: Place,
    message: Buffer,
    xid: number,
    timeMs: number,
  ): Promise<Buffer> {
    if (this.isCut) throw new Error("no way to the guest");
    if (place.port !== PORTMAP_PORT) return this.#system.exchange(transport, place, message, xid, timeMs);
    return encode((w) => {
      for (const word of [xid, 1, 0, 0, 0, 0, this.forwarded]) w.u32(word);
    });
  }
}

const skip =
  skipWithout("qemu-system-x86", "busybox-static", "gcc", "libc6-dev", "linux-image-cloud-amd64") ||
  (await portmapTaken());

describe("locks of the Linux kernel's NFS client", { skip }, () => {
  let storage: MemoryFileSystem;
  let server: NfsServer;
  let port = 0;
  let monitor: GuestMonitor;
  let dialer: GuestDialer;
  let vm: Vm;
  let waits = 100;

  async function serve(): Promise<void> {
    const exports = new ExportTable();
    const rule = { clients: "*", access: "rw", squash: "none", anonUid: 65534, anonGid: 65534, secure: false } as const;
    exports.add({ path: "/data", fileSystem: storage.fs, rules: [rule] });
    const clock = new SystemClock();
    const callback = new RpcClient({ clock, dialer });
    server = new NfsServer({ exports, clock, log: SILENT, portmapPort: PORTMAP_PORT, callback });
    port = (await server.listen({ host: "127.0.0.1", port })).port;
  }

  before(
    async () => {
      const forwarded = await freePort();
      dialer = new GuestDialer(forwarded);
      storage = await MemoryFileSystem.open();
      await serve();
      monitor = await GuestMonitor.start();
      vm = await Vm.boot({ hostname: "locker", forward: { host: forwarded, guest: GUEST_NLM_PORT } });
      await vm.ok(`${monitor.relay}\necho ${GUEST_NLM_PORT} > /proc/sys/fs/nfs/nlm_tcpport`);
      const options = `vers=3,tcp,port=${port},mountport=${port},mountproto=tcp,addr=10.0.2.2,hard`;
      await vm.ok(`mkdir -p /mnt; guest mount 10.0.2.2:/data /mnt ${options}; echo text > /mnt/file`);
    },
    { timeout: 180_000 },
  );

  after(
    async () => {
      await vm?.stop();
      await monitor?.close();
      await server?.close({ drainMs: 100 });
      await storage?.end();
    },
    { timeout: 60_000 },
  );

  /** A script that must succeed; what it printed, line by line. */
  async function lines(script: string): Promise<string[]> {
    const output = await vm.ok(script, { timeoutMs: 90_000 });
    return output.split("\n").filter((line) => line !== "");
  }

  const held = () =>
    storage.fs.locks
      .list()
      .map(({ state, owner, first, last, exclusive }) => `${state} ${owner.host} ${first} ${last} ${exclusive}`);

  /** A lock manager of our own beside the guest, which locks /file too. */
  async function beside(): Promise<{ nlm: NlmClient; handle: Buffer; close: () => Promise<void> }> {
    const client = await NfsClient.connect(port);
    const { handle: root } = await client.mount("/data");
    const { handle } = await client.lookup(root, "file");
    return { nlm: new NlmClient(client), handle, close: () => client.close() };
  }

  test("fcntl: two processes of the guest, ranges, and what is left when a process ends", {
    timeout: 120_000,
  }, async () => {
    assert.deepEqual(
      await lines(`cd /mnt; guest lock file w 10 10 try 5 & sleep 1.5
        guest lock file w 15 1 try 0; guest lock file r 15 1 try 0; guest lock file w 20 5 try 0; guest lock file w 0 10 try 0
        wait; guest lock file w 15 1 try 0`),
      ["OK", "EAGAIN", "EAGAIN", "OK", "OK", "OK"],
    );
    assert.deepEqual(held(), []);
    assert.ok(monitor.registered.has(100021), "the kernel's lock manager has registered");
    assert.deepEqual(monitor.monitored.length > 0, true, "the kernel wants this server watched");
  });

  test("flock locks the whole file, against flock and fcntl", { timeout: 120_000 }, async () => {
    assert.deepEqual(
      await lines(`cd /mnt; guest flock file x try 4 & sleep 1.5
        guest flock file s try 0; guest flock file x try 0; guest lock file w 7 1 try 0; wait
        guest flock file s try 3 & sleep 1.5; guest flock file s try 0; guest flock file x try 0; wait`),
      ["OK", "EAGAIN", "EAGAIN", "EAGAIN", "OK", "OK", "EAGAIN"],
    );
  });

  test("the guest and another client see each other's locks, with their ranges", { timeout: 120_000 }, async () => {
    const { nlm, handle, close } = await beside();
    const other = { handle, host: "other", offset: 100n, length: 50n };
    assert.equal(await nlm.lock(other), NlmStat.granted);
    assert.deepEqual(
      await lines(`cd /mnt; guest getlk file r 120 0; guest getlk file w 0 100; guest lock file r 149 1 try 0
        guest lock file w 150 0 try 600 >/dev/null 2>&1 & echo $! > /tmp/holder; sleep 1.5`),
      ["w 100 50", "free", "EAGAIN"],
    );
    const { status, holder } = await nlm.test({ handle, host: "other", offset: 0n, length: 0n });
    assert.deepEqual([status, holder?.offset, holder?.length], [NlmStat.denied, 150n, 0n]);
    assert.equal(held().length, 2);
    assert.equal(await nlm.unlock(other), NlmStat.granted);
    await vm.ok("kill -9 $(cat /tmp/holder); sleep 1.5");
    assert.deepEqual(held(), [], "the locks of a process go with it");
    await close();
  });

  /** A process of the guest waits for another client's lock; one more waits and is killed. The other client then unlocks. */
  async function waitForLock(): Promise<number> {
    const { nlm, handle, close } = await beside();
    // Another process each time: the xids of a new connection begin again, and a call that was there before is a repetition.
    const other = { handle, host: "other", svid: ++waits };
    assert.equal(await nlm.lock(other), NlmStat.granted);
    await vm.ok("cd /mnt; (guest lock file w 0 1 wait 0; echo ended) >/tmp/waited 2>&1 & sleep 1.5");
    await vm.ok("cd /mnt; guest lock file w 5 1 wait 0 >/tmp/killed 2>&1 & p=$!; sleep 1.5; kill -9 $p; sleep 1.5");
    // The one that was killed has cancelled its request.
    assert.deepEqual(
      held().filter((row) => row.startsWith("waiting")),
      ["waiting locker 0 0 true"],
    );
    assert.equal(await nlm.unlock(other), NlmStat.granted);
    const startedMs = performance.now();
    await vm.ok("for i in $(seq 450); do grep -q ended /tmp/waited && exit; sleep 0.1; done; exit 1");
    const tookMs = performance.now() - startedMs;
    assert.deepEqual(await lines("cat /tmp/waited; cat /tmp/killed"), ["OK", "ended"]);
    assert.deepEqual(held(), []);
    await close();
    return tookMs;
  }

  test("a process that waits is told by the server as soon as the lock is free", { timeout: 120_000 }, async () => {
    const tookMs = await waitForLock();
    assert.ok(tookMs < 10_000, `${tookMs} ms`);
  });

  test("a process that the server cannot tell gets its lock when the kernel asks again", {
    timeout: 180_000,
  }, async () => {
    dialer.isCut = true;
    await waitForLock();
    dialer.isCut = false;
  });

  test("power fails: the guest's lock is still there, excludes others, and is given back", {
    timeout: 180_000,
  }, async () => {
    await vm.ok("cd /mnt; guest lock file w 0 0 try 600 >/dev/null 2>&1 & echo $! > /tmp/holder; sleep 1.5");
    assert.equal(held().length, 1);
    const before = held();
    await server.close({ drainMs: 0 });
    await storage.crash();
    await serve();
    assert.deepEqual(held(), before);
    const { nlm, handle, close } = await beside();
    assert.equal(await nlm.lock({ handle, host: "other" }), NlmStat.denied);
    await vm.ok("kill -9 $(cat /tmp/holder); sleep 3");
    assert.deepEqual(held(), []);
    assert.equal(await nlm.lock({ handle, host: "other" }), NlmStat.granted);
    assert.equal(await nlm.unlock({ handle, host: "other" }), NlmStat.granted);
    await close();
  });
});
