import { plural } from "../lib/plural.js";
import type { Member } from "./member.js";

/** Units that may wait; with more the work stays where it is until some of them are done. */
const UNITS_MAX = 4096;
/** Between two tries of the same: little at first, since most disturbances are short. */
const REST_MS_MIN = 100;
const REST_MS_MAX = 5000;

/** Whom a unit waits for. */
interface Blocked {
  readonly member: Member;
  /** Byte on the member. */
  readonly position: number;
}

/** Parts of the row space that could not be rebuilt because another member cannot be read there now, to be tried again with back-off. */
export class WaitingRows {
  readonly #unitBytes: number;
  /** By unit of the row space, those that were tried longest ago first. */
  readonly #units = new Map<number, Blocked>();
  #restMs = REST_MS_MIN;
  #told = false;
  /** Put back since they were tried. */
  readonly #again = new Set<number>();

  /** @param unitBytes  of the row space: what is tried again at once */
  constructor(unitBytes: number) {
    this.#unitBytes = unitBytes;
  }

  get count(): number {
    return this.#units.size;
  }

  get byteCount(): number {
    return this.#units.size * this.#unitBytes;
  }

  get full(): boolean {
    return this.#units.size >= UNITS_MAX;
  }

  /** Byte of the row space before which nothing waits; Infinity: nothing does. */
  get first(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const unit of this.#units.keys()) first = Math.min(first, unit * this.#unitBytes);
    return first;
  }

  /** For people; undefined while nothing waits. */
  get text(): string | undefined {
    const [blocked] = this.#units.values();
    if (blocked === undefined) return undefined;
    const more = this.#units.size === 1 ? "" : `, and ${plural(this.#units.size - 1, "other place")}`;
    const { member, position } = blocked;
    return `waits for disk #${String(member.label.number).padStart(3, "0")}: unreadable at byte ${position}${more}`;
  }

  /** Between two tries. */
  get restMs(): number {
    return this.#units.size === 0 ? 0 : this.#restMs;
  }

  /** @returns whether it is the first for a while: people are to be told */
  add(rowByte: number, member: Member, position: number): boolean {
    const unit = Math.floor(rowByte / this.#unitBytes);
    // The one that was tried last comes last.
    this.#units.delete(unit);
    this.#units.set(unit, { member, position });
    this.#again.add(unit);
    const first = !this.#told;
    this.#told = true;
    return first;
  }

  /** Nothing waits any more, and people were told that something did: they are to be told so once. */
  get tell(): boolean {
    const over = this.#told && this.#units.size === 0;
    if (over) this.#told = false;
    return over;
  }

  /**
   * Try some, as ranges of the row space: `action` adds again what cannot be read still.
   * @param all  not only so many bytes
   * @throws what `action` throws; that range waits still
   */
  async retry(byteCount: number, all: boolean, action: (from: number, to: number) => Promise<void>): Promise<void> {
    const before = this.#units.size;
    const due = [...this.#units.keys()].slice(0, all ? before : Math.max(1, byteCount / this.#unitBytes));
    for (const unit of due) {
      // It waits until it is done: whoever asks meanwhile, and a crash, must find it.
      this.#again.delete(unit);
      await action(unit * this.#unitBytes, (unit + 1) * this.#unitBytes);
      if (!this.#again.has(unit)) this.#units.delete(unit);
    }
    this.#restMs = this.#units.size < before ? REST_MS_MIN : Math.min(2 * this.#restMs, REST_MS_MAX);
  }

  hurry(): void {
    this.#restMs = REST_MS_MIN;
  }
}
