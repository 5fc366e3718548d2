import assert from "node:assert/strict";
import { test } from "node:test";
import { StorageError } from "../../../src/lib/errors.js";
import { parseClients } from "../../../src/protocol/cidr.js";
import { ExportTable, squash } from "../../../src/protocol/exports.js";
import { HANDLE, HandleCodec } from "../../../src/protocol/handle.js";
import { Auth } from "../../../src/protocol/rpc/auth.js";
import { normalAddress } from "../../../src/protocol/rpc/peer.js";
import { XdrReader } from "../../../src/protocol/xdr/reader.js";
import { MemoryFileSystem } from "../../support/memory-fs.js";
import { encode } from "../../support/nfs-client.js";
import { RW } from "./fixture.js";

const v4 = (address: string) => ({ address, family: "ipv4" as const });
const v6 = (address: string) => ({ address, family: "ipv6" as const });

test("client lists: networks, addresses, both families", () => {
  const matches = (text: string, peer: ReturnType<typeof v4> | ReturnType<typeof v6>) => parseClients(text)(peer);
  assert.ok(matches("*", v6("fe80::1")));
  assert.ok(matches("10.1.0.0/16", v4("10.1.255.255")));
  assert.ok(!matches("10.1.0.0/16", v4("10.2.0.0")));
  assert.ok(matches("192.168.0.7", v4("192.168.0.7")));
  assert.ok(!matches("192.168.0.7", v4("192.168.0.8")));
  assert.ok(matches("0.0.0.0/0", v4("1.2.3.4")));
  assert.ok(!matches("0.0.0.0/0", v6("::1")));
  assert.ok(!matches("::/0", v4("1.2.3.4")));
  assert.ok(matches("fd00::/8", v6("fd12:3456::1")));
  assert.ok(!matches("fd00::/8", v6("fe80::1")));
  assert.ok(matches("::ffff:10.0.0.1", v4(normalAddress("::ffff:10.0.0.1"))));
  for (const bad of [
    "",
    "host",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/a",
    "1.2.3.4/8/8",
    "::/129",
    "10.0.0/8",
    "10.0.0.0/",
  ]) {
    assert.throws(() => parseClients(bad), StorageError, bad);
  }
});

test("exports: the first matching rule wins, and the privileged port is checked", () => {
  const table = new ExportTable();
  const fileSystem = new MemoryFileSystem();
  const rules = [
    { ...RW, clients: "10.0.0.5", access: "ro" as const },
    { ...RW, clients: "10.0.0.0/8", secure: true },
  ];
  const entry = table.add({ path: "/a", fileSystem, rules });
  assert.equal(entry.ruleFor({ ...v4("10.0.0.5"), port: 5000 })?.access, "ro");
  assert.equal(entry.ruleFor({ ...v4("10.0.0.6"), port: 5000 }), null);
  assert.equal(entry.ruleFor({ ...v4("10.0.0.6"), port: 1023 })?.access, "rw");
  assert.equal(entry.ruleFor({ ...v4("11.0.0.6"), port: 1 }), null);
});

test("exports: paths, the longest prefix, change and removal", () => {
  const table = new ExportTable();
  const fileSystem = new MemoryFileSystem();
  const add = (path: string) => table.add({ path, fileSystem, rules: [RW] });
  for (const bad of ["", "data", "/data/", "//data", "/a/./b", "/a\0b", `/${"x".repeat(1100)}`]) {
    assert.throws(() => add(bad), StorageError, bad);
  }
  const data = add("/data");
  add("/data/inner");
  assert.deepEqual(
    table.list().map(({ path }) => path),
    ["/data", "/data/inner"],
  );
  assert.equal(table.findByPath(Buffer.from("/data/inner/x"))?.entry.path, "/data/inner");
  assert.deepEqual(table.findByPath(Buffer.from("/data//innerx/./y/"))?.below.map(String), ["innerx", "y"]);
  assert.equal(table.findByPath(Buffer.from("/datax")), null);
  assert.equal(add("/data").id, data.id);
  assert.equal(table.list().length, 2);
  assert.ok(table.remove("/data/inner"));
  assert.ok(!table.remove("/data/inner"));
});

test("squash: every mode", () => {
  const rule = { ...RW, anonUid: 7, anonGid: 8 };
  const caller = new Auth(1, 0, 0, [0, 5], "m", 1);
  assert.deepEqual(squash({ ...rule, squash: "none" }, caller), { uid: 0, gid: 0, groups: [0, 5] });
  assert.deepEqual(squash({ ...rule, squash: "root" }, caller), { uid: 7, gid: 8, groups: [8, 5] });
  assert.deepEqual(squash({ ...rule, squash: "all" }, caller), { uid: 7, gid: 8, groups: [] });
  assert.deepEqual(squash({ ...rule, squash: "none" }, new Auth(0, 0, 0, [], "", 0)), { uid: 7, gid: 8, groups: [] });
});

test("handles: the same after a restart, other for another export, key, inode or generation", () => {
  const open = (path: string, key: number) => {
    const table = new ExportTable();
    const fileSystem = new MemoryFileSystem();
    fileSystem.handleKey.fill(key);
    const entry = table.add({ path, fileSystem, rules: [RW] });
    return { entry, codec: new HandleCodec((id) => table.findById(id)) };
  };
  const { entry, codec } = open("/a", 1);
  const id = { ino: 2 ** 40 + 5, generation: 2 ** 33 };
  const handle = codec.encode(entry, id);
  assert.equal(handle.length, HANDLE.end);
  const again = open("/a", 1);
  assert.deepEqual(again.codec.encode(again.entry, id), handle);
  const decoded = again.codec.read(new XdrReader(encode((w) => w.opaque(handle))));
  assert.deepEqual([decoded.ino, decoded.generation], [id.ino, id.generation]);
  const others = [
    ...[open("/a", 2), open("/b", 1)].map((other) => other.codec.encode(other.entry, id)),
    codec.encode(entry, { ...id, ino: 5 }),
    codec.encode(entry, { ...id, generation: 1 }),
  ];
  for (const other of others) assert.notDeepEqual(other.subarray(HANDLE.tag), handle.subarray(HANDLE.tag));
  assert.deepEqual(codec.encode(entry, id), handle);
});
