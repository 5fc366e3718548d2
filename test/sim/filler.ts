import type { Random } from "../../src/lib/prng.js";
import { KIB } from "../../src/lib/units.js";
import { FILLED, type Key, type ModelFile } from "./fs-model.js";
import {
  bytesOf,
  commit,
  create,
  type FsTarget,
  read,
  setAttributes,
  symlink,
  truncate,
  vanish,
  write,
} from "./fs-operations.js";
import { LOCKED, LockCrowd } from "./lock-crowd.js";
import type { Simulation } from "./simulation.js";

/** What becomes full. */
export const FULL = ["metadata", "data", "both"] as const;
export type Full = (typeof FULL)[number];

/** A link of this length has pages of its own. */
const LINK_BYTES = 4000;
const LINKS_AT_ONCE = 32;
/** Rows of inodes as short as they can be: every later change of them makes them longer. */
const LONG_AGO = { seconds: 0, nanoseconds: 0 };
const LATELY = { seconds: 4_000_000_000, nanoseconds: 999_999_999 };
/** Who waits for one lock: more pages, when they get it, than what is held back. */
const CROWD_MIN = 150;
const SMALL_FILES_MAX = 1500;
const SMALL_AT_ONCE = 64;
const FILE_BYTES_MAX = 512 * KIB;
/** What is written at once, until nothing of that size is taken any more. */
const PORTIONS = [128 * KIB, 16 * KIB, 4 * KIB];

/** Takes all the room of a file system, does what a full one must bear, and gives the room back. */
export class Filler {
  readonly crowd: LockCrowd;
  readonly #target: FsTarget;
  #next = 0;

  constructor(target: FsTarget, simulation: Simulation) {
    this.#target = target;
    this.crowd = new LockCrowd(target, simulation);
  }

  /** Until nothing is taken any more. The target says already that it may be refused. */
  async fill(full: Full, random: Random): Promise<void> {
    if (random.below(3) > 0) await this.crowd.gather(CROWD_MIN + random.below(CROWD_MIN), random);
    if (full !== "metadata") await this.#fillData(random);
    if (full !== "data") await this.#fillMetadata(random);
    if (random.below(2) === 0) await this.crowd.release();
  }

  /** What must go on, and what may be refused, by chance. */
  async act(random: Random): Promise<void> {
    const count = random.below(4) === 0 ? 40 : 4;
    const works = Array.from({ length: count }, () => this.#one(random));
    await Promise.all([...works, this.crowd.act(random)]);
  }

  /** Everything that only took room goes, perhaps with locks on it. */
  async empty(random: Random): Promise<void> {
    if (random.below(2) === 0) await this.crowd.release();
    for (let keys = this.#keys(); keys.length > 0; keys = keys.slice(SMALL_AT_ONCE)) {
      await Promise.all(keys.slice(0, SMALL_AT_ONCE).map((key) => vanish(this.#target, key)));
    }
  }

  #keys(): Key[] {
    return [...this.#target.model.entries.keys()].filter((key) => key.startsWith(`${FILLED}/`));
  }

  #key(kind: string): Key {
    return `${FILLED}/${kind}${this.#next++}`;
  }

  async #fillMetadata(random: Random): Promise<void> {
    const small = random.below(2) === 0 ? 0 : random.below(SMALL_FILES_MAX);
    const set = { mode: 0o644, atime: LONG_AGO, mtime: LONG_AGO };
    for (let i = 0; i < small; i += SMALL_AT_ONCE) {
      await Promise.all(Array.from({ length: SMALL_AT_ONCE }, () => create(this.#target, this.#key("small"), set)));
    }
    for (const atOnce of [LINKS_AT_ONCE, 1]) await this.#fillLinks(atOnce);
  }

  async #fillLinks(atOnce: number): Promise<void> {
    for (let all = true; all; ) {
      const made = await Promise.all(
        Array.from({ length: atOnce }, () => {
          const key = this.#key("link");
          return symlink(this.#target, key, key.padEnd(LINK_BYTES, "."));
        }),
      );
      all = made.every((done) => done);
    }
  }

  async #fillData(random: Random): Promise<void> {
    const { model } = this.#target;
    for (const portion of PORTIONS) {
      for (let taken = true; taken; ) {
        const key = this.#key("file");
        if (!(await create(this.#target, key))) return;
        const file = model.fileAt(key)!;
        for (let at = 0; taken && at < FILE_BYTES_MAX; at += portion) {
          const stability = random.below(3) === 0 ? "stable" : "unstable";
          taken = await write(this.#target, file, at, bytesOf(portion, random), stability);
        }
        await commit(this.#target, file);
      }
    }
  }

  async #one(random: Random): Promise<void> {
    const { model } = this.#target;
    // The locked file goes at the end only: whoever asks for a lock asks for one of it.
    const keys = this.#keys().filter((key) => key !== LOCKED);
    if (keys.length === 0) return;
    const key = keys[random.below(keys.length)]!;
    const file = model.fileAt(key);
    if (model.busy.has(key) || (file !== null && model.busy.has(file))) return;
    const dice = random.below(12);
    if (dice === 0) await vanish(this.#target, key);
    else if (dice === 1) await symlink(this.#target, this.#key("link"), "".padEnd(1 + random.below(LINK_BYTES), "."));
    else if (file !== null) await this.#onFile(file, dice, random);
  }

  #onFile(file: ModelFile, dice: number, random: Random): Promise<unknown> {
    const { length } = file.content;
    if (dice < 6) return setAttributes(this.#target, file, { atime: LATELY, mtime: LATELY, uid: 4_000_000_000 });
    if (dice < 8) return truncate(this.#target, file, random.below(length + 1));
    if (dice < 9) return read(this.#target, file, random);
    if (dice < 10) return commit(this.#target, file);
    const at = random.below(length + 1);
    const stability = random.below(2) === 0 ? "stable" : "unstable";
    return write(this.#target, file, at, bytesOf(1 + random.below(8000), random), stability);
  }
}
