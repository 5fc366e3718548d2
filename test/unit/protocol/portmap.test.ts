import assert from "node:assert/strict";
import { test } from "node:test";
import { StorageError } from "../../../src/lib/errors.js";
import { registerWithRpcbind } from "../../../src/protocol/portmap/register.js";
import { encode, MOUNT, NFS, PORTMAP } from "../../support/nfs-client.js";
import { openRig } from "./fixture.js";

const NOTHING = Buffer.alloc(0);
const words = (...values: number[]) =>
  encode((w) => {
    for (const value of values) w.u32(value);
  });

test("portmap v2: GETPORT, DUMP, and no registration from outside", async (t) => {
  const { client, port } = await openRig(t);
  const ask = async (procedure: number, ...args: number[]) => {
    const { body } = await client.call(procedure, words(...args), { program: PORTMAP, version: 2 });
    return body.u32();
  };
  assert.equal(await ask(3, NFS, 3, 6, 0), port);
  assert.equal(await ask(3, MOUNT, 3, 6, 0), port);
  // Any version: the program says by itself which it has.
  for (const version of [0, 2, 4]) assert.equal(await ask(3, NFS, version, 6, 0), port);
  for (const args of [
    [NFS, 3, 17, 0],
    [100022, 1, 6, 0],
  ])
    assert.equal(await ask(3, ...args), 0);
  assert.equal(await ask(1, NFS, 3, 6, 9), 0);
  assert.equal(await ask(2, NFS, 3, 6, 9), 0);
  const { body } = await client.call(4, NOTHING, { program: PORTMAP, version: 2 });
  const seen: number[][] = [];
  while (body.bool()) seen.push([body.u32(), body.u32(), body.u32(), body.u32()]);
  assert.ok(seen.some(([program, version]) => program === NFS && version === 3));
  assert.ok(seen.every(([, , , at]) => at === port));
  const over = (program: number) => seen.filter((row) => row[0] === program).map((row) => row[2]);
  assert.deepEqual([over(NFS), over(MOUNT)], [[6], [6, 17]]);
  assert.equal((await client.call(5, NOTHING, { program: PORTMAP, version: 2 })).status, 3);
});

test("rpcbind v3 and v4: GETADDR and DUMP", async (t) => {
  const { client, port } = await openRig(t);
  const address = `127.0.0.1.${port >> 8}.${port & 255}`;
  const args = (program: number, network: string) =>
    encode((w) => {
      w.u32(program);
      w.u32(3);
      for (const text of [network, "", ""]) w.text(text);
    });
  for (const version of [3, 4]) {
    const ask = async (program: number, network: string) => {
      const { body } = await client.call(3, args(program, network), { program: PORTMAP, version });
      return body.opaque(100).toString();
    };
    assert.equal(await ask(NFS, "tcp"), address);
    assert.equal(await ask(NFS, "udp"), "");
    assert.equal(await ask(MOUNT, "udp"), address);
    assert.equal(await ask(100021, "tcp"), address, "version 3 of NLM");
    assert.equal(await ask(100022, "tcp"), "");
    const { body } = await client.call(4, NOTHING, { program: PORTMAP, version });
    assert.equal(body.bool(), true);
  }
  assert.equal((await client.call(9, args(NFS, "tcp"), { program: PORTMAP, version: 4 })).status, 0);
  assert.equal((await client.call(7, NOTHING, { program: PORTMAP, version: 4 })).status, 3);
});

test("registration: refused and absent port mappers are said clearly", async (t) => {
  const { port, server } = await openRig(t);
  const at = { host: "127.0.0.1", port, timeoutMs: 1000 };
  const code = (expected: string) => (error: unknown) => error instanceof StorageError && error.code === expected;
  await assert.rejects(registerWithRpcbind(server.services(), port, at), code("EACCES"));
  await assert.rejects(registerWithRpcbind(server.services(), port, { ...at, port: 1 }), code("ENODEV"));
});
