import { MIB } from "../lib/units.js";

/** Where a name leads. `cookie` is the entry's place in its directory. */
export interface Dentry {
  readonly ino: number;
  readonly cookie: number;
}

/** Known not to exist: inode numbers start at 1. A client asks for a name before it creates it. */
export const ABSENT: Dentry = { ino: 0, cookie: 0 };

/** Of one generation; there are two. Some 30,000 names of usual length. */
export const NAME_CACHE_BYTES_DEFAULT = 4 * MIB;
/** What a name takes in memory beside its characters, and a directory of which names are known; test/unit/fs/cache-bytes.test.ts measures it. */
const NAME_BYTES = 112;
const DIRECTORY_BYTES = 256;

class DirectoryNames {
  readonly byKey = new Map<string, Dentry>();
  bytes = DIRECTORY_BYTES;
}

type Generation = Map<number, DirectoryNames>;

/**
 * What lookups found, in two generations: an answer from the old one moves to the young one, and when that is full the old one goes as
 * a whole. So a hit costs two Map lookups and no list is kept. The young generation hides the old one: `set` is all that a change needs.
 * Keys are the name's bytes as latin1 text: one character a byte, no decoding.
 */
export class NameCache {
  #young: Generation = new Map();
  #old: Generation = new Map();
  #youngBytes = 0;
  #oldBytes = 0;
  hits = 0;
  misses = 0;

  /** @param bytesMax  of each generation */
  constructor(readonly bytesMax = NAME_CACHE_BYTES_DEFAULT) {}

  /** What both generations take in memory, about. */
  get bytes(): number {
    return this.#youngBytes + this.#oldBytes;
  }

  get(parent: number, key: string): Dentry | undefined {
    const young = this.#young.get(parent)?.byKey.get(key);
    if (young !== undefined) {
      this.hits++;
      return young;
    }
    const old = this.#old.get(parent)?.byKey.get(key);
    if (old === undefined) this.misses++;
    else {
      this.hits++;
      this.set(parent, key, old);
    }
    return old;
  }

  set(parent: number, key: string, dentry: Dentry): void {
    if (this.#youngBytes >= this.bytesMax) this.#turn();
    let names = this.#young.get(parent);
    if (names === undefined) {
      names = new DirectoryNames();
      this.#young.set(parent, names);
      this.#youngBytes += names.bytes;
    }
    const countBefore = names.byKey.size;
    names.byKey.set(key, dentry);
    if (names.byKey.size === countBefore) return;
    const bytes = NAME_BYTES + key.length;
    names.bytes += bytes;
    this.#youngBytes += bytes;
  }

  /** The directory is gone. Its number is never used again, so this only saves memory. */
  forgetDirectory(parent: number): void {
    this.#youngBytes -= this.#young.get(parent)?.bytes ?? 0;
    this.#oldBytes -= this.#old.get(parent)?.bytes ?? 0;
    this.#young.delete(parent);
    this.#old.delete(parent);
  }

  #turn(): void {
    this.#old = this.#young;
    this.#oldBytes = this.#youngBytes;
    this.#young = new Map();
    this.#youngBytes = 0;
  }
}
