import type { Attributes, FileId } from "../../src/fs/vfs.js";

/** Directories that are there from the start: operations take place in them. "" is the root. */
const WORK_DIRECTORIES = ["", "d0", "d1"] as const;
/** In it lies what only takes room. */
export const FILLED = "filled";
export const DIRECTORIES = [...WORK_DIRECTORIES, FILLED] as const;
const NAMES = ["a", "b", "c", "d", "e", "f"] as const;

/** Where an entry is: `directory/name`. */
export type Key = string;

/** Of operations by chance. */
export const KEYS: readonly Key[] = WORK_DIRECTORIES.flatMap((directory) =>
  NAMES.map((name) => `${directory}/${name}`),
);

/** A file, by whatever names. */
export class ModelFile {
  id: FileId | null = null;
  /**
   * What it may contain after a crash, in the order of the operations; the last is what it contains now. One that a stable operation has
   * made sure of stands alone.
   */
  history: Buffer[] = [Buffer.alloc(0)];

  get content(): Buffer {
    return this.history[this.history.length - 1]!;
  }
}

export type ModelEntry =
  | { readonly kind: "file"; readonly file: ModelFile }
  | { readonly kind: "directory" }
  | { readonly kind: "symlink"; readonly target: string };

/** What the file system really holds: by key, what is there. */
export type Actual = ReadonlyMap<Key, Attributes>;

/** An operation that was not answered when the power failed. */
export interface Unanswered {
  readonly what: string;
  /** Whether it has taken effect. Then `apply` makes it so in the model. */
  happened(actual: Actual): boolean;
  apply(actual: Actual): void;
}

/** Names and contents. An operation changes it when it is answered; one that was not is there whole or not at all (I-4). */
export class FsModel {
  readonly entries = new Map<Key, ModelEntry>();
  readonly unanswered = new Set<Unanswered>();
  /** Names and files that an operation in flight is about: no other one touches them. */
  readonly busy = new Set<Key | ModelFile>();
  life = 0;

  fileAt(key: Key): ModelFile | null {
    const entry = this.entries.get(key);
    return entry?.kind === "file" ? entry.file : null;
  }

  files(): Set<ModelFile> {
    const files = [...this.entries.values()].flatMap((entry) => (entry.kind === "file" ? [entry.file] : []));
    return new Set(files);
  }

  /** After a recovery: which of the unanswered operations have happened. @throws Error when names are there that cannot be */
  settle(actual: Actual): void {
    for (const operation of this.unanswered) if (operation.happened(actual)) operation.apply(actual);
    this.unanswered.clear();
    this.busy.clear();
    for (const key of new Set([...this.entries.keys(), ...actual.keys()])) this.#compare(key, actual.get(key));
  }

  #compare(key: Key, found: Attributes | undefined): void {
    const entry = this.entries.get(key);
    if (entry === undefined) {
      if (found !== undefined) throw new Error(`${key} is there, and was never made or has been removed`);
      return;
    }
    if (found === undefined) throw new Error(`${key} is gone, and was answered for`);
    const kind = { file: 1, directory: 2, symlink: 5 }[entry.kind];
    if (found.kind !== kind) throw new Error(`${key} is a ${entry.kind}, and is found as kind ${found.kind}`);
    if (entry.kind !== "file") return;
    entry.file.id ??= { ino: found.ino, generation: found.generation };
    if (entry.file.id.ino !== found.ino) throw new Error(`${key} names another file than it should`);
  }

  /** A crash may have taken back what was not stable. @throws Error when it is none of the contents that the file may have */
  adopt(file: ModelFile, found: Buffer, name: Key): void {
    const at = file.history.findLastIndex((content) => content.equals(found));
    if (at < 0) {
      const lengths = file.history.map((content) => content.length);
      throw new Error(`${name} has ${found.length} bytes that it may not have (may be: ${lengths.join(", ")} bytes)`);
    }
    file.history = [found];
  }
}

export function resized(content: Buffer, sizeBytes: number): Buffer {
  const next = Buffer.alloc(sizeBytes);
  content.copy(next, 0, 0, sizeBytes);
  return next;
}
