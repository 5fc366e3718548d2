import assert from "node:assert/strict";
import { test } from "node:test";
import { StorageError } from "../../../src/lib/errors.js";
import { HANDLE } from "../../../src/protocol/handle.js";
import { MemoryFileSystem } from "../../support/memory-fs.js";
import { authSysBody, encode, Proc } from "../../support/nfs-client.js";
import { openRig, pattern, RW } from "./fixture.js";

const MIB = 1024 * 1024;
const [PERM, NOENT, ACCES, EXIST, XDEV, NOTDIR, ISDIR, INVAL, FBIG, NOSPC, ROFS] = [
  1, 2, 13, 17, 18, 20, 21, 22, 27, 28, 30,
];
const [NAMETOOLONG, NOTEMPTY, STALE, BADHANDLE, NOT_SYNC, BADTYPE, SERVERFAULT, JUKEBOX] = [
  63, 66, 70, 10001, 10002, 10007, 10006, 10008,
];

test("NULL answers nothing", async (t) => {
  const { client } = await openRig(t);
  const { status, body } = await client.call(Proc.null, Buffer.alloc(0));
  assert.deepEqual([status, body.remaining], [0, 0]);
});

test("GETATTR: every field of fattr3, with large numbers", async (t) => {
  const { client, root } = await openRig(t);
  const { handle } = await client.create(root, "f", { mode: 0o4755, uid: 4294967294, gid: 70000, size: 2 ** 40 });
  const times = { atime: { seconds: 4294967295, nanoseconds: 999999999 }, mtime: { seconds: 1, nanoseconds: 2 } };
  assert.equal((await client.setattr(handle, times)).status, 0);
  const { attributes } = await client.getattr(handle);
  assert.ok(attributes);
  const { type, mode, nlink, uid, gid, size, fsid, fileid, atime, mtime } = attributes;
  assert.deepEqual(
    { type, mode, nlink, uid, gid, size },
    { type: 1, mode: 0o4755, nlink: 1, uid: 4294967294, gid: 70000, size: 2 ** 40 },
  );
  assert.deepEqual({ fsid, fileid, atime, mtime }, { fsid: 7, fileid: 2, ...times });
  assert.equal((await client.getattr(root)).attributes?.type, 2);
});

test("handles: forged, foreign, too short and too long ones", async (t) => {
  const { client, root, fs } = await openRig(t);
  for (let i = 0; i < root.length; i++) {
    const forged = Buffer.from(root);
    forged[i] = forged[i]! ^ 1;
    // The id of a file system that was never here: there is no key to prove the handle with.
    const expected = i >= HANDLE.fileSystemId && i < HANDLE.ino ? STALE : BADHANDLE;
    assert.equal((await client.getattr(forged)).status, expected, `byte ${i} changed`);
  }
  for (const bytes of [0, 1, 43, 45, 64]) assert.equal((await client.getattr(Buffer.alloc(bytes))).status, BADHANDLE);
  const tooLong = await client.call(
    Proc.getattr,
    encode((w) => w.opaque(Buffer.alloc(65))),
  );
  assert.equal(tooLong.status, 4);
  const { handle } = await client.create(root, "gone");
  await client.remove(root, "gone");
  assert.equal((await client.getattr(handle)).status, STALE);
  assert.equal(fs.applied.get("remove"), 1);
});

test("handles: every procedure answers BADHANDLE and STALE in its own shape", async (t) => {
  const { client, root } = await openRig(t);
  const { handle: stale } = await client.mkdir(root, "d");
  await client.rmdir(root, "d");
  const verifier = Buffer.alloc(8);
  for (const [handle, expected] of [
    [Buffer.alloc(44, 1), BADHANDLE],
    [stale, STALE],
  ] as const) {
    const answers = [
      ...[await client.getattr(handle), await client.setattr(handle, { mode: 0 }), await client.lookup(handle, "x")],
      ...[await client.access(handle, 63), await client.readlink(handle), await client.read(handle, 0, 10)],
      ...[
        await client.read(handle, 0, 100000),
        await client.write(handle, 0, pattern(3)),
        await client.create(handle, "x"),
      ],
      ...[await client.mkdir(handle, "x"), await client.symlink(handle, "x", "y"), await client.mknod(handle, "x", 7)],
      ...[
        await client.remove(handle, "x"),
        await client.rmdir(handle, "x"),
        await client.rename(handle, "x", root, "y"),
      ],
      ...[await client.rename(root, "x", handle, "y"), await client.link(handle, root, "x")],
      ...[await client.readdir(handle, 0, verifier, 4096), await client.readdirplus(handle, 0, verifier, 4096, 4096)],
      await client.commit(handle),
    ];
    const rename = 15;
    answers.forEach(({ status }, i) => {
      assert.ok(status === expected || (i === rename && status === NOENT), `answer ${i}: ${status}`);
    });
    for (const procedure of [Proc.fsstat, Proc.fsinfo, Proc.pathconf]) {
      const { status, body } = await client.nfs(
        procedure,
        encode((w) => w.opaque(handle)),
      );
      assert.deepEqual([status, body.bool(), body.remaining], [expected, false, 0]);
    }
  }
});

test("SETATTR: fields, wcc data, guard, and what is refused", async (t) => {
  const { client, root } = await openRig(t);
  const { handle, attributes } = await client.create(root, "f", { mode: 0o600 });
  const first = await client.setattr(handle, { mode: 0o640, size: 100, mtime: "now" }, attributes?.ctime);
  assert.equal(first.status, 0);
  assert.equal(first.wcc.before?.size, 0);
  assert.deepEqual([first.wcc.after?.size, first.wcc.after?.mode], [100, 0o640]);
  const guarded = await client.setattr(handle, { size: 5 }, { seconds: 1, nanoseconds: 1 });
  assert.equal(guarded.status, NOT_SYNC);
  assert.deepEqual([guarded.wcc.before?.size, guarded.wcc.after?.size], [100, 100]);
  assert.equal((await client.setattr(handle, { size: 2 ** 44 + 1 })).status, FBIG);
  assert.equal((await client.setattr(handle, { mtime: { seconds: 1, nanoseconds: 1e9 } })).status, INVAL);
  assert.equal((await client.setattr(root, { size: 0 })).status, ISDIR);
  client.auth = { uid: 5, gid: 5, groups: [] };
  assert.equal((await client.setattr(handle, { mode: 0 })).status, PERM);
});

test("LOOKUP: found, dot, dot-dot, and every bad name", async (t) => {
  const { client, root } = await openRig(t);
  const { handle } = await client.mkdir(root, "d");
  const found = await client.lookup(root, "d");
  assert.deepEqual([found.status, found.handle, found.attributes?.type], [0, handle, 2]);
  assert.equal(found.directory?.fileid, 1);
  assert.deepEqual((await client.lookup(handle, "..")).handle, root);
  assert.deepEqual((await client.lookup(handle, ".")).handle, handle);
  const bad: [string | Buffer, number][] = [
    ...([
      ["absent", NOENT],
      ["a/b", INVAL],
      ["a\0b", INVAL],
      ["", INVAL],
    ] as [string, number][]),
    ...([
      ["x".repeat(255), NOENT],
      ["x".repeat(256), NAMETOOLONG],
      ["x".repeat(5000), NAMETOOLONG],
    ] as [string, number][]),
    [Buffer.from([0xff, 0xfe]), NOENT],
  ];
  for (const [name, expected] of bad) {
    const { status, directory } = await client.lookup(root, name);
    assert.equal(status, expected, String(name).slice(0, 20));
    assert.equal(directory?.fileid, 1);
  }
  await client.create(root, "f");
  const file = await client.lookup(root, "f");
  assert.equal((await client.lookup(file.handle, "x")).status, NOTDIR);
});

test("bad names are refused by everything that creates, removes or renames", async (t) => {
  const { client, root } = await openRig(t);
  const { handle } = await client.create(root, "f");
  for (const [name, expected] of [
    ["a/b", INVAL],
    ["a\0", INVAL],
    ["", INVAL],
    ["x".repeat(256), NAMETOOLONG],
  ] as const) {
    const answers = [
      ...[await client.create(root, name), await client.mkdir(root, name), await client.symlink(root, name, "t")],
      ...[await client.mknod(root, name, 7), await client.remove(root, name), await client.rmdir(root, name)],
      ...[await client.rename(root, name, root, "y"), await client.rename(root, "f", root, name)],
      await client.link(handle, root, name),
    ];
    answers.forEach(({ status }, i) => {
      assert.equal(status, expected, `answer ${i}`);
    });
  }
});

test("ACCESS: what each caller may do, by owner, group, supplementary group and others", async (t) => {
  const { client, root } = await openRig(t);
  const { handle } = await client.create(root, "f", { mode: 0o640, uid: 10, gid: 20 });
  const granted = async (uid: number, gid: number, groups: number[]) => {
    client.auth = { uid, gid, groups };
    return (await client.access(handle, 0xffffffff)).granted;
  };
  assert.equal(await granted(10, 1, []), 1 | 4 | 8);
  assert.equal(await granted(11, 20, []), 1);
  assert.equal(await granted(11, 1, [3, 20]), 1);
  assert.equal(await granted(11, 1, []), 0);
  assert.equal(await granted(0, 0, []), 1 | 4 | 8);
  assert.equal((await client.access(root, 2)).granted, 2);
});

test("READLINK and SYMLINK", async (t) => {
  const { client, root } = await openRig(t);
  const { handle, attributes } = await client.symlink(root, "l", "../some/where");
  assert.equal(attributes?.type, 5);
  assert.equal((await client.readlink(handle)).target, "../some/where");
  assert.equal((await client.readlink(root)).status, INVAL);
  assert.equal((await client.symlink(root, "long", "x".repeat(4095))).status, 0);
  assert.equal((await client.symlink(root, "longer", "x".repeat(4096))).status, NAMETOOLONG);
  assert.equal((await client.symlink(root, "empty", "")).status, INVAL);
  assert.equal((await client.symlink(root, "nul", "a\0b")).status, INVAL);
  assert.equal((await client.symlink(root, "l", "again")).status, EXIST);
});

test("READ and WRITE: every size class, odd sizes, holes, end of file", async (t) => {
  const { client, root, log } = await openRig(t);
  const { handle } = await client.create(root, "f");
  for (const size of [1, 3, 4096, 16384, 16385, 65537, MIB - 1, MIB]) {
    const data = pattern(size, size);
    const written = await client.write(handle, 10, data);
    assert.deepEqual([written.status, written.count, written.committed], [0, size, 2]);
    const back = await client.read(handle, 10, size);
    assert.deepEqual([back.status, back.count], [0, size]);
    assert.ok(back.data.equals(data), `${size} bytes`);
  }
  const tail = await client.read(handle, 10 + MIB - 5, 100);
  assert.deepEqual([tail.count, tail.eof], [5, true]);
  assert.deepEqual((await client.read(handle, 0, 10)).data, Buffer.alloc(10));
  const whole = await client.read(handle, 0, 4 * MIB);
  assert.deepEqual([whole.count, whole.eof], [MIB, false]);
  for (const offset of [10 + MIB, 2 ** 44, 2n ** 53n, 2n ** 64n - 1n]) {
    const behind = await client.read(handle, offset, 100);
    assert.deepEqual([behind.status, behind.count, behind.eof], [0, 0, true]);
  }
  assert.equal((await client.read(handle, 0, 0)).count, 0);
  assert.deepEqual(log.errors, []);
});

test("READ and WRITE: waiting file system", async (t) => {
  const { client, root, fs } = await openRig(t);
  const { handle } = await client.create(root, "f");
  await client.write(handle, 0, pattern(200000));
  fs.hold = () => new Promise((resolve) => setTimeout(resolve, 2));
  const places = [100, 4096, 20000, 150000, 16384, 50001, 4096].map((size, i) => ({ offset: 1000 * i, size }));
  const answers = await Promise.all(places.map(({ offset, size }) => client.read(handle, offset, size)));
  answers.forEach(({ data }, i) => {
    const { offset, size } = places[i]!;
    assert.ok(data.equals(pattern(200000).subarray(offset, offset + size)), `read ${i}`);
  });
  fs.hold = () => Promise.reject(new StorageError("EIO", "bad sector"));
  for (const size of [100, 100000]) assert.equal((await client.read(handle, 0, size)).status, 5);
});

test("READ and WRITE: what is refused", async (t) => {
  const { client, root, fs } = await openRig(t);
  const { handle } = await client.create(root, "f", { mode: 0o600 });
  assert.equal((await client.write(handle, 0, pattern(8), 2, 9)).status, INVAL);
  assert.equal((await client.write(handle, 0, pattern(8), 2, 7)).status, INVAL);
  for (const offset of [2 ** 44, 2 ** 44 - 7, 2n ** 53n, 2n ** 64n - 1n]) {
    const { status, wcc } = await client.write(handle, offset, pattern(8));
    assert.deepEqual([status, wcc.after?.size], [FBIG, 0]);
  }
  assert.equal((await client.write(root, 0, pattern(8))).status, ISDIR);
  assert.equal((await client.read(root, 0, 8)).status, ISDIR);
  const { handle: fifo } = await client.mknod(root, "p", 7);
  assert.equal((await client.read(fifo, 0, 8)).status, INVAL);
  const badStable = await client.call(
    Proc.write,
    encode((w) => {
      w.opaque(handle);
      w.u64(0);
      w.u32(0);
      w.u32(3);
      w.opaque(Buffer.alloc(0));
    }),
  );
  assert.equal(badStable.status, 4);
  client.auth = { uid: 9, gid: 9, groups: [] };
  assert.equal((await client.read(handle, 0, 8)).status, ACCES);
  assert.equal((await client.write(handle, 0, pattern(8))).status, ACCES);
  assert.equal(fs.applied.get("write"), undefined);
});

test("WRITE: no space is NOSPC with wcc data", async (t) => {
  const { client, exports } = await openRig(t);
  exports.add({ path: "/small", fileSystem: new MemoryFileSystem({ id: 9, capacityBytes: 65536 }), rules: [RW] });
  const { handle: root } = await client.mount("/small");
  const { handle } = await client.create(root, "f");
  assert.equal((await client.write(handle, 0, pattern(65536))).status, 0);
  const { status, wcc } = await client.write(handle, 65536, pattern(1));
  assert.deepEqual([status, wcc.before?.size, wcc.after?.size], [NOSPC, 65536, 65536]);
});

test("WRITE and COMMIT: stability and verifier", async (t) => {
  const { client, root, fs } = await openRig(t);
  const { handle } = await client.create(root, "f");
  const unstable = await client.write(handle, 0, pattern(8), 0);
  assert.deepEqual([unstable.committed, unstable.verifier], [0, Buffer.from("memory-1")]);
  assert.equal((await client.write(handle, 0, pattern(8), 1)).committed, 2);
  assert.deepEqual((await client.commit(handle)).verifier, unstable.verifier);
  fs.writeVerifier = Buffer.from("memory-2");
  assert.deepEqual((await client.commit(handle, 2n ** 64n - 1n, 10)).verifier, Buffer.from("memory-2"));
});

test("CREATE: unchecked, guarded, exclusive and repeated exclusive", async (t) => {
  const { client, root } = await openRig(t);
  const made = await client.create(root, "f", { mode: 0o644 });
  assert.deepEqual([made.status, made.attributes?.mode, made.wcc.after?.fileid], [0, 0o644, 1]);
  await client.write(made.handle, 0, pattern(50));
  assert.deepEqual((await client.create(root, "f", {})).handle, made.handle);
  assert.equal((await client.create(root, "f", { size: 0 })).attributes?.size, 0);
  assert.equal((await client.create(root, "f", {}, true)).status, EXIST);
  const verifier = Buffer.from("12345678");
  const exclusive = await client.create(root, "x", verifier);
  assert.equal(exclusive.status, 0);
  assert.deepEqual((await client.create(root, "x", verifier)).handle, exclusive.handle);
  assert.equal((await client.create(root, "x", Buffer.from("87654321"))).status, EXIST);
  assert.equal((await client.create(root, ".")).status, EXIST);
  assert.equal((await client.create(root, "big", { size: 2 ** 50 })).status, FBIG);
  assert.equal((await client.create(made.handle, "y")).status, NOTDIR);
});

test("MKDIR, RMDIR, REMOVE: success and refusals", async (t) => {
  const { client, root } = await openRig(t);
  const { handle, attributes } = await client.mkdir(root, "d", { mode: 0o700 });
  assert.deepEqual([attributes?.type, attributes?.nlink, attributes?.mode], [2, 2, 0o700]);
  await client.create(handle, "f");
  assert.equal((await client.mkdir(root, "d")).status, EXIST);
  assert.equal((await client.rmdir(root, "d")).status, NOTEMPTY);
  assert.equal((await client.remove(root, "d")).status, ISDIR);
  assert.equal((await client.rmdir(handle, "f")).status, NOTDIR);
  assert.equal((await client.rmdir(root, ".")).status, INVAL);
  assert.equal((await client.rmdir(root, "..")).status, NOTEMPTY);
  assert.equal((await client.remove(handle, "f")).status, 0);
  const { status, wcc } = await client.rmdir(root, "d");
  assert.deepEqual([status, wcc.after?.nlink], [0, 2]);
  assert.equal((await client.remove(root, "d")).status, NOENT);
});

test("MKNOD: devices, socket, FIFO; other types are BADTYPE", async (t) => {
  const { client, root } = await openRig(t);
  const { attributes } = await client.mknod(root, "c", 4, [8, 300], { mode: 0o620 });
  assert.deepEqual([attributes?.type, attributes?.rdev, attributes?.mode], [4, [8, 300], 0o620]);
  assert.equal((await client.mknod(root, "b", 3, [1, 2])).attributes?.type, 3);
  assert.equal((await client.mknod(root, "s", 6)).attributes?.type, 6);
  assert.equal((await client.mknod(root, "p", 7)).attributes?.type, 7);
  for (const type of [1, 2, 5, 0]) {
    const { status, wcc } = await client.mknod(root, "x", type);
    assert.deepEqual([status, wcc.after?.fileid], [BADTYPE, 1]);
  }
  const unknown = await client.call(
    Proc.mknod,
    encode((w) => {
      w.opaque(root);
      w.text("x");
      w.u32(8);
    }),
  );
  assert.equal(unknown.status, 4);
  client.auth = { uid: 5, gid: 5, groups: [] };
  assert.equal((await client.mknod(root, "c2", 4, [1, 1])).status, PERM);
});

test("RENAME and LINK: success, replacement and refusals", async (t) => {
  const { client, root, exports } = await openRig(t);
  const { handle: d } = await client.mkdir(root, "d");
  const { handle: f } = await client.create(root, "f");
  const linked = await client.link(f, d, "hard");
  assert.deepEqual([linked.status, linked.file?.nlink, linked.directory.after?.fileid], [0, 2, 2]);
  assert.equal((await client.link(f, d, "hard")).status, EXIST);
  assert.equal((await client.link(d, root, "dir")).status, ISDIR);
  const renamed = await client.rename(root, "f", d, "g");
  assert.deepEqual([renamed.status, renamed.from.after?.fileid, renamed.to.after?.fileid], [0, 1, 2]);
  assert.deepEqual((await client.lookup(d, "g")).handle, f);
  assert.equal((await client.rename(root, "d", d, "below")).status, INVAL);
  assert.equal((await client.rename(root, "absent", d, "x")).status, NOENT);
  await client.create(root, "file");
  assert.equal((await client.rename(root, "file", root, "d")).status, ISDIR);
  assert.equal((await client.rename(root, "d", root, "file")).status, NOTDIR);
  exports.add({ path: "/other", fileSystem: new MemoryFileSystem({ id: 8 }), rules: [RW] });
  const other = (await client.mount("/other")).handle;
  assert.equal((await client.rename(root, "file", other, "x")).status, XDEV);
  const crossLink = await client.link(f, other, "x");
  assert.deepEqual([crossLink.status, crossLink.file?.nlink, crossLink.directory.after?.fsid], [XDEV, 2, 8]);
});

test("FSSTAT, FSINFO, PATHCONF: their figures", async (t) => {
  const { client, root } = await openRig(t);
  const args = encode((w) => w.opaque(root));
  const words = async (procedure: number) => {
    const { status, body } = await client.nfs(procedure, args);
    assert.deepEqual([status, body.bool()], [0, true]);
    body.take(84);
    return body;
  };
  const info = await words(Proc.fsinfo);
  const sizes = Array.from({ length: 7 }, () => info.u32());
  assert.deepEqual(sizes, [MIB, MIB, 4096, MIB, MIB, 4096, 65536]);
  assert.deepEqual([info.u64(), info.u32(), info.u32(), info.u32(), info.remaining], [2 ** 44, 0, 1, 0x1b, 0]);
  const stat = await words(Proc.fsstat);
  assert.deepEqual([stat.u64(), stat.u64(), stat.u64()], [2 ** 40, 2 ** 40, 2 ** 40]);
  assert.deepEqual([stat.u64(), stat.u64(), stat.u64(), stat.u32(), stat.remaining], [1e6, 1e6 - 1, 1e6 - 1, 0, 0]);
  const conf = await words(Proc.pathconf);
  assert.deepEqual(
    Array.from({ length: 6 }, () => conf.u32()),
    [2 ** 31 - 1, 255, 1, 1, 0, 1],
  );
});

test("a read-only export refuses every change with ROFS and grants none", async (t) => {
  const { client, root, exports, fs } = await openRig(t);
  const { handle } = await client.create(root, "f");
  exports.add({ path: "/data", fileSystem: fs, rules: [{ ...RW, access: "ro" }] });
  const answers = [
    ...[
      await client.setattr(handle, { mode: 0 }),
      await client.write(handle, 0, pattern(1)),
      await client.create(root, "g"),
    ],
    ...[await client.mkdir(root, "d"), await client.symlink(root, "l", "x"), await client.mknod(root, "p", 7)],
    ...[await client.remove(root, "f"), await client.rmdir(root, "f"), await client.rename(root, "f", root, "g")],
    ...[await client.link(handle, root, "g"), await client.commit(handle)],
  ];
  assert.deepEqual(
    answers.map(({ status }) => status),
    answers.map(() => ROFS),
  );
  assert.equal((await client.access(root, 63)).granted & (4 | 8 | 16), 0);
  assert.equal((await client.read(handle, 0, 1)).status, 0);
});

test("squash: root and all become the anonymous user, AUTH_NONE always does", async (t) => {
  const { client, root, exports, fs } = await openRig(t);
  const owner = async (name: string) => (await client.create(root, name)).attributes?.uid;
  exports.add({ path: "/data", fileSystem: fs, rules: [{ ...RW, squash: "root", anonUid: 77, anonGid: 78 }] });
  assert.equal(await owner("a"), 77);
  client.auth = { uid: 5, gid: 0, groups: [] };
  const { attributes } = await client.create(root, "b");
  assert.deepEqual([attributes?.uid, attributes?.gid], [5, 78]);
  exports.add({ path: "/data", fileSystem: fs, rules: [{ ...RW, squash: "all", anonUid: 77, anonGid: 78 }] });
  assert.equal(await owner("c"), 77);
  exports.add({ path: "/data", fileSystem: fs, rules: [RW] });
  client.auth = null;
  assert.equal(await owner("d"), 65534);
});

test("an export that is removed stops answering at once; one that a client may not use is ACCES", async (t) => {
  const { client, root, exports, fs } = await openRig(t);
  exports.add({ path: "/data", fileSystem: fs, rules: [{ ...RW, clients: "10.0.0.0/8" }] });
  assert.equal((await client.getattr(root)).status, ACCES);
  exports.add({ path: "/data", fileSystem: fs, rules: [{ ...RW, secure: true }] });
  assert.equal((await client.getattr(root)).status, ACCES);
  exports.remove("/data");
  assert.equal((await client.getattr(root)).status, STALE);
  const forged = Buffer.from(root);
  forged[HANDLE.tag] = forged[HANDLE.tag]! ^ 1;
  assert.equal((await client.getattr(forged)).status, BADHANDLE);
  exports.setUnserved(["/data"]);
  assert.equal((await client.getattr(root)).status, JUKEBOX, "its file system is not served now: ask again");
  exports.setUnserved([]);
  exports.add({ path: "/data", fileSystem: fs, rules: [RW] });
  assert.equal((await client.getattr(root)).status, 0);
});

test("an unexpected error is SERVERFAULT and one line in the log, now or later", async (t) => {
  const unexpected: unknown[] = [];
  const { client, root, fs, log } = await openRig(t, { onUnexpected: (error) => unexpected.push(error) });
  const { getattr } = fs;
  fs.getattr = () => {
    throw new TypeError("our own mistake");
  };
  assert.equal((await client.getattr(root)).status, SERVERFAULT);
  fs.getattr = getattr;
  fs.hold = () => Promise.reject(new TypeError("later"));
  assert.equal((await client.create(root, "f")).status, SERVERFAULT);
  assert.deepEqual([log.errors.length, unexpected.length], [2, 2]);
});

test("an unusual credential body with a long machine name serves as well", async (t) => {
  const { client, root } = await openRig(t);
  const body = authSysBody({ uid: 3, gid: 4, groups: [] }, "h".repeat(200));
  const credential = encode((w) => {
    w.u32(1);
    w.opaque(body);
    w.u32(0);
    w.u32(0);
  });
  const { status } = await client.call(
    Proc.getattr,
    encode((w) => w.opaque(root)),
    { auth: credential },
  );
  assert.equal(status, 0);
});
