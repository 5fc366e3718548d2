import { dotName } from "../../src/fs/names.js";
import {
  Access,
  type Attributes,
  type Change,
  type Created,
  type CreateHow,
  type Credentials,
  type DirectoryEntry,
  type DirectoryPage,
  type FileId,
  FileKind,
  type FileSystem,
  type KeptReplies,
  LIMITS,
  NO_REPLIES,
  type ReadResult,
  type SetAttributes,
  type SpaceUsage,
  type Stability,
  type WriteResult,
} from "../../src/fs/vfs.js";
import { BuddyMemory } from "../../src/lib/buddy-memory.js";
import { type Clock, SystemClock, type Time } from "../../src/lib/clock.js";
import { type Errno, StorageError } from "../../src/lib/errors.js";
import { memoryLocks } from "./memory-locks.js";

const EXTENT_BYTES = 8192;

/** An inode. Data lies in extents of 8 KiB; one that is absent is a hole. */
class Node {
  mode = 0;
  nlink = 1;
  uid = 0;
  gid = 0;
  sizeBytes = 0;
  atime: Time;
  mtime: Time;
  ctime: Time;
  rdev = { major: 0, minor: 0 };
  linkTarget = Buffer.alloc(0);
  verifier: Buffer | null = null;
  readonly extents = new Map<number, Buffer>();
  /** Directories: names as latin1 text, which is one character a byte; in order of cookies, for a new entry goes to the end. */
  readonly entries = new Map<string, { ino: number; cookie: number }>();
  parent: Node = this;
  nextCookie = 3;

  constructor(
    readonly ino: number,
    readonly kind: FileKind,
    now: Time,
  ) {
    this.atime = now;
    this.mtime = now;
    this.ctime = now;
  }
}

function fail(code: Errno): never {
  throw new StorageError(code, `memory file system: ${code}`);
}

export interface MemoryFsOptions {
  readonly id?: number;
  readonly clock?: Clock;
  readonly capacityBytes?: number;
}

/**
 * A file system in memory, simple and right: what the protocols are tested on. `hold` makes reads and commits wait, so that a test can
 * decide in which order requests finish.
 */
export class MemoryFileSystem implements FileSystem {
  readonly id: number;
  readonly name = "memory";
  readonly handleKey = Buffer.alloc(32, 0x5a);
  writeVerifier = Buffer.from("memory-1");
  readonly root: FileId;
  /** When set: what a read, a mutation or a commit waits for. */
  hold: ((operation: string) => Promise<void> | undefined) | null = null;
  /** Mutations that were applied, by name: to see that a repeated request is not done again. */
  readonly applied = new Map<string, number>();
  readonly readMemory = new BuddyMemory(Buffer.alloc(0));
  readonly locks = memoryLocks(
    (id) => this.#file(id),
    () => this.#durable("lock", undefined),
  );
  readonly #nodes = new Map<number, Node>();
  readonly #clock: Clock;
  readonly #capacityBytes: number;
  #usedBytes = 0;
  #nextIno = 2;

  constructor(options: MemoryFsOptions = {}) {
    this.id = options.id ?? 7;
    this.#clock = options.clock ?? new SystemClock();
    this.#capacityBytes = options.capacityBytes ?? 2 ** 40;
    const root = new Node(1, FileKind.directory, this.#clock.wallTime());
    root.mode = 0o777;
    root.nlink = 2;
    this.#nodes.set(1, root);
    this.root = { ino: 1, generation: 1 };
  }

  getattr(id: FileId): Attributes {
    return this.#attributes(this.#node(id));
  }

  setattr(cred: Credentials, id: FileId, set: SetAttributes, guardCtime?: Time): Promise<Change> {
    const node = this.#node(id);
    const { ctime } = node;
    const guarded = guardCtime !== undefined;
    if (guarded && (guardCtime.seconds !== ctime.seconds || guardCtime.nanoseconds !== ctime.nanoseconds))
      fail("ENOTSYNC");
    this.#maySet(cred, node, set);
    const change = this.#change(node, () => this.#apply(node, set));
    return this.#durable("setattr", change);
  }

  access(cred: Credentials, id: FileId, wanted: number): { granted: number; attributes: Attributes } {
    const node = this.#node(id);
    const bits = this.#bits(cred, node);
    const directory = node.kind === FileKind.directory;
    let granted = 0;
    if (bits & 4) granted |= Access.read;
    if (bits & 2) granted |= Access.modify | Access.extend | (directory ? Access.delete : 0);
    if (bits & 1) granted |= directory ? Access.lookup : Access.execute;
    return { granted: granted & wanted, attributes: this.#attributes(node) };
  }

  lookup(cred: Credentials, directory: FileId, name: Buffer): Attributes {
    const node = this.#directory(directory);
    this.#need(cred, node, 1);
    this.#checkName(name);
    const text = name.toString("latin1");
    if (text === ".") return this.#attributes(node);
    if (text === "..") return this.#attributes(node.parent);
    const entry = node.entries.get(text) ?? fail("ENOENT");
    return this.#attributes(this.#nodes.get(entry.ino)!);
  }

  readlink(_cred: Credentials, id: FileId): { target: Buffer; attributes: Attributes } {
    const node = this.#node(id);
    if (node.kind !== FileKind.symlink) fail("EINVAL");
    return { target: node.linkTarget, attributes: this.#attributes(node) };
  }

  read(cred: Credentials, id: FileId, offset: number, target: Buffer): ReadResult | Promise<ReadResult> {
    const node = this.#file(id);
    if ((this.#bits(cred, node) & 5) === 0) fail("EACCES");
    const held = this.hold?.("read");
    const result = this.#read(node, offset, target);
    return held === undefined ? result : held.then(() => result);
  }

  write(
    cred: Credentials,
    id: FileId,
    offset: number,
    source: Buffer,
    stability: Stability,
  ): WriteResult | Promise<WriteResult> {
    const node = this.#file(id);
    if (cred.uid !== node.uid) this.#need(cred, node, 2);
    if (offset + source.length > LIMITS.fileBytesMax) fail("EFBIG");
    const change = this.#change(node, () => this.#store(node, offset, source));
    const result = { count: source.length, stability, change };
    return stability === "unstable" ? result : this.#durable("write", result);
  }

  commit(_cred: Credentials, id: FileId, _offset: number, _count: number): Promise<Change> {
    const attributes = this.#attributes(this.#file(id));
    return this.#durable("commit", { before: attributes, after: attributes });
  }

  create(cred: Credentials, directory: FileId, name: Buffer, how: CreateHow): Promise<Created> {
    const node = this.#directory(directory);
    this.#checkName(name);
    this.#need(cred, node, 1);
    const existing = this.#existing(node, name);
    if (existing !== null) return this.#durable("create", this.#reopen(cred, node, existing, how));
    const set = how.mode === "exclusive" ? {} : how.attributes;
    const made = this.#make(cred, node, name, FileKind.file, set, 0o644);
    if (how.mode === "exclusive") this.#nodes.get(made.attributes.ino)!.verifier = how.verifier;
    return this.#durable("create", made);
  }

  mkdir(cred: Credentials, directory: FileId, name: Buffer, set: SetAttributes): Promise<Created> {
    return this.#new("mkdir", cred, directory, name, FileKind.directory, set, 0o755);
  }

  symlink(cred: Credentials, directory: FileId, name: Buffer, target: Buffer, set: SetAttributes): Promise<Created> {
    return this.#new("symlink", cred, directory, name, FileKind.symlink, set, 0o777, (node) => {
      node.linkTarget = Buffer.from(target);
      node.sizeBytes = target.length;
    });
  }

  mknod(
    cred: Credentials,
    directory: FileId,
    name: Buffer,
    kind: FileKind,
    rdev: { major: number; minor: number },
    set: SetAttributes,
  ): Promise<Created> {
    const device = kind === FileKind.block || kind === FileKind.character;
    if (device && cred.uid !== 0) fail("EPERM");
    return this.#new("mknod", cred, directory, name, kind, set, 0o644, (node) => {
      node.rdev = rdev;
    });
  }

  link(
    cred: Credentials,
    id: FileId,
    directory: FileId,
    name: Buffer,
  ): Promise<{ file: Attributes; directory: Change }> {
    const node = this.#node(id);
    const parent = this.#directory(directory);
    if (node.kind === FileKind.directory) fail("EISDIR");
    this.#checkName(name);
    this.#need(cred, parent, 3);
    if (this.#existing(parent, name) !== null) fail("EEXIST");
    const change = this.#changeEntries(parent, () => this.#enter(parent, name, node));
    node.nlink++;
    node.ctime = this.#clock.wallTime();
    return this.#durable("link", { file: this.#attributes(node), directory: change });
  }

  remove(cred: Credentials, directory: FileId, name: Buffer): Promise<Change> {
    const { parent, node } = this.#victim(cred, directory, name);
    if (node.kind === FileKind.directory) fail("EISDIR");
    const change = this.#changeEntries(parent, () => parent.entries.delete(name.toString("latin1")));
    this.#unlink(node);
    return this.#durable("remove", change);
  }

  rmdir(cred: Credentials, directory: FileId, name: Buffer): Promise<Change> {
    const text = name.toString("latin1");
    if (text === ".") fail("EINVAL");
    if (text === "..") fail("ENOTEMPTY");
    const { parent, node } = this.#victim(cred, directory, name);
    if (node.kind !== FileKind.directory) fail("ENOTDIR");
    if (node.entries.size > 0) fail("ENOTEMPTY");
    const change = this.#changeEntries(parent, () => {
      parent.entries.delete(text);
      parent.nlink--;
    });
    this.#nodes.delete(node.ino);
    return this.#durable("rmdir", change);
  }

  rename(
    cred: Credentials,
    from: FileId,
    fromName: Buffer,
    to: FileId,
    toName: Buffer,
  ): Promise<{ from: Change; to: Change }> {
    const { parent: source, node } = this.#victim(cred, from, fromName);
    const target = this.#directory(to);
    this.#checkName(toName);
    this.#need(cred, target, 3);
    if (dotName(fromName) !== null || dotName(toName) !== null) fail("EINVAL");
    const existing = this.#existing(target, toName);
    if (existing !== null && existing !== node) this.#mayReplace(node, existing);
    if (node.kind === FileKind.directory && isBelow(target, node)) fail("EINVAL");
    if (existing === node) {
      const same = (n: Node) => this.#change(n, () => {});
      return this.#durable("rename", { from: same(source), to: same(target) });
    }
    const changes = this.#changeBoth(source, target, () =>
      this.#move(source, fromName, target, toName, node, existing),
    );
    return this.#durable("rename", changes);
  }

  readdir(cred: Credentials, directory: FileId, cookie: number, limit: number, withAttributes: boolean): DirectoryPage {
    const node = this.#directory(directory);
    this.#need(cred, node, 4);
    if (cookie >= node.nextCookie && cookie > 2) fail("EBADCOOKIE");
    const all: DirectoryEntry[] = [];
    const add = (text: string, child: Node, at: number) => {
      if (at <= cookie) return;
      const entry = { ino: child.ino, name: Buffer.from(text, "latin1"), cookie: at };
      all.push(withAttributes ? { ...entry, attributes: this.#attributes(child) } : entry);
    };
    add(".", node, 1);
    add("..", node.parent, 2);
    for (const [text, entry] of node.entries) {
      if (all.length > limit) break;
      add(text, this.#nodes.get(entry.ino)!, entry.cookie);
    }
    const entries = all.slice(0, limit);
    return { entries, endOfDirectory: entries.length === all.length, attributes: this.#attributes(node) };
  }

  space(): SpaceUsage {
    const freeBytes = this.#capacityBytes - this.#usedBytes;
    return {
      totalBytes: this.#capacityBytes,
      freeBytes,
      availableBytes: freeBytes,
      totalFiles: 1e6,
      freeFiles: 1e6 - this.#nodes.size,
    };
  }

  // --- inodes and permissions

  #node(id: FileId): Node {
    const node = this.#nodes.get(id.ino);
    return node === undefined || id.generation !== 1 ? fail("ESTALE") : node;
  }

  #directory(id: FileId): Node {
    const node = this.#node(id);
    return node.kind === FileKind.directory ? node : fail("ENOTDIR");
  }

  #file(id: FileId): Node {
    const node = this.#node(id);
    if (node.kind === FileKind.directory) fail("EISDIR");
    return node.kind === FileKind.file ? node : fail("EINVAL");
  }

  #attributes(n: Node): Attributes {
    return {
      ino: n.ino,
      generation: 1,
      kind: n.kind,
      mode: n.mode,
      nlink: n.nlink,
      uid: n.uid,
      gid: n.gid,
      sizeBytes: n.sizeBytes,
      usedBytes: n.extents.size * EXTENT_BYTES,
      rdevMajor: n.rdev.major,
      rdevMinor: n.rdev.minor,
      atime: n.atime,
      mtime: n.mtime,
      ctime: n.ctime,
    };
  }

  /** rwx that the caller has. */
  #bits(cred: Credentials, node: Node): number {
    if (cred.uid === 0) return node.kind === FileKind.directory || node.mode & 0o111 ? 7 : 6;
    if (cred.uid === node.uid) return (node.mode >> 6) & 7;
    if (cred.gid === node.gid || cred.groups.includes(node.gid)) return (node.mode >> 3) & 7;
    return node.mode & 7;
  }

  #need(cred: Credentials, node: Node, bits: number): void {
    if ((this.#bits(cred, node) & bits) !== bits) fail("EACCES");
  }

  #checkName(name: Buffer): void {
    if (name.length > LIMITS.nameBytesMax) fail("ENAMETOOLONG");
    if (name.length === 0 || name.includes(0) || name.includes(0x2f)) fail("EINVAL");
  }

  #existing(directory: Node, name: Buffer): Node | null {
    if (dotName(name) !== null) fail("EEXIST");
    const entry = directory.entries.get(name.toString("latin1"));
    return entry === undefined ? null : this.#nodes.get(entry.ino)!;
  }

  #victim(cred: Credentials, directory: FileId, name: Buffer): { parent: Node; node: Node } {
    const parent = this.#directory(directory);
    this.#checkName(name);
    this.#need(cred, parent, 3);
    if (dotName(name) !== null) fail("EINVAL");
    const node = this.#existing(parent, name) ?? fail("ENOENT");
    const sticky = (parent.mode & 0o1000) !== 0 && cred.uid !== 0;
    if (sticky && cred.uid !== parent.uid && cred.uid !== node.uid) fail("EPERM");
    return { parent, node };
  }

  #maySet(cred: Credentials, node: Node, set: SetAttributes): void {
    if (set.sizeBytes !== undefined && node.kind === FileKind.directory) fail("EISDIR");
    if (set.sizeBytes !== undefined && node.kind !== FileKind.file) fail("EINVAL");
    if (cred.uid === 0) return;
    const owner = cred.uid === node.uid;
    if (set.uid !== undefined && set.uid !== node.uid) fail("EPERM");
    if (set.gid !== undefined && !(owner && [cred.gid, ...cred.groups].includes(set.gid))) fail("EPERM");
    if (set.mode !== undefined && !owner) fail("EPERM");
    if (set.sizeBytes !== undefined && !owner) this.#need(cred, node, 2);
    const exactTimes = typeof set.atime === "object" || typeof set.mtime === "object";
    if (exactTimes && !owner) fail("EPERM");
    if ((set.atime === "now" || set.mtime === "now") && !owner) this.#need(cred, node, 2);
  }

  keepReply(): void {}

  takeKeptReplies(): KeptReplies {
    return NO_REPLIES;
  }

  // --- changes

  #durable<T>(operation: string, value: T): Promise<T> {
    this.applied.set(operation, (this.applied.get(operation) ?? 0) + 1);
    const held = this.hold?.(operation);
    return held === undefined ? Promise.resolve(value) : held.then(() => value);
  }

  #change(node: Node, action: () => void): Change {
    const before = { sizeBytes: node.sizeBytes, mtime: node.mtime, ctime: node.ctime };
    action();
    return { before, after: this.#attributes(node) };
  }

  #changeEntries(directory: Node, action: () => void): Change {
    return this.#change(directory, () => {
      action();
      this.#touch(directory);
    });
  }

  #changeBoth(source: Node, target: Node, action: () => void): { from: Change; to: Change } {
    let to: Change | null = null;
    const from = this.#change(source, () => {
      to = this.#change(target, () => {
        action();
        this.#touch(source);
        this.#touch(target);
      });
    });
    return { from, to: to ?? from };
  }

  #touch(node: Node): void {
    node.mtime = this.#clock.wallTime();
    node.ctime = node.mtime;
  }

  #apply(node: Node, set: SetAttributes): void {
    const now = this.#clock.wallTime();
    if (set.mode !== undefined) node.mode = set.mode;
    if (set.uid !== undefined) node.uid = set.uid;
    if (set.gid !== undefined) node.gid = set.gid;
    if (set.sizeBytes !== undefined) {
      this.#truncate(node, set.sizeBytes);
      node.mtime = now;
    }
    if (set.atime !== undefined) node.atime = set.atime === "now" ? now : set.atime;
    if (set.mtime !== undefined) node.mtime = set.mtime === "now" ? now : set.mtime;
    node.ctime = now;
  }

  #reopen(cred: Credentials, parent: Node, existing: Node, how: CreateHow): Created {
    if (how.mode === "guarded") fail("EEXIST");
    if (how.mode === "exclusive") {
      if (existing.verifier?.equals(how.verifier) !== true) fail("EEXIST");
    } else {
      if (existing.kind !== FileKind.file) fail("EEXIST");
      const { sizeBytes } = how.attributes;
      if (sizeBytes !== undefined) {
        this.#maySet(cred, existing, { sizeBytes });
        this.#apply(existing, { sizeBytes });
      }
    }
    return { attributes: this.#attributes(existing), directory: this.#change(parent, () => {}) };
  }

  #make(cred: Credentials, parent: Node, name: Buffer, kind: FileKind, set: SetAttributes, mode: number): Created {
    this.#need(cred, parent, 3);
    const node = new Node(this.#nextIno++, kind, this.#clock.wallTime());
    node.mode = mode;
    node.uid = cred.uid;
    node.gid = cred.gid;
    this.#apply(node, set);
    if (kind === FileKind.directory) {
      node.nlink = 2;
      node.parent = parent;
    }
    this.#nodes.set(node.ino, node);
    const directory = this.#changeEntries(parent, () => {
      this.#enter(parent, name, node);
      if (kind === FileKind.directory) parent.nlink++;
    });
    return { attributes: this.#attributes(node), directory };
  }

  async #new(
    operation: string,
    cred: Credentials,
    directory: FileId,
    name: Buffer,
    kind: FileKind,
    set: SetAttributes,
    mode: number,
    prepare: (node: Node) => void = () => {},
  ): Promise<Created> {
    const parent = this.#directory(directory);
    this.#checkName(name);
    if (this.#existing(parent, name) !== null) fail("EEXIST");
    const made = this.#make(cred, parent, name, kind, set, mode);
    const node = this.#nodes.get(made.attributes.ino)!;
    prepare(node);
    return this.#durable(operation, { ...made, attributes: this.#attributes(node) });
  }

  #enter(directory: Node, name: Buffer, node: Node): void {
    directory.entries.set(name.toString("latin1"), { ino: node.ino, cookie: directory.nextCookie++ });
  }

  #unlink(node: Node): void {
    node.ctime = this.#clock.wallTime();
    if (--node.nlink > 0) return;
    this.#usedBytes -= node.extents.size * EXTENT_BYTES;
    this.#nodes.delete(node.ino);
    this.locks.forget(node.ino);
  }

  #mayReplace(node: Node, existing: Node): void {
    const directory = node.kind === FileKind.directory;
    if (directory && existing.kind !== FileKind.directory) fail("ENOTDIR");
    if (!directory && existing.kind === FileKind.directory) fail("EISDIR");
    if (existing.entries.size > 0) fail("ENOTEMPTY");
  }

  #move(source: Node, fromName: Buffer, target: Node, toName: Buffer, node: Node, existing: Node | null): void {
    if (existing !== null) {
      target.entries.delete(toName.toString("latin1"));
      if (existing.kind === FileKind.directory) {
        this.#nodes.delete(existing.ino);
        target.nlink--;
      } else this.#unlink(existing);
    }
    source.entries.delete(fromName.toString("latin1"));
    this.#enter(target, toName, node);
    node.ctime = this.#clock.wallTime();
    if (node.kind !== FileKind.directory) return;
    node.parent = target;
    source.nlink--;
    target.nlink++;
  }

  // --- data

  #read(node: Node, offset: number, target: Buffer): ReadResult {
    const count = Math.max(0, Math.min(target.length, node.sizeBytes - offset));
    for (let done = 0; done < count; ) {
      const at = offset + done;
      const within = at % EXTENT_BYTES;
      const piece = Math.min(count - done, EXTENT_BYTES - within);
      const extent = node.extents.get(Math.floor(at / EXTENT_BYTES));
      if (extent === undefined) target.fill(0, done, done + piece);
      else extent.copy(target, done, within, within + piece);
      done += piece;
    }
    return { count, endOfFile: offset + count >= node.sizeBytes, attributes: this.#attributes(node) };
  }

  #store(node: Node, offset: number, source: Buffer): void {
    const first = Math.floor(offset / EXTENT_BYTES);
    const last = Math.floor((offset + source.length - 1) / EXTENT_BYTES);
    let missing = 0;
    for (let i = first; i <= last; i++) if (!node.extents.has(i)) missing++;
    if (this.#usedBytes + missing * EXTENT_BYTES > this.#capacityBytes) fail("ENOSPC");
    this.#usedBytes += missing * EXTENT_BYTES;
    for (let done = 0; done < source.length; ) {
      const at = offset + done;
      const within = at % EXTENT_BYTES;
      const piece = Math.min(source.length - done, EXTENT_BYTES - within);
      const index = Math.floor(at / EXTENT_BYTES);
      const extent = node.extents.get(index) ?? Buffer.alloc(EXTENT_BYTES);
      node.extents.set(index, extent);
      source.copy(extent, within, done, done + piece);
      done += piece;
    }
    if (source.length === 0) return;
    node.sizeBytes = Math.max(node.sizeBytes, offset + source.length);
    this.#touch(node);
  }

  #truncate(node: Node, sizeBytes: number): void {
    if (sizeBytes > LIMITS.fileBytesMax) fail("EFBIG");
    const keep = Math.ceil(sizeBytes / EXTENT_BYTES);
    for (const index of [...node.extents.keys()]) {
      if (index < keep) continue;
      node.extents.delete(index);
      this.#usedBytes -= EXTENT_BYTES;
    }
    node.extents.get(Math.floor(sizeBytes / EXTENT_BYTES))?.fill(0, sizeBytes % EXTENT_BYTES);
    node.sizeBytes = sizeBytes;
  }
}

/** `directory` is `ancestor` or lies below it. */
function isBelow(directory: Node, ancestor: Node): boolean {
  for (let at = directory; at !== ancestor; at = at.parent) if (at.parent === at) return false;
  return true;
}
