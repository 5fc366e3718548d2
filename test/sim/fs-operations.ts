import type { MountedFileSystem } from "../../src/fs/file-system.js";
import { type Attributes, type FileId, ROOT_CREDENTIALS } from "../../src/fs/vfs.js";
import { isStorageError } from "../../src/lib/errors.js";
import type { Random } from "../../src/lib/prng.js";
import { type Actual, type FsModel, KEYS, type Key, ModelFile, resized, type Unanswered } from "./fs-model.js";

const SIZE_MAX = 96 * 1024;

/** Where operations are done. */
export interface FsTarget {
  readonly fs: MountedFileSystem;
  readonly model: FsModel;
  /** Whether an operation may be refused for now: then nothing of it has happened. */
  readonly mayRefuse: boolean;
  directory(key: Key): FileId;
}

export function nameOf(key: Key): Buffer {
  return Buffer.from(key.slice(key.indexOf("/") + 1));
}

/** Do an operation on names and files that nobody else touches meanwhile; the model knows of it when it is answered. */
async function perform(
  target: FsTarget,
  about: ReadonlyArray<Key | ModelFile>,
  operation: Unanswered,
  call: () => Promise<unknown> | unknown,
  answered: () => void,
  refused: () => void = () => {},
): Promise<void> {
  const { model } = target;
  const { life } = model;
  for (const one of about) model.busy.add(one);
  model.unanswered.add(operation);
  const wasRefused = await unlessRefused(target, call);
  if (life !== model.life) return;
  model.unanswered.delete(operation);
  for (const one of about) model.busy.delete(one);
  if (wasRefused) refused();
  else answered();
}

/** @returns whether it was refused, as it may be now */
async function unlessRefused({ mayRefuse }: FsTarget, call: () => Promise<unknown> | unknown): Promise<boolean> {
  try {
    await call();
    return false;
  } catch (error) {
    if (mayRefuse && isStorageError(error, "EBUSY")) return true;
    throw error;
  }
}

/** One operation by chance, unless what it is about is busy. */
export function operate(target: FsTarget, random: Random): Promise<void> {
  const { model } = target;
  const key = KEYS[random.below(KEYS.length)]!;
  const other = KEYS[random.below(KEYS.length)]!;
  const dice = random.below(24);
  if (model.busy.has(key) || model.busy.has(other) || key === other) return Promise.resolve();
  const entry = model.entries.get(key);
  if (entry === undefined) return appear(target, key, other, dice, random);
  if (entry.kind !== "file") return dice < 8 ? vanish(target, key) : rename(target, key, other);
  if (model.busy.has(entry.file)) return Promise.resolve();
  if (dice < 1) return vanish(target, key);
  if (dice < 4) return rename(target, key, other);
  return onFile(target, entry.file, dice, random);
}

function onFile(target: FsTarget, file: ModelFile, dice: number, random: Random): Promise<void> {
  if (dice < 8) return write(target, file, random, "stable");
  if (dice < 15) return write(target, file, random, "unstable");
  if (dice < 18) return commit(target, file);
  if (dice < 20) return truncate(target, file, random);
  return read(target, file, random);
}

function appear(target: FsTarget, key: Key, other: Key, dice: number, random: Random): Promise<void> {
  const file = target.model.fileAt(other);
  if (dice < 3 && file !== null && !target.model.busy.has(file)) return link(target, file, other, key);
  if (dice < 5) return mkdir(target, key);
  if (dice < 8) return symlink(target, key, `to ${random.next()}`);
  return create(target, key);
}

function isThere(key: Key): (actual: Actual) => boolean {
  return (actual) => actual.has(key);
}

function create(target: FsTarget, key: Key): Promise<void> {
  const { fs, model } = target;
  const file = new ModelFile();
  const apply = (): void => void model.entries.set(key, { kind: "file", file });
  const call = async (): Promise<void> => {
    const how = { mode: "guarded", attributes: { mode: 0o644 } } as const;
    const { attributes } = await fs.create(ROOT_CREDENTIALS, target.directory(key), nameOf(key), how);
    file.id = idOf(attributes);
  };
  return perform(target, [key, file], { what: `create ${key}`, happened: isThere(key), apply }, call, apply);
}

export function idOf({ ino, generation }: Attributes): FileId {
  return { ino, generation };
}

function mkdir(target: FsTarget, key: Key): Promise<void> {
  const { fs, model } = target;
  const apply = (): void => void model.entries.set(key, { kind: "directory" });
  const call = () => fs.mkdir(ROOT_CREDENTIALS, target.directory(key), nameOf(key), {});
  return perform(target, [key], { what: `mkdir ${key}`, happened: isThere(key), apply }, call, apply);
}

function symlink(target: FsTarget, key: Key, to: string): Promise<void> {
  const { fs, model } = target;
  const apply = (): void => void model.entries.set(key, { kind: "symlink", target: to });
  const call = () => fs.symlink(ROOT_CREDENTIALS, target.directory(key), nameOf(key), Buffer.from(to), {});
  return perform(target, [key], { what: `symlink ${key}`, happened: isThere(key), apply }, call, apply);
}

function link(target: FsTarget, file: ModelFile, from: Key, key: Key): Promise<void> {
  const { fs, model } = target;
  const apply = (): void => void model.entries.set(key, { kind: "file", file });
  const call = () => fs.link(ROOT_CREDENTIALS, file.id!, target.directory(key), nameOf(key));
  return perform(target, [from, key, file], { what: `link ${key}`, happened: isThere(key), apply }, call, apply);
}

function vanish(target: FsTarget, key: Key): Promise<void> {
  const { fs, model } = target;
  const entry = model.entries.get(key)!;
  const apply = (): void => void model.entries.delete(key);
  const remove = entry.kind === "directory" ? fs.rmdir : fs.remove;
  const call = () => remove.call(fs, ROOT_CREDENTIALS, target.directory(key), nameOf(key));
  const happened = (actual: Actual): boolean => !actual.has(key);
  const about = entry.kind === "file" ? [key, entry.file] : [key];
  return perform(target, about, { what: `remove ${key}`, happened, apply }, call, apply);
}

/** Over nothing, or over a file by a file. */
function rename(target: FsTarget, from: Key, to: Key): Promise<void> {
  const { fs, model } = target;
  const entry = model.entries.get(from)!;
  const old = model.entries.get(to);
  if (old !== undefined && (old.kind !== "file" || entry.kind !== "file")) return Promise.resolve();
  const files = [entry, old].flatMap((one) => (one?.kind === "file" ? [one.file] : []));
  if (files.some((file) => model.busy.has(file))) return Promise.resolve();
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
  return perform(target, [from, to, ...files], { what: `rename ${from} ${to}`, happened, apply }, call, apply);
}

/** Contents tell by themselves: what may have happened stands in the history. */
function contents(what: string): Unanswered {
  return { what, happened: () => false, apply: () => {} };
}

function write(target: FsTarget, file: ModelFile, random: Random, stability: "stable" | "unstable"): Promise<void> {
  const old = file.content;
  const data = bytesOf(random);
  const offset = random.below(Math.min(SIZE_MAX, old.length + 6000));
  const next = resized(old, Math.max(old.length, offset + data.length));
  data.copy(next, offset);
  file.history.push(next);
  const point = file.history.length - 1;
  const call = () => target.fs.write(ROOT_CREDENTIALS, file.id!, offset, data, stability);
  const answered = (): void => {
    if (stability === "stable") file.history.splice(0, point);
  };
  return perform(target, [file], contents(`write ${stability}`), call, answered, () => file.history.splice(point));
}

function bytesOf(random: Random): Buffer {
  const kinds = [200, 4096, 12_000, 40_000];
  const data = Buffer.allocUnsafe(1 + random.below(kinds[random.below(kinds.length)]!));
  let x = random.next() | 1;
  for (let i = 0; i < data.length; i++) {
    x = (Math.imul(x, 1103515245) + 12345) | 0;
    data[i] = x >>> 16;
  }
  return data;
}

function commit(target: FsTarget, file: ModelFile): Promise<void> {
  const point = file.history.length - 1;
  const call = () => target.fs.commit(ROOT_CREDENTIALS, file.id!, 0, 0);
  return perform(target, [file], contents("commit"), call, () => void file.history.splice(0, point));
}

/** Durable when answered, though unstable writes before it need not be: any of the contents, cut or grown. */
function truncate(target: FsTarget, file: ModelFile, random: Random): Promise<void> {
  const sizeBytes = random.below(Math.min(SIZE_MAX, file.content.length + 9000) + 1);
  const cut = file.history.map((content) => resized(content, sizeBytes));
  const point = file.history.length;
  file.history.push(...cut);
  const call = () => target.fs.setattr(ROOT_CREDENTIALS, file.id!, { sizeBytes });
  const answered = (): void => {
    file.history = cut;
  };
  return perform(target, [file], contents("truncate"), call, answered, () => file.history.splice(point));
}

async function read(target: FsTarget, file: ModelFile, random: Random): Promise<void> {
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
  await perform(target, [file], contents("read"), call, () => {});
}
