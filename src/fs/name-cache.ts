/** Where a name leads. `cookie` is the entry's place in its directory. */
export interface Dentry {
  readonly ino: number;
  readonly cookie: number;
}

/** Known not to exist: inode numbers start at 1. A client asks for a name before it creates it. */
export const ABSENT: Dentry = { ino: 0, cookie: 0 };

/** Names of one generation; there are two. About 150 bytes each. */
export const NAMES_CACHED_DEFAULT = 65_536;

type Generation = Map<number, Map<string, Dentry>>;

/**
 * What lookups found, in two generations: an answer from the old one moves to the young one, and when that is full the old one goes as
 * a whole. So a hit costs two Map lookups and no list is kept. The young generation hides the old one: `set` is all that a change needs.
 * Keys are the name's bytes as latin1 text: one character a byte, no decoding.
 */
export class NameCache {
  #young: Generation = new Map();
  #old: Generation = new Map();
  #youngCount = 0;
  hits = 0;
  misses = 0;

  constructor(readonly namesMax = NAMES_CACHED_DEFAULT) {}

  get(parent: number, key: string): Dentry | undefined {
    const young = this.#young.get(parent)?.get(key);
    if (young !== undefined) {
      this.hits++;
      return young;
    }
    const old = this.#old.get(parent)?.get(key);
    if (old === undefined) this.misses++;
    else {
      this.hits++;
      this.set(parent, key, old);
    }
    return old;
  }

  set(parent: number, key: string, dentry: Dentry): void {
    if (this.#youngCount >= this.namesMax) this.#turn();
    let names = this.#young.get(parent);
    if (names === undefined) {
      names = new Map();
      this.#young.set(parent, names);
    }
    const countBefore = names.size;
    names.set(key, dentry);
    this.#youngCount += names.size - countBefore;
  }

  /** The directory is gone. Its number is never used again, so this only saves memory. */
  forgetDirectory(parent: number): void {
    this.#youngCount -= this.#young.get(parent)?.size ?? 0;
    this.#young.delete(parent);
    this.#old.delete(parent);
  }

  #turn(): void {
    this.#old = this.#young;
    this.#young = new Map();
    this.#youngCount = 0;
  }
}
