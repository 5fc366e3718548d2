import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import type { FileLockRow, LuLockRow } from "../../src/control/types.js";
import { encode, MOUNT, PORTMAP, Proc } from "../support/nfs-client.js";
import { type LockArgs, lockArgs, NLM, NlmProc, NlmStat, readResult, sendDatagram } from "../support/nlm-client.js";
import { Pair } from "../support/pair.js";
import { takePortmap } from "../support/portmap-port.js";
import { RetryClient } from "../support/retry-client.js";
import { Rig } from "../support/rig.js";
import { cli } from "./cli.js";

/** Ours: nobody has a port mapper there. Another rig's at 127.0.0.1 would name its own lock manager, which refuses what is granted to us. */
const ADDRESS = "127.0.0.9";

/** The handle of a new file in the root of /data. */
async function newFile(client: RetryClient, name: string): Promise<Buffer> {
  const mounted = await client.call(
    1,
    encode((w) => w.text("/data")),
    { program: MOUNT },
  );
  assert.equal(mounted.u32(), 0);
  const root = Buffer.from(mounted.opaque(64));
  const created = await client.call(
    Proc.create,
    encode((w) => {
      w.opaque(root);
      w.text(name);
      for (const word of [0, 0, 0, 0, 0, 0, 0]) w.u32(word);
    }),
  );
  assert.deepEqual([created.u32(), created.u32()], [0, 1]);
  return Buffer.from(created.opaque(64));
}

test("locks: over a takeover, in the tables of the command line, and released by an administrator", async (t) => {
  const rig = await Rig.up({ disks: 4, diskSize: "256M", more: ["--nodes", "2"] });
  t.after(() => rig.remove());
  const pair = new Pair(rig);
  await pair.whole();
  const { host, nfsPort } = rig.description.service;
  const client = new RetryClient(host, nfsPort, 1, ADDRESS);
  const handle = await newFile(client, "ledger");
  const lock = async (args: Omit<LockArgs, "handle">) => {
    const results = await client.call(NlmProc.lock, lockArgs({ handle, ...args }), { program: NLM, version: 4 });
    return readResult(results).status;
  };
  assert.equal(await lock({ host: "alpha", svid: 42, offset: 100n, length: 50n }), NlmStat.granted);
  assert.equal(await lock({ host: "beta", svid: 7, exclusive: false, block: true }), NlmStat.blocked);
  const list = async () => (await rig.json(["lock", "list"])) as FileLockRow[];
  const common = { fileSystem: "data", name: "/ledger", address: ADDRESS };
  const expected = [
    { ...common, state: "held", host: "alpha", pid: 42, kind: "exclusive", first: "100", last: "149" },
    { ...common, state: "waiting", host: "beta", pid: 7, kind: "shared", first: "0", last: null },
  ];
  assert.deepEqual(await list(), expected);
  const luLocks = async () => ((await rig.json(["lock", "list", "--lu"])) as LuLockRow[]).map((row) => row.node);
  const [before] = await luLocks();

  await pair.kill(await pair.activePid());
  assert.equal(await lock({ host: "gamma", offset: 120n, length: 1n }), NlmStat.denied);
  assert.deepEqual(await list(), expected);
  const after = await luLocks();
  assert.ok(after.length === 2 && after.every((node) => node !== null && node !== before), `${before}, ${after}`);

  assert.match(
    await rig.ok(["lock", "list"]),
    /^FILE NAME +LOCKING STATE .*\n\/ledger +LOCKED +exclusive +100–149 +alpha +127\.0\.0\.9 +42 /,
  );
  assert.match(await rig.ok(["lock", "list", "--lu"]), /^LU NAME +LOCKING STATE .*\ndata[. ].*LOCKED BY chn\d/);
  const released = await rig.ok(["lock", "release", "--host", "alpha"]);
  assert.equal(released, "client alpha: 1 locks, 0 waiting requests and 0 share reservations released\n");
  assert.equal(await rig.ok(["lock", "release", "--host", "alpha"]), "client alpha has no locks\n");
  const states = (await list()).map((row) => `${row.state} ${row.host}`);
  assert.ok(states.includes("held beta"), `${states}`);
  assert.match(await rig.ok(["fs", "check", "data"]), /clean/);
  client.close();
});

test("nfs: { portmap: true }: a port 111 that is taken is said clearly", async (t) => {
  const taken = await takePortmap();
  if (typeof taken === "string") return t.skip(taken);
  t.after(() => taken.close());
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-portmap-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "s.yaml");
  const base = { disks: [], "state-directory": "state", management: { socket: path.join(folder, "s.sock") } };
  writeFileSync(file, JSON.stringify({ ...base, nfs: { host: "127.0.0.1", port: 0, portmap: true } }));
  const { status, stderr } = await cli("serve", "--config", file);
  assert.equal(status, 1);
  assert.match(
    stderr,
    /the port mapper cannot listen on 127\.0\.0\.1 port 111: another program has the port .*rpcbind/,
  );
  assert.equal(
    await sendDatagram(
      111,
      encode((w) => w.u32(PORTMAP)),
      100,
    ).catch(() => null),
    null,
  );
});
