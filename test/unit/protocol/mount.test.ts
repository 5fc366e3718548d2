import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryFileSystem } from "../../support/memory-fs.js";
import { encode, MOUNT } from "../../support/nfs-client.js";
import { openRig, RW } from "./fixture.js";

const NOTHING = Buffer.alloc(0);

test("MNT: an export, a directory below one, auth flavors", async (t) => {
  const { client, root } = await openRig(t);
  const { handle } = await client.mkdir(root, "d");
  await client.mkdir(handle, "e");
  const mounted = await client.mount("/data");
  assert.deepEqual([mounted.status, mounted.handle, mounted.flavors], [0, root, [1, 0]]);
  assert.deepEqual((await client.mount("/data/d")).handle, handle);
  assert.equal((await client.mount("/data//d/./e/")).status, 0);
});

test("MNT: what is refused", async (t) => {
  const { client, root, exports } = await openRig(t);
  await client.create(root, "f");
  await client.symlink(root, "l", "f");
  exports.add({
    path: "/closed",
    fileSystem: new MemoryFileSystem({ id: 3 }),
    rules: [{ ...RW, clients: "10.0.0.0/8" }],
  });
  exports.add({ path: "/secure", fileSystem: new MemoryFileSystem({ id: 4 }), rules: [{ ...RW, secure: true }] });
  const cases: [string, number][] = [
    ...([
      ["/absent", 2],
      ["", 2],
      ["data", 2],
      ["/", 2],
      ["/data/x", 2],
      ["/data/f", 20],
      ["/data/l", 20],
    ] as [string, number][]),
    ...([
      ["/data/..", 22],
      ["/closed", 13],
      ["/closed/x", 13],
      ["/secure", 13],
    ] as [string, number][]),
    [`/data/${"x".repeat(300)}`, 63],
  ];
  for (const [path, expected] of cases) assert.equal((await client.mount(path)).status, expected, path.slice(0, 20));
  const tooLong = await client.call(
    1,
    encode((w) => w.text(`/${"x".repeat(1024)}`)),
    { program: MOUNT },
  );
  assert.equal(tooLong.status, 4);
});

test("DUMP, UMNT, UMNTALL: a bounded list", async (t) => {
  const { client, server, root } = await openRig(t, { limits: { mountListMax: 3 } });
  for (const name of ["a", "b", "c", "d"]) {
    await client.mkdir(root, name);
    await client.mount(`/data/${name}`);
  }
  assert.deepEqual(
    server.mounts().map(({ path }) => path),
    ["/data/b", "/data/c", "/data/d"],
  );
  await client.call(
    3,
    encode((w) => w.text("/data/c")),
    { program: MOUNT },
  );
  const { body } = await client.call(2, NOTHING, { program: MOUNT });
  const seen: string[] = [];
  while (body.bool()) seen.push(`${body.opaque(255)} ${body.opaque(1024)}`);
  assert.deepEqual(seen, ["127.0.0.1 /data/b", "127.0.0.1 /data/d"]);
  await client.call(4, NOTHING, { program: MOUNT });
  assert.deepEqual(server.mounts(), []);
});

test("MNT: one mount, however its path is spelled; so many of one client and so many bytes", async (t) => {
  const { client, server, root } = await openRig(t, { limits: { mountListOfHostMax: 4, mountListBytesMax: 60 } });
  await client.call(4, NOTHING, { program: MOUNT });
  await client.mkdir(root, "d");
  for (const path of ["/data/d", "/data/d/", "//data//d", "/data/./d/."]) await client.mount(path);
  assert.deepEqual(server.mounts(), [{ host: "127.0.0.1", path: "/data/d" }]);
  await client.call(
    3,
    encode((w) => w.text("//data/d/")),
    { program: MOUNT },
  );
  assert.deepEqual(server.mounts(), []);
  for (const name of ["a", "b", "c", "e", "f"]) await client.mkdir(root, name);
  for (const name of ["a", "b", "c", "e", "f"]) await client.mount(`/data/${name}`);
  assert.deepEqual(
    server.mounts().map(({ path }) => path),
    ["/data/c", "/data/e", "/data/f"],
  );
});

test("MNT: a directory whose name is no UTF-8, and every byte of it in the list", async (t) => {
  const { client, server, root } = await openRig(t);
  const name = Buffer.from([0x63, 0x61, 0x66, 0xe9]);
  await client.call(4, NOTHING, { program: MOUNT });
  const { handle } = await client.mkdir(root, name);
  const path = Buffer.concat([Buffer.from("/data/"), name]);
  const asked = encode((w) => w.opaque(path));
  const { body } = await client.call(1, asked, { program: MOUNT });
  assert.equal(body.u32(), 0);
  assert.deepEqual(Buffer.from(body.opaque(64)), handle);
  assert.deepEqual(server.mounts(), [{ host: "127.0.0.1", path: "/data/caf\\xe9" }]);
  const list = await client.call(2, NOTHING, { program: MOUNT });
  assert.equal(list.body.bool(), true);
  list.body.opaque(255);
  assert.deepEqual(Buffer.from(list.body.opaque(1024)), path);
  await client.call(3, asked, { program: MOUNT });
  assert.deepEqual(server.mounts(), []);
});

test("MNT: each refusal is told with its reason", async (t) => {
  const told: object[] = [];
  const { client, exports } = await openRig(t, { onMountRefused: (refused) => told.push(refused) });
  const closed = new MemoryFileSystem({ id: 3 });
  exports.add({ path: "/closed", fileSystem: closed, rules: [{ ...RW, clients: "10.0.0.0/8" }] });
  exports.add({ path: "/secure", fileSystem: new MemoryFileSystem({ id: 4 }), rules: [{ ...RW, secure: true }] });
  for (const path of ["/closed", "/secure", "/absent\u001b[2J", "/data/.."]) await client.mount(path);
  const { port } = client.socket.address() as { port: number };
  assert.deepEqual(told, [
    { address: "127.0.0.1", path: "/closed", why: "no rule of the export names this address" },
    {
      address: "127.0.0.1",
      path: "/secure",
      why: `the export wants a port below 1024, and this came from port ${port}`,
    },
    { address: "127.0.0.1", path: "/absent\\x1b[2J", why: "nothing is exported there" },
    { address: "127.0.0.1", path: "/data/..", why: 'the path has ".." in it' },
  ]);
});

test("EXPORT: paths and client lists; NULL", async (t) => {
  const { client, exports } = await openRig(t);
  const rules = [
    { ...RW, clients: "10.0.0.0/8" },
    { ...RW, clients: "fd00::/8" },
  ];
  exports.add({ path: "/other", fileSystem: new MemoryFileSystem({ id: 3 }), rules });
  const { body } = await client.call(5, NOTHING, { program: MOUNT });
  const seen: string[][] = [];
  while (body.bool()) {
    const entry = [body.opaque(1024).toString()];
    while (body.bool()) entry.push(body.opaque(255).toString());
    seen.push(entry);
  }
  assert.deepEqual(seen, [
    ["/data", "*"],
    ["/other", "10.0.0.0/8", "fd00::/8"],
  ]);
  assert.equal((await client.call(0, NOTHING, { program: MOUNT })).status, 0);
  assert.equal((await client.call(6, NOTHING, { program: MOUNT })).status, 3);
});
