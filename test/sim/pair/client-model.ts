import type { Random } from "../../../src/lib/prng.js";

/** One file, under one name or several. */
export interface ModelFile {
  readonly content: Buffer;
}

export type Entry = { readonly kind: "directory" } | { readonly kind: "file"; readonly file: ModelFile };
/** What is in the directory of a client, which nobody else touches. */
export type State = ReadonlyMap<string, Entry>;

export type CallKind = "create" | "write" | "remove" | "rename" | "link" | "mkdir" | "rmdir" | "read";

/** A request of a client, and all that may come of it: it has one call under way at a time, so that the state before it is known. */
export interface Call {
  readonly client: number;
  readonly xid: number;
  readonly kind: CallKind;
  readonly name: string;
  /** Of rename and link: the new one. */
  readonly to: string;
  readonly data: Buffer;
  /** "OK", or the code of the error. */
  readonly expected: string;
  /** When it has been done. */
  readonly after: State;
}

const NAMES = ["a", "b", "c", "d", "e"] as const;
const KINDS: readonly CallKind[] = [
  ...["create", "create", "write", "write", "write", "remove"],
  ...["rename", "rename", "link", "mkdir", "rmdir", "read"],
] as const as readonly CallKind[];
const DATA_BYTES_MAX = 12_000;

export function nextCall(client: number, xid: number, state: State, random: Random): Call {
  const kind = KINDS[random.below(KINDS.length)]!;
  const name = NAMES[random.below(NAMES.length)]!;
  const to = NAMES[random.below(NAMES.length)]!;
  const data = Buffer.alloc(kind === "write" ? 1 + random.below(DATA_BYTES_MAX) : 0, random.below(255) + 1);
  const [expected, after] = outcome(state, { kind, name, to, data });
  return { client, xid, kind, name, to, data, expected, after: expected === "OK" ? after : state };
}

type Wanted = Pick<Call, "kind" | "name" | "to" | "data">;

/** As a file system of POSIX does it; a write and a read go through a handle, so that their file is there or was never asked for. */
function outcome(state: State, { kind, name, to, data }: Wanted): [string, State] {
  const entry = state.get(name);
  const after = new Map(state);
  switch (kind) {
    case "create":
    case "mkdir":
      if (entry !== undefined) return ["EEXIST", state];
      after.set(name, kind === "mkdir" ? { kind: "directory" } : { kind: "file", file: { content: Buffer.alloc(0) } });
      return ["OK", after];
    case "remove":
      if (entry?.kind !== "file") return [entry === undefined ? "ENOENT" : "EISDIR", state];
      after.delete(name);
      return ["OK", after];
    case "rmdir":
      if (entry?.kind !== "directory") return [entry === undefined ? "ENOENT" : "ENOTDIR", state];
      after.delete(name);
      return ["OK", after];
    case "link":
      return link(after, entry, state.get(to), to);
    case "rename":
      return rename(after, name, to);
    case "read":
      return [entry === undefined ? "ENOENT" : entry.kind === "file" ? "OK" : "EISDIR", state];
    case "write":
      if (entry?.kind !== "file") return [entry === undefined ? "ENOENT" : "EISDIR", state];
      write(after, entry.file, data);
      return ["OK", after];
  }
}

function link(after: Map<string, Entry>, entry: Entry | undefined, target: Entry | undefined, to: string) {
  if (entry === undefined) return ["ENOENT", after] as [string, State];
  if (target !== undefined) return ["EEXIST", after] as [string, State];
  if (entry.kind === "directory") return ["EPERM", after] as [string, State];
  after.set(to, entry);
  return ["OK", after] as [string, State];
}

function rename(after: Map<string, Entry>, name: string, to: string): [string, State] {
  const [entry, target] = [after.get(name), after.get(to)];
  if (entry === undefined) return ["ENOENT", after];
  if (name === to) return ["OK", after];
  if (entry.kind === "file" && target?.kind === "file" && entry.file === target.file) return ["OK", after];
  if (target !== undefined && target.kind !== entry.kind) {
    return [target.kind === "directory" ? "EISDIR" : "ENOTDIR", after];
  }
  after.delete(name);
  after.set(to, entry);
  return ["OK", after];
}

/** At the start of the file; every name of it sees that. */
function write(after: Map<string, Entry>, file: ModelFile, data: Buffer): void {
  const content = Buffer.concat([data, file.content.subarray(data.length)]);
  const written: ModelFile = { content };
  for (const [name, entry] of after) {
    if (entry.kind === "file" && entry.file === file) after.set(name, { kind: "file", file: written });
  }
}
