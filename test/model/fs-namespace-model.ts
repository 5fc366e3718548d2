import type { Attributes, Credentials, FileId, SetAttributes } from "../../src/fs/vfs.js";
import { FileKind } from "../../src/fs/vfs.js";
import type { Errno } from "../../src/lib/errors.js";

/**
 * A file system as plain objects, by the book (POSIX, and Linux where POSIX leaves a choice), written without a look at the real one.
 * Operations return an error's name or what they made; they change the model only when they succeed.
 */
export interface ModelNode {
  readonly kind: FileKind;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  data: Buffer;
  target: Buffer;
  verifier: string;
  parent: ModelNode | null;
  /** By the bytes as latin1, in the order of the listing. */
  entries: Map<string, ModelNode>;
  /** The real one's name, once it is known. */
  id: FileId | null;
  /** Bumped when the operation must move the time. */
  modified: number;
  changed: number;
  rdev: { major: number; minor: number };
}

export type Outcome = Errno | { node: ModelNode };

const MODE_DEFAULTS = new Map<number, number>([
  [FileKind.directory, 0o755],
  [FileKind.symlink, 0o777],
]);

function newNode(kind: FileKind): ModelNode {
  return {
    ...{ kind, mode: 0, uid: 0, gid: 0, nlink: 1, data: Buffer.alloc(0), target: Buffer.alloc(0), verifier: "" },
    ...{ parent: null, entries: new Map<string, ModelNode>(), id: null, modified: 0, changed: 0 },
    rdev: { major: 0, minor: 0 },
  };
}

function may(node: ModelNode, cred: Credentials, letters: string): boolean {
  let digit = node.mode & 7;
  const groups = [cred.gid, ...cred.groups];
  if (cred.uid === node.uid) digit = (node.mode >> 6) & 7;
  else if (groups.includes(node.gid)) digit = (node.mode >> 3) & 7;
  const needed = (letters.includes("r") ? 4 : 0) + (letters.includes("w") ? 2 : 0) + (letters.includes("x") ? 1 : 0);
  if (cred.uid === 0) return !letters.includes("x") || node.kind === FileKind.directory || (node.mode & 0o111) > 0;
  return (digit & needed) === needed;
}

function owns(node: ModelNode, cred: Credentials): boolean {
  return cred.uid === 0 || cred.uid === node.uid;
}

function badName(name: string): Errno | null {
  if (name.length === 0) return "EINVAL";
  if (name.length > 255) return "ENAMETOOLONG";
  return name.includes("/") || name.includes("\0") ? "EINVAL" : null;
}

function isDots(name: string): boolean {
  return name === "." || name === "..";
}

function dropIds(mode: number): number {
  const groupRuns = (mode & 0o010) !== 0;
  return mode & (groupRuns ? ~0o6000 : ~0o4000);
}

export class ModelFileSystem {
  readonly dead = new Set<ModelNode>();

  constructor(readonly root: ModelNode) {}

  static empty(root: Attributes): ModelFileSystem {
    const node = newNode(FileKind.directory);
    Object.assign(node, { mode: root.mode, uid: root.uid, gid: root.gid, nlink: 2, id: root, parent: node });
    return new ModelFileSystem(node);
  }

  /** A copy that shares no node. */
  clone(): ModelFileSystem {
    const copies = new Map<ModelNode, ModelNode>();
    const copyOf = (node: ModelNode): ModelNode => {
      const known = copies.get(node);
      if (known !== undefined) return known;
      const copy = { ...node, entries: new Map<string, ModelNode>() };
      copies.set(node, copy);
      for (const [name, child] of node.entries) copy.entries.set(name, copyOf(child));
      copy.parent = node.parent === null ? null : copyOf(node.parent);
      return copy;
    };
    const clone = new ModelFileSystem(copyOf(this.root));
    for (const node of this.dead) clone.dead.add(copyOf(node));
    return clone;
  }

  lookup(cred: Credentials, directory: ModelNode, name: string): Outcome {
    const refusal = this.#directory(directory) ?? badName(name);
    if (refusal !== null) return refusal;
    if (!may(directory, cred, "x")) return "EACCES";
    if (name === ".") return { node: directory };
    const node = name === ".." ? directory.parent : directory.entries.get(name);
    return node ? { node } : "ENOENT";
  }

  create(
    cred: Credentials,
    directory: ModelNode,
    name: string,
    mode: string,
    set: SetAttributes,
    verifier = "",
  ): Outcome {
    const refusal = this.#newName(directory, name);
    if (refusal !== null) return refusal;
    if (!may(directory, cred, "x")) return "EACCES";
    const existing = directory.entries.get(name);
    if (existing !== undefined) {
      if (existing.kind !== FileKind.file || mode === "guarded") return "EEXIST";
      if (mode === "exclusive") return existing.verifier === verifier ? { node: existing } : "EEXIST";
      if (set.sizeBytes === undefined) return { node: existing };
      return this.setattr(cred, existing, { sizeBytes: set.sizeBytes });
    }
    if (!may(directory, cred, "w")) return "EACCES";
    const node = this.#add(cred, directory, name, newNode(FileKind.file), set, mode === "exclusive" ? 0o600 : 0o644);
    node.verifier = verifier;
    node.data = Buffer.alloc(set.sizeBytes ?? 0);
    return { node };
  }

  /** Directories, symlinks, FIFOs, devices. */
  make(
    cred: Credentials,
    directory: ModelNode,
    name: string,
    kind: FileKind,
    set: SetAttributes,
    target = "",
  ): Outcome {
    const refusal = this.#newName(directory, name);
    if (refusal !== null) return refusal;
    if (kind === FileKind.symlink && target === "") return "ENOENT";
    if (!may(directory, cred, "x")) return "EACCES";
    if (directory.entries.has(name)) return "EEXIST";
    if (!may(directory, cred, "w")) return "EACCES";
    const isDevice = kind === FileKind.block || kind === FileKind.character;
    if (isDevice && cred.uid !== 0) return "EPERM";
    const node = this.#add(cred, directory, name, newNode(kind), set, MODE_DEFAULTS.get(kind) ?? 0o644);
    node.target = Buffer.from(target, "latin1");
    if (isDevice) node.rdev = { major: 7, minor: 9 };
    if (kind === FileKind.directory) {
      node.nlink = 2;
      node.parent = directory;
      directory.nlink++;
    }
    return { node };
  }

  link(cred: Credentials, node: ModelNode, directory: ModelNode, name: string): Outcome {
    if (this.dead.has(node)) return "ESTALE";
    const refusal = this.#newName(directory, name);
    if (refusal !== null) return refusal;
    if (!may(directory, cred, "x")) return "EACCES";
    if (directory.entries.has(name)) return "EEXIST";
    if (!may(directory, cred, "w")) return "EACCES";
    if (node.kind === FileKind.directory) return "EPERM";
    directory.entries.set(name, node);
    node.nlink++;
    node.changed++;
    this.#touch(directory);
    return { node };
  }

  remove(cred: Credentials, directory: ModelNode, name: string): Outcome {
    const refusal = this.#directory(directory) ?? badName(name) ?? (isDots(name) ? "EINVAL" : null);
    if (refusal !== null) return refusal;
    const victim = this.#victim(cred, directory, name);
    if (typeof victim === "string") return victim;
    if (victim.node.kind === FileKind.directory) return "EISDIR";
    this.#unlink(directory, name, victim.node);
    return victim;
  }

  rmdir(cred: Credentials, directory: ModelNode, name: string): Outcome {
    const dots = name === "." ? "EINVAL" : name === ".." ? "ENOTEMPTY" : null;
    const refusal = this.#directory(directory) ?? badName(name) ?? dots;
    if (refusal !== null) return refusal;
    const victim = this.#victim(cred, directory, name);
    if (typeof victim === "string") return victim;
    if (victim.node.kind !== FileKind.directory) return "ENOTDIR";
    if (victim.node.entries.size > 0) return "ENOTEMPTY";
    this.#unlink(directory, name, victim.node);
    return victim;
  }

  rename(cred: Credentials, from: ModelNode, fromName: string, to: ModelNode, toName: string): Outcome {
    const refusal = this.#directory(from) ?? this.#directory(to) ?? badName(fromName);
    if (refusal !== null) return refusal;
    if (isDots(fromName)) return "EINVAL";
    const badTarget = badName(toName) ?? (isDots(toName) ? "EINVAL" : null);
    if (badTarget !== null) return badTarget;
    if (!may(from, cred, "x") || !may(to, cred, "x")) return "EACCES";
    const node = from.entries.get(fromName);
    if (node === undefined) return "ENOENT";
    const target = to.entries.get(toName);
    if (from !== to && node.kind === FileKind.directory && isUnder(to, node)) return "EINVAL";
    if (from !== to && target?.kind === FileKind.directory && isUnder(from, target)) return "ENOTEMPTY";
    if (node === target) return { node };
    const denied = this.#denied(cred, from, node) ?? this.#deniedTarget(cred, to, node, target);
    if (denied !== null) return denied;
    if (node.kind === FileKind.directory && from !== to && !may(node, cred, "w")) return "EACCES";
    this.#move(from, fromName, to, toName, node, target);
    return { node };
  }

  setattr(cred: Credentials, node: ModelNode, set: SetAttributes): Outcome {
    if (this.dead.has(node)) return "ESTALE";
    const refusal = this.#refuseSetattr(cred, node, set);
    if (refusal !== null) return refusal;
    if (Object.keys(set).length === 0) return { node };
    const isDirectory = node.kind === FileKind.directory;
    const chown = (set.uid !== undefined || set.gid !== undefined) && !isDirectory;
    let mode = set.mode ?? node.mode;
    const keeps = cred.uid === 0 && set.mode !== undefined;
    if (chown && !keeps) mode = dropIds(mode);
    if (set.sizeBytes !== undefined && cred.uid !== 0 && set.mode === undefined) mode = dropIds(mode);
    const gid = set.gid ?? node.gid;
    if (set.mode !== undefined && cred.uid !== 0 && ![cred.gid, ...cred.groups].includes(gid)) mode &= ~0o2000;
    node.mode = mode;
    node.uid = set.uid ?? node.uid;
    node.gid = gid;
    node.changed++;
    if (set.sizeBytes !== undefined) {
      const data = Buffer.alloc(set.sizeBytes);
      node.data.copy(data);
      node.data = data;
    }
    if (set.sizeBytes !== undefined || set.mtime !== undefined) node.modified++;
    return { node };
  }

  write(cred: Credentials, node: ModelNode, offset: number, bytes: Buffer): Outcome {
    const refusal = this.#file(node);
    if (refusal !== null) return refusal;
    if (!owns(node, cred) && !may(node, cred, "w")) return "EACCES";
    if (bytes.length === 0) return { node };
    const data = Buffer.alloc(Math.max(node.data.length, offset + bytes.length));
    node.data.copy(data);
    bytes.copy(data, offset);
    node.data = data;
    if (cred.uid !== 0) node.mode = dropIds(node.mode);
    node.modified++;
    node.changed++;
    return { node };
  }

  read(cred: Credentials, node: ModelNode): Outcome {
    const refusal = this.#file(node);
    if (refusal !== null) return refusal;
    return owns(node, cred) || may(node, cred, "r") || may(node, cred, "x") ? { node } : "EACCES";
  }

  readdir(cred: Credentials, node: ModelNode): Outcome {
    const refusal = this.#directory(node);
    if (refusal !== null) return refusal;
    return may(node, cred, "r") ? { node } : "EACCES";
  }

  /** Every live node once. */
  *nodes(): Generator<ModelNode> {
    const seen = new Set<ModelNode>();
    const waiting = [this.root];
    for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
      if (seen.has(node)) continue;
      seen.add(node);
      yield node;
      waiting.push(...node.entries.values());
    }
  }

  #directory(node: ModelNode): Errno | null {
    if (this.dead.has(node)) return "ESTALE";
    return node.kind === FileKind.directory ? null : "ENOTDIR";
  }

  #file(node: ModelNode): Errno | null {
    if (this.dead.has(node)) return "ESTALE";
    if (node.kind === FileKind.directory) return "EISDIR";
    return node.kind === FileKind.file ? null : "EINVAL";
  }

  #newName(directory: ModelNode, name: string): Errno | null {
    return this.#directory(directory) ?? badName(name) ?? (isDots(name) ? "EEXIST" : null);
  }

  #victim(cred: Credentials, directory: ModelNode, name: string): Outcome {
    if (!may(directory, cred, "x")) return "EACCES";
    const node = directory.entries.get(name);
    if (node === undefined) return "ENOENT";
    return this.#denied(cred, directory, node) ?? { node };
  }

  #denied(cred: Credentials, directory: ModelNode, node: ModelNode): Errno | null {
    if (!may(directory, cred, "wx")) return "EACCES";
    const sticky = (directory.mode & 0o1000) !== 0;
    return sticky && !owns(node, cred) && !owns(directory, cred) ? "EPERM" : null;
  }

  #deniedTarget(cred: Credentials, to: ModelNode, node: ModelNode, target: ModelNode | undefined): Errno | null {
    if (target === undefined) return may(to, cred, "wx") ? null : "EACCES";
    const denied = this.#denied(cred, to, target);
    if (denied !== null) return denied;
    if (node.kind === FileKind.directory) {
      if (target.kind !== FileKind.directory) return "ENOTDIR";
      return target.entries.size > 0 ? "ENOTEMPTY" : null;
    }
    return target.kind === FileKind.directory ? "EISDIR" : null;
  }

  #move(
    from: ModelNode,
    fromName: string,
    to: ModelNode,
    toName: string,
    node: ModelNode,
    target: ModelNode | undefined,
  ): void {
    from.entries.delete(fromName);
    to.entries.set(toName, node);
    if (target !== undefined) this.#loseLink(to, target);
    if (node.kind === FileKind.directory) {
      from.nlink--;
      to.nlink++;
      node.parent = to;
    }
    node.changed++;
    this.#touch(from);
    this.#touch(to);
  }

  #unlink(directory: ModelNode, name: string, node: ModelNode): void {
    directory.entries.delete(name);
    this.#loseLink(directory, node);
    this.#touch(directory);
  }

  #loseLink(directory: ModelNode, node: ModelNode): void {
    node.nlink--;
    node.changed++;
    if (node.kind === FileKind.directory) directory.nlink--;
    if (node.kind === FileKind.directory || node.nlink === 0) this.dead.add(node);
  }

  #touch(directory: ModelNode): void {
    directory.modified++;
    directory.changed++;
  }

  #add(
    cred: Credentials,
    directory: ModelNode,
    name: string,
    node: ModelNode,
    set: SetAttributes,
    modeDefault: number,
  ): ModelNode {
    const inherits = (directory.mode & 0o2000) !== 0;
    node.mode = set.mode ?? modeDefault;
    node.uid = cred.uid;
    node.gid = inherits ? directory.gid : cred.gid;
    if (cred.uid === 0) {
      node.uid = set.uid ?? node.uid;
      node.gid = set.gid ?? node.gid;
    }
    const foreign = cred.uid !== 0 && ![cred.gid, ...cred.groups].includes(node.gid);
    if (node.kind === FileKind.directory) node.mode |= inherits ? 0o2000 : 0;
    else if (foreign && (node.mode & 0o2010) === 0o2010) node.mode &= ~0o2000;
    directory.entries.set(name, node);
    this.#touch(directory);
    return node;
  }

  #refuseSetattr(cred: Credentials, node: ModelNode, set: SetAttributes): Errno | null {
    const owner = owns(node, cred);
    if (set.sizeBytes !== undefined) {
      const notFile = this.#file(node);
      if (notFile !== null) return notFile;
      if (!owner && !may(node, cred, "w")) return "EACCES";
    }
    if (cred.uid !== 0) {
      if (set.uid !== undefined && (set.uid !== node.uid || !owner)) return "EPERM";
      const known = set.gid === node.gid || [cred.gid, ...cred.groups].includes(set.gid ?? -1);
      if (set.gid !== undefined && (!known || !owner)) return "EPERM";
    }
    if (set.mode !== undefined && !owner) return "EPERM";
    const explicit = typeof set.mtime === "object" || typeof set.atime === "object";
    if (explicit && !owner) return "EPERM";
    const now = set.mtime === "now" || set.atime === "now";
    return now && !owner && !may(node, cred, "w") ? "EACCES" : null;
  }
}

function isUnder(node: ModelNode, above: ModelNode): boolean {
  for (let at: ModelNode | null = node; at !== null; at = at.parent) {
    if (at === above) return true;
    if (at.parent === at) return false;
  }
  return false;
}
