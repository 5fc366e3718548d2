import { connect, type Socket } from "node:net";
import { XdrReader } from "../../src/protocol/xdr/reader.js";
import { XdrWriter } from "../../src/protocol/xdr/writer.js";

/** A small RPC and NFSv3 client for tests: raw calls, helpers for every procedure, and ways to send what no client should. */

export const NFS = 100003;
export const MOUNT = 100005;
export const PORTMAP = 100000;

/** By procedure number. */
export const Proc = {
  null: 0,
  getattr: 1,
  setattr: 2,
  lookup: 3,
  access: 4,
  readlink: 5,
  read: 6,
  write: 7,
  create: 8,
  mkdir: 9,
  symlink: 10,
  mknod: 11,
  remove: 12,
  rmdir: 13,
  rename: 14,
  link: 15,
  readdir: 16,
  readdirplus: 17,
  fsstat: 18,
  fsinfo: 19,
  pathconf: 20,
  commit: 21,
} as const;

export interface AuthSys {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

export const ROOT: AuthSys = { uid: 0, gid: 0, groups: [] };

export interface CallOptions {
  readonly program?: number;
  readonly version?: number;
  readonly rpcVersion?: number;
  readonly xid?: number;
  /** null: AUTH_NONE. A Buffer: credential and verifier as they are. */
  readonly auth?: AuthSys | null | Buffer;
}

/** A reply, decoded up to its results. */
export interface Reply {
  readonly xid: number;
  /** 0 accepted, 1 denied. */
  readonly denied: boolean;
  /** accept_stat, or reject_stat when denied. */
  readonly status: number;
  /** Stands at the results (or at versions, or auth_stat). */
  readonly body: XdrReader;
}

export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface Fattr {
  readonly type: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly used: number;
  readonly rdev: readonly [number, number];
  readonly fsid: number;
  readonly fileid: number;
  readonly atime: Time;
  readonly mtime: Time;
  readonly ctime: Time;
}

export interface Wcc {
  readonly before: { size: number; mtime: Time; ctime: Time } | null;
  readonly after: Fattr | null;
}

export interface Sattr {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: Time | "now";
  readonly mtime?: Time | "now";
}

export function encode(write: (w: XdrWriter) => void): Buffer {
  const w = new XdrWriter();
  write(w);
  return Buffer.from(w.bytes());
}

/** One fragment that is the whole record. */
export function frame(record: Buffer): Buffer {
  const mark = Buffer.alloc(4);
  mark.writeUInt32BE(0x80000000 + record.length);
  return Buffer.concat([mark, record]);
}

export function authSysBody(auth: AuthSys, machine = "test"): Buffer {
  return encode((w) => {
    w.u32(0);
    w.text(machine);
    w.u32(auth.uid);
    w.u32(auth.gid);
    w.u32(auth.groups.length);
    for (const gid of auth.groups) w.u32(gid);
  });
}

export function encodeCall(xid: number, procedure: number, args: Buffer, options: CallOptions = {}): Buffer {
  const { auth = ROOT } = options;
  return encode((w) => {
    for (const value of [xid, 0, options.rpcVersion ?? 2, options.program ?? NFS, options.version ?? 3, procedure])
      w.u32(value);
    if (Buffer.isBuffer(auth)) w.fixed(auth);
    else {
      w.u32(auth === null ? 0 : 1);
      w.opaque(auth === null ? Buffer.alloc(0) : authSysBody(auth));
      w.u32(0);
      w.u32(0);
    }
    w.fixed(args);
  });
}

export class NfsClient {
  readonly #waiting = new Map<number, { resolve: (reply: Reply) => void; reject: (error: Error) => void }>();
  #received: Buffer = Buffer.alloc(0);
  #nextXid = 1;
  /** Xids in the order of the replies. */
  readonly replyOrder: number[] = [];
  auth: AuthSys | null = ROOT;
  /** Resolves when the connection is gone. */
  readonly closed: Promise<void>;
  #isClosed = false;

  private constructor(readonly socket: Socket) {
    socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    socket.on("error", () => {});
    this.closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#isClosed = true;
        for (const { reject } of this.#waiting.values()) reject(new Error("connection closed"));
        this.#waiting.clear();
        resolve();
      });
    });
  }

  /** @param from  our own address; the loopback has many */
  static connect(port: number, host = "127.0.0.1", from = "127.0.0.1"): Promise<NfsClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true, ...(host === "127.0.0.1" && { localAddress: from }) });
      socket.once("error", reject);
      socket.once("connect", () => resolve(new NfsClient(socket)));
    });
  }

  async close(): Promise<void> {
    this.socket.destroy();
    await this.closed;
  }

  /** Send bytes as they are. */
  send(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** As a real client: another connection from the same address does not repeat the calls of an earlier one. */
  beginXidsAt(xid: number): void {
    this.#nextXid = xid;
  }

  nextXid(): number {
    return this.#nextXid++;
  }

  /** The reply with this xid, whenever it comes. @throws when none comes in time, or the connection is gone, also when it was gone before */
  reply(xid: number, timeoutMs = 5000): Promise<Reply> {
    if (this.#isClosed) return Promise.reject(new Error("connection closed"));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to xid ${xid} in ${timeoutMs} ms`)), timeoutMs);
      const settle =
        <T>(action: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer);
          action(value);
        };
      this.#waiting.set(xid, { resolve: settle(resolve), reject: settle(reject) });
    });
  }

  call(procedure: number, args: Buffer, options: CallOptions = {}): Promise<Reply> {
    const xid = options.xid ?? this.nextXid();
    const answer = this.reply(xid);
    this.send(frame(encodeCall(xid, procedure, args, { auth: this.auth, ...options })));
    return answer;
  }

  /** An NFSv3 call that RPC accepts. @returns nfsstat3 and a reader that stands behind it */
  async nfs(procedure: number, args: Buffer): Promise<{ status: number; body: XdrReader }> {
    const reply = await this.call(procedure, args);
    if (reply.denied || reply.status !== 0) throw new Error(`RPC status ${reply.status} (denied: ${reply.denied})`);
    return { status: reply.body.u32(), body: reply.body };
  }

  /** MNT. @returns mountstat3 and the handle */
  async mount(path: string): Promise<{ status: number; handle: Buffer; flavors: number[] }> {
    const { body } = await this.call(
      1,
      encode((w) => w.text(path)),
      { program: MOUNT },
    );
    const status = body.u32();
    if (status !== 0) return { status, handle: Buffer.alloc(0), flavors: [] };
    const handle = Buffer.from(body.opaque(64));
    return { status, handle, flavors: Array.from({ length: body.u32() }, () => body.u32()) };
  }

  async getattr(handle: Buffer): Promise<{ status: number; attributes: Fattr | null }> {
    const { status, body } = await this.nfs(
      Proc.getattr,
      encode((w) => w.opaque(handle)),
    );
    return { status, attributes: status === 0 ? readFattr(body) : null };
  }

  async setattr(handle: Buffer, set: Sattr, guard?: Time): Promise<{ status: number; wcc: Wcc }> {
    const args = encode((w) => {
      w.opaque(handle);
      writeSattr(w, set);
      w.bool(guard !== undefined);
      if (guard !== undefined) writeTime(w, guard);
    });
    const { status, body } = await this.nfs(Proc.setattr, args);
    return { status, wcc: readWcc(body) };
  }

  async lookup(directory: Buffer, name: string | Buffer) {
    const { status, body } = await this.nfs(Proc.lookup, diropArgs(directory, name));
    if (status !== 0) return { status, handle: Buffer.alloc(0), attributes: null, directory: readPostOp(body) };
    const handle = Buffer.from(body.opaque(64));
    return { status, handle, attributes: readPostOp(body), directory: readPostOp(body) };
  }

  async access(handle: Buffer, wanted: number) {
    const { status, body } = await this.nfs(
      Proc.access,
      encode((w) => {
        w.opaque(handle);
        w.u32(wanted);
      }),
    );
    const attributes = readPostOp(body);
    return { status, attributes, granted: status === 0 ? body.u32() : 0 };
  }

  async readlink(handle: Buffer) {
    const { status, body } = await this.nfs(
      Proc.readlink,
      encode((w) => w.opaque(handle)),
    );
    const attributes = readPostOp(body);
    return { status, attributes, target: status === 0 ? body.opaque(8192).toString("latin1") : "" };
  }

  async read(handle: Buffer, offset: number | bigint, count: number) {
    const { status, body } = await this.nfs(
      Proc.read,
      encode((w) => {
        w.opaque(handle);
        writeU64(w, offset);
        w.u32(count);
      }),
    );
    const attributes = readPostOp(body);
    if (status !== 0) return { status, attributes, count: 0, eof: false, data: Buffer.alloc(0) };
    return { status, attributes, count: body.u32(), eof: body.bool(), data: Buffer.from(body.opaque(2 ** 21)) };
  }

  async write(handle: Buffer, offset: number | bigint, data: Buffer, stable = 2, count = data.length) {
    const args = encode((w) => {
      w.opaque(handle);
      writeU64(w, offset);
      w.u32(count);
      w.u32(stable);
      w.opaque(data);
    });
    const { status, body } = await this.nfs(Proc.write, args);
    const wcc = readWcc(body);
    if (status !== 0) return { status, wcc, count: 0, committed: -1, verifier: Buffer.alloc(0) };
    return { status, wcc, count: body.u32(), committed: body.u32(), verifier: Buffer.from(body.fixed(8)) };
  }

  async commit(handle: Buffer, offset: number | bigint = 0, count = 0) {
    const { status, body } = await this.nfs(
      Proc.commit,
      encode((w) => {
        w.opaque(handle);
        writeU64(w, offset);
        w.u32(count);
      }),
    );
    const wcc = readWcc(body);
    return { status, wcc, verifier: status === 0 ? Buffer.from(body.fixed(8)) : Buffer.alloc(0) };
  }

  /** how: a Buffer of 8 bytes is the verifier of an exclusive create. */
  create(directory: Buffer, name: string | Buffer, how: Sattr | Buffer = {}, guarded = false): Promise<CreatedReply> {
    return this.#created(Proc.create, (w) => {
      w.fixed(diropArgs(directory, name));
      w.u32(Buffer.isBuffer(how) ? 2 : guarded ? 1 : 0);
      if (Buffer.isBuffer(how)) w.fixed(how);
      else writeSattr(w, how);
    });
  }

  mkdir(directory: Buffer, name: string | Buffer, set: Sattr = {}): Promise<CreatedReply> {
    return this.#created(Proc.mkdir, (w) => {
      w.fixed(diropArgs(directory, name));
      writeSattr(w, set);
    });
  }

  symlink(directory: Buffer, name: string | Buffer, target: string | Buffer, set: Sattr = {}): Promise<CreatedReply> {
    return this.#created(Proc.symlink, (w) => {
      w.fixed(diropArgs(directory, name));
      writeSattr(w, set);
      w.opaque(Buffer.from(target));
    });
  }

  /** type: ftype3. */
  mknod(directory: Buffer, name: string, type: number, rdev: readonly [number, number] = [0, 0], set: Sattr = {}) {
    return this.#created(Proc.mknod, (w) => {
      w.fixed(diropArgs(directory, name));
      w.u32(type);
      if (type === 3 || type === 4 || type === 6 || type === 7) writeSattr(w, set);
      if (type === 3 || type === 4) for (const value of rdev) w.u32(value);
    });
  }

  async remove(directory: Buffer, name: string | Buffer): Promise<{ status: number; wcc: Wcc }> {
    const { status, body } = await this.nfs(Proc.remove, diropArgs(directory, name));
    return { status, wcc: readWcc(body) };
  }

  async rmdir(directory: Buffer, name: string | Buffer): Promise<{ status: number; wcc: Wcc }> {
    const { status, body } = await this.nfs(Proc.rmdir, diropArgs(directory, name));
    return { status, wcc: readWcc(body) };
  }

  async rename(from: Buffer, fromName: string | Buffer, to: Buffer, toName: string | Buffer) {
    const { status, body } = await this.nfs(
      Proc.rename,
      Buffer.concat([diropArgs(from, fromName), diropArgs(to, toName)]),
    );
    return { status, from: readWcc(body), to: readWcc(body) };
  }

  async link(file: Buffer, directory: Buffer, name: string | Buffer) {
    const { status, body } = await this.nfs(
      Proc.link,
      encode((w) => {
        w.opaque(file);
        w.fixed(diropArgs(directory, name));
      }),
    );
    return { status, file: readPostOp(body), directory: readWcc(body) };
  }

  async readdir(directory: Buffer, cookie: number | bigint, verifier: Buffer, count: number) {
    const args = encode((w) => {
      w.opaque(directory);
      writeU64(w, cookie);
      w.fixed(verifier);
      w.u32(count);
    });
    return readList(await this.nfs(Proc.readdir, args), false);
  }

  async readdirplus(directory: Buffer, cookie: number | bigint, verifier: Buffer, dircount: number, maxcount: number) {
    const args = encode((w) => {
      w.opaque(directory);
      writeU64(w, cookie);
      w.fixed(verifier);
      w.u32(dircount);
      w.u32(maxcount);
    });
    return readList(await this.nfs(Proc.readdirplus, args), true);
  }

  async #created(procedure: number, write: (w: XdrWriter) => void): Promise<CreatedReply> {
    const { status, body } = await this.nfs(procedure, encode(write));
    if (status !== 0) return { status, handle: Buffer.alloc(0), attributes: null, wcc: readWcc(body) };
    const handle = body.bool() ? Buffer.from(body.opaque(64)) : Buffer.alloc(0);
    return { status, handle, attributes: readPostOp(body), wcc: readWcc(body) };
  }

  #onData(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    while (this.#received.length >= 4) {
      const end = 4 + (this.#received.readUInt32BE(0) & 0x7fffffff);
      if (this.#received.length < end) return;
      this.#onRecord(this.#received.subarray(4, end));
      this.#received = this.#received.subarray(end);
    }
  }

  #onRecord(record: Buffer): void {
    const body = new XdrReader(record);
    const xid = body.u32();
    this.replyOrder.push(xid);
    const waiting = this.#waiting.get(xid);
    this.#waiting.delete(xid);
    body.u32(); // REPLY
    const denied = body.u32() === 1;
    if (!denied) {
      body.u32();
      body.opaque(400);
    }
    waiting?.resolve({ xid, denied, status: body.u32(), body });
  }
}

export interface CreatedReply {
  readonly status: number;
  readonly handle: Buffer;
  readonly attributes: Fattr | null;
  readonly wcc: Wcc;
}

export interface ListEntry {
  readonly fileid: number;
  readonly name: string;
  readonly cookie: number;
  readonly attributes: Fattr | null;
  readonly handle: Buffer | null;
}

export function diropArgs(directory: Buffer, name: string | Buffer): Buffer {
  return encode((w) => {
    w.opaque(directory);
    w.opaque(Buffer.from(name));
  });
}

export function writeU64(w: XdrWriter, value: number | bigint): void {
  w.bigU64(BigInt(value));
}

export function writeTime(w: XdrWriter, time: Time): void {
  w.u32(time.seconds);
  w.u32(time.nanoseconds);
}

export function writeSattr(w: XdrWriter, set: Sattr): void {
  for (const value of [set.mode, set.uid, set.gid]) {
    w.bool(value !== undefined);
    if (value !== undefined) w.u32(value);
  }
  w.bool(set.size !== undefined);
  if (set.size !== undefined) writeU64(w, set.size);
  for (const time of [set.atime, set.mtime]) {
    w.u32(time === undefined ? 0 : time === "now" ? 1 : 2);
    if (typeof time === "object") writeTime(w, time);
  }
}

export function readTime(r: XdrReader): Time {
  return { seconds: r.u32(), nanoseconds: r.u32() };
}

export function readFattr(r: XdrReader): Fattr {
  const [type, mode, nlink, uid, gid] = Array.from({ length: 5 }, () => r.u32()) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const size = r.u64();
  const used = r.u64();
  const rdev = [r.u32(), r.u32()] as const;
  const fsid = r.u64();
  const fileid = r.u64();
  return {
    ...{ type, mode, nlink, uid, gid, size, used, rdev, fsid, fileid },
    ...{ atime: readTime(r), mtime: readTime(r), ctime: readTime(r) },
  };
}

export function readPostOp(r: XdrReader): Fattr | null {
  return r.bool() ? readFattr(r) : null;
}

export function readWcc(r: XdrReader): Wcc {
  const before = r.bool() ? { size: r.u64(), mtime: readTime(r), ctime: readTime(r) } : null;
  return { before, after: readPostOp(r) };
}

function readList({ status, body }: { status: number; body: XdrReader }, plus: boolean) {
  const start = body.at;
  const attributes = readPostOp(body);
  const entries: ListEntry[] = [];
  if (status !== 0) return { status, attributes, entries, verifier: Buffer.alloc(8), eof: false, resokBytes: 0 };
  const verifier = Buffer.from(body.fixed(8));
  while (body.bool()) {
    const entry = { fileid: body.u64(), name: body.opaque(255).toString("latin1"), cookie: body.u64() };
    const own = plus ? readPostOp(body) : null;
    entries.push({ ...entry, attributes: own, handle: plus && body.bool() ? Buffer.from(body.opaque(64)) : null });
  }
  const eof = body.bool();
  return { status, attributes, entries, verifier, eof, resokBytes: body.at - start };
}
