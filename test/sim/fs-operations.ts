import type { MountedFileSystem } from "../../src/fs/file-system.js";
import { type Attributes, type FileId, ROOT_CREDENTIALS, type SetAttributes } from "../../src/fs/vfs.js";
import { type Errno, StorageError } from "../../src/lib/errors.js";
import type { Random } from "../../src/lib/prng.js";
import { type Actual, type FsModel, KEYS, type Key, ModelFile, resized, type Unanswered } from "./fs-model.js";

const SIZE_MAX = 96 * 1024;

/** Where operations are done. */
export interface FsTarget {
  readonly fs: MountedFileSystem;
  readonly model: FsModel;
  /** What may be answered to an operation that takes room, for now: then nothing of it has happened. All others are never refused. */
  readonly lacks: ReadonlySet<Errno>;
  directory(key: Key): FileId;
}

export function nameOf(key: Key): Buffer {
  return Buffer.from(key.slice(key.indexOf("/") + 1));
}

type Call = () => Promise<unknown> | unknown;

/** What an operation does to the model. */
interface Effect {
  readonly answered: () => void;
  readonly refused?: () => void;
  /** Whether it adds something, so that it may be refused where room is short. */
  readonly takesRoom: boolean;
}

/**
 * Do an operation on names and files that nobody else touches meanwhile; the model knows of it when it is answered.
 * @returns whether it was done
 */
async function perform(
  target: FsTarget,
  about: ReadonlyArray<Key | ModelFile>,
  operation: Unanswered,
  call: Call,
  { answered, refused = () => {}, takesRoom }: Effect,
): Promise<boolean> {
  const { model } = target;
  const { life } = model;
  for (const one of about) model.busy.add(one);
  model.unanswered.add(operation);
  const done = await unlessRefused(target, takesRoom, operation.what, call);
  if (life !== model.life) return false;
  model.unanswered.delete(operation);
  for (const one of about) model.busy.delete(one);
  if (done) answered();
  else refused();
  return done;
}

/** @returns whether it was done; it was not when it was refused, as it may be now */
export async function unlessRefused(target: FsTarget, takesRoom: boolean, what: string, call: Call): Promise<boolean> {
  const { life } = target.model;
  try {
    await call();
    return true;
  } catch (error) {
    if (takesRoom && error instanceof StorageError && target.lacks.has(error.code)) return false;
    // Of a life that the power has ended nobody waits for an answer.
    if (life !== target.model.life) return false;
    const { failed } = target.fs;
    throw failed === null ? new Error(`${what}: ${(error as Error).message}`, { cause: error }) : stopped(failed);
  }
}

export function stopped(failed: StorageError): Error {
  return new Error(`the file system has stopped: ${failed.detail.cause}`, { cause: failed });
}

const NOT_DONE = Promise.resolve(false);

/** One operation by chance, unless what it is about is busy. @returns whether it was done */
export function operate(target: FsTarget, random: Random): Promise<boolean> {
  const { model } = target;
  const key = KEYS[random.below(KEYS.length)]!;
  const other = KEYS[random.below(KEYS.length)]!;
  const dice = random.below(24);
  if (model.busy.has(key) || model.busy.has(other) || key === other) return NOT_DONE;
  const entry = model.entries.get(key);
  if (entry === undefined) return appear(target, key, other, dice, random);
  if (entry.kind !== "file") return dice < 8 ? vanish(target, key) : rename(target, key, other);
  if (model.busy.has(entry.file)) return NOT_DONE;
  if (dice < 1) return vanish(target, key);
  if (dice < 4) return rename(target, key, other);
  return onFile(target, entry.file, dice, random);
}

function onFile(target: FsTarget, file: ModelFile, dice: number, random: Random): Promise<boolean> {
  if (dice < 8) return writeSome(target, file, random, "stable");
  if (dice < 15) return writeSome(target, file, random, "unstable");
  if (dice < 18) return commit(target, file);
  if (dice < 20) return truncate(target, file, random.below(Math.min(SIZE_MAX, file.content.length + 9000) + 1));
  return read(target, file, random);
}

function appear(target: FsTarget, key: Key, other: Key, dice: number, random: Random): Promise<boolean> {
  const file = target.model.fileAt(other);
  if (dice < 3 && file !== null && !target.model.busy.has(file)) return link(target, file, other, key);
  if (dice < 5) return mkdir(target, key);
  if (dice < 8) return symlink(target, key, `to ${random.next()}`);
  return create(target, key);
}

function isThere(key: Key): (actual: Actual) => boolean {
  return (actual) => actual.has(key);
}

export function create(target: FsTarget, key: Key, set: SetAttributes = { mode: 0o644 }): Promise<boolean> {
  const { fs, model } = target;
  const file = new ModelFile();
  const apply = (): void => void model.entries.set(key, { kind: "file", file });
  const call = async (): Promise<void> => {
    const how = { mode: "guarded", attributes: set } as const;
    const { attributes } = await fs.create(ROOT_CREDENTIALS, target.directory(key), nameOf(key), how);
    file.id = idOf(attributes);
  };
  return perform(target, [key, file], { what: `create ${key}`, happened: isThere(key), apply }, call, {
    answered: apply,
    takesRoom: true,
  });
}

export function idOf({ ino, generation }: Attributes): FileId {
  return { ino, generation };
}

function mkdir(target: FsTarget, key: Key): Promise<boolean> {
  const { fs, model } = target;
  const apply = (): void => void model.entries.set(key, { kind: "directory" });
  const call = () => fs.mkdir(ROOT_CREDENTIALS, target.directory(key), nameOf(key), {});
  return perform(target, [key], { what: `mkdir ${key}`, happened: isThere(key), apply }, call, {
    answered: apply,
    takesRoom: true,
  });
}

export function symlink(target: FsTarget, key: Key, to: string): Promise<boolean> {
  const { fs, model } = target;
  const apply = (): void => void model.entries.set(key, { kind: "symlink", target: to });
  const call = () => fs.symlink(ROOT_CREDENTIALS, target.directory(key), nameOf(key), Buffer.from(to), {});
  return perform(target, [key], { what: `symlink ${key}`, happened: isThere(key), apply }, call, {
    answered: apply,
    takesRoom: true,
  });
}

function link(target: FsTarget, file: ModelFile, from: Key, key: Key): Promise<boolean> {
  const { fs, model } = target;
  const apply = (): void => void model.entries.set(key, { kind: "file", file });
  const call = () => fs.link(ROOT_CREDENTIALS, file.id!, target.directory(key), nameOf(key));
  return perform(target, [from, key, file], { what: `link ${key}`, happened: isThere(key), apply }, call, {
    answered: apply,
    takesRoom: true,
  });
}

export function vanish(target: FsTarget, key: Key): Promise<boolean> {
  const { fs, model } = target;
  const entry = model.entries.get(key)!;
  const apply = (): void => void model.entries.delete(key);
  const remove = entry.kind === "directory" ? fs.rmdir : fs.remove;
  const call = () => remove.call(fs, ROOT_CREDENTIALS, target.directory(key), nameOf(key));
  const happened = (actual: Actual): boolean => !actual.has(key);
  const about = entry.kind === "file" ? [key, entry.file] : [key];
  return perform(target, about, { what: `remove ${key}`, happened, apply }, call, {
    answered: apply,
    takesRoom: false,
  });
}

/** Over nothing, or over a file by a file. */
function rename(target: FsTarget, from: Key, to: Key): Promise<boolean> {
  const { fs, model } = target;
  const entry = model.entries.get(from)!;
  const old = model.entries.get(to);
  if (old !== undefined && (old.kind !== "file" || entry.kind !== "file")) return NOT_DONE;
  const files = [entry, old].flatMap((one) => (one?.kind === "file" ? [one.file] : []));
  if (files.some((file) => model.busy.has(file))) return NOT_DONE;
  // Two names of one file: nothing happens.
  const same = files.length === 2 && files[0] === files[1];
  const apply = (): void => {
    if (same) return;
    model.entries.set(to, entry);
    model.entries.delete(from);
  };
  const happened = (actual: Actual): boolean => !actual.has(from);
  const call = () =>
    fs.rename(ROOT_CREDENTIALS, target.directory(from), nameOf(from), target.directory(to), nameOf(to));
  return perform(target, [from, to, ...files], { what: `rename ${from} ${to}`, happened, apply }, call, {
    answered: apply,
    takesRoom: true,
  });
}

/** Contents tell by themselves: what may have happened stands in the history. */
function contents(what: string): Unanswered {
  return { what, happened: () => false, apply: () => {} };
}

type Stability = "stable" | "unstable";

function writeSome(target: FsTarget, file: ModelFile, random: Random, stability: Stability): Promise<boolean> {
  const kinds = [200, 4096, 12_000, 40_000];
  const data = bytesOf(1 + random.below(kinds[random.below(kinds.length)]!), random);
  return write(target, file, random.below(Math.min(SIZE_MAX, file.content.length + 6000)), data, stability);
}

export function write(
  target: FsTarget,
  file: ModelFile,
  offset: number,
  data: Buffer,
  stability: Stability,
): Promise<boolean> {
  const old = file.content;
  const next = resized(old, Math.max(old.length, offset + data.length));
  data.copy(next, offset);
  file.history.push(next);
  const point = file.history.length - 1;
  const call = () => target.fs.write(ROOT_CREDENTIALS, file.id!, offset, data, stability);
  const answered = (): void => {
    if (stability === "stable") file.history.splice(0, point);
  };
  const refused = (): void => void file.history.splice(point);
  return perform(target, [file], contents(`write ${stability}`), call, { answered, refused, takesRoom: true });
}

export function bytesOf(byteCount: number, random: Random): Buffer {
  const data = Buffer.allocUnsafe(byteCount);
  let x = random.next() | 1;
  for (let i = 0; i < data.length; i++) {
    x = (Math.imul(x, 1103515245) + 12345) | 0;
    data[i] = x >>> 16;
  }
  return data;
}

export function commit(target: FsTarget, file: ModelFile): Promise<boolean> {
  const point = file.history.length - 1;
  const call = () => target.fs.commit(ROOT_CREDENTIALS, file.id!, 0, 0);
  const answered = (): void => void file.history.splice(0, point);
  return perform(target, [file], contents("commit"), call, { answered, takesRoom: false });
}

/** Durable when answered, though unstable writes before it need not be: any of the contents, cut or grown. */
export function truncate(target: FsTarget, file: ModelFile, sizeBytes: number): Promise<boolean> {
  const takesRoom = sizeBytes > file.content.length;
  const cut = file.history.map((content) => resized(content, sizeBytes));
  const point = file.history.length;
  file.history.push(...cut);
  const call = () => target.fs.setattr(ROOT_CREDENTIALS, file.id!, { sizeBytes });
  const answered = (): void => {
    file.history = cut;
  };
  const refused = (): void => void file.history.splice(point);
  return perform(target, [file], contents("truncate"), call, { answered, refused, takesRoom });
}

/** Attributes that the model does not know. */
export function setAttributes(target: FsTarget, file: ModelFile, set: SetAttributes): Promise<boolean> {
  const call = () => target.fs.setattr(ROOT_CREDENTIALS, file.id!, set);
  return perform(target, [file], contents("setattr"), call, { answered: () => {}, takesRoom: true });
}

export function read(target: FsTarget, file: ModelFile, random: Random): Promise<boolean> {
  const { life } = target.model;
  const wanted = file.content;
  const offset = random.below(wanted.length + 1);
  const found = Buffer.alloc(1 + random.below(30_000));
  const call = async (): Promise<void> => {
    const { count } = await target.fs.read(ROOT_CREDENTIALS, file.id!, offset, found);
    if (life !== target.model.life) return;
    const right = wanted.subarray(offset, offset + found.length);
    if (!found.subarray(0, count).equals(right))
      throw new Error(`a read of inode ${file.id?.ino} at ${offset} is wrong`);
  };
  return perform(target, [file], contents("read"), call, { answered: () => {}, takesRoom: false });
}
