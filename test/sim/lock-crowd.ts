import type { LockOwner, LockRow } from "../../src/fs/vfs.js";
import type { Random } from "../../src/lib/prng.js";
import { FILLED, type Key, type ModelFile } from "./fs-model.js";
import { create, type FsTarget, stopped, unlessRefused } from "./fs-operations.js";
import type { Simulation } from "./simulation.js";

export const LOCKED: Key = `${FILLED}/locked`;
const LAST = 1000n;
const ALL = { first: 0n, last: LAST };
const HOLDER = 1_000_000;
const PER_ADDRESS = 100;
/** An owner has 2 KiB at most: rows of a page each. */
const NAME_BYTES_MAX = 1020;
const SERVED_MS_MAX = 60_000;

/** What one who waits may have; an unlock that a crash has interrupted had begun with taking what was offered. */
const RIGHT: readonly string[] = ["waiting", "held and offered", "held"];

/** sure: it was answered. unsure: what it asked for last was not. */
type Known = "sure" | "unsure";

/**
 * One file, an owner who has all of it, and many who wait for that: its unlock gives something to all of them, in rows that nobody asks for at that
 * moment. Who was told that it waits, or has something, is not forgotten by any crash.
 */
export class LockCrowd {
  readonly #target: FsTarget;
  readonly #simulation: Simulation;
  readonly #waiters = new Map<number, Known>();
  /** Those that were told of their lock. */
  readonly #told = new Set<number>();
  #holder: Known | "gone" = "gone";
  #file: ModelFile | null = null;
  #nameBytes = 0;
  #splits = 0;

  constructor(target: FsTarget, simulation: Simulation) {
    this.#target = target;
    this.#simulation = simulation;
  }

  /** It is there, as far as anybody knows. */
  get #isThere(): boolean {
    return this.#file !== null && this.#target.model.fileAt(LOCKED) === this.#file;
  }

  async gather(count: number, random: Random): Promise<void> {
    const { model } = this.#target;
    if (this.#isThere || model.entries.has(LOCKED)) return;
    this.#forget();
    this.#nameBytes = random.below(3) === 0 ? random.below(100) : NAME_BYTES_MAX - random.below(40);
    if (!(await create(this.#target, LOCKED))) return;
    this.#file = model.fileAt(LOCKED);
    this.#holder = "unsure";
    if (!(await this.#lock(HOLDER, true))) this.#holder = "gone";
    else this.#holder = "sure";
    if (this.#holder === "sure") await Promise.all(Array.from({ length: count }, (_, i) => this.#wait(i)));
  }

  /** Something by chance. */
  async act(random: Random): Promise<void> {
    const dice = random.below(8);
    if (!this.#isThere || dice > 4) return;
    if (dice === 0) await this.release();
    else if (dice < 3) await this.#split();
    else if (dice === 3) await this.#leave(random.below(this.#waiters.size + 1));
    else await this.#wait(random.below(this.#waiters.size + 1));
  }

  /** Whoever waits has it afterwards. */
  async release(): Promise<void> {
    if (this.#holder !== "sure" || !this.#isThere) return;
    this.#holder = "unsure";
    if (await this.#unlock(HOLDER, ALL, false)) this.#holder = "gone";
  }

  /** A mount is new: nobody listens yet. */
  listen(): void {
    const { fs } = this.#target;
    fs.locks.onGranted(({ ino, owner }) => {
      if (ino === this.#file?.id?.ino) this.#told.add(owner.svid);
    });
  }

  /** After a recovery, and whenever nothing is under way. @throws Error when something is not as it was answered */
  async check(): Promise<void> {
    if (!this.#isThere) this.#forget();
    if (this.#file === null) return;
    const rows = new Map<number, LockRow[]>();
    for (const row of this.#rows()) rows.set(row.owner.svid, [...(rows.get(row.owner.svid) ?? []), row]);
    if (this.#holder === "unsure") this.#holder = rows.has(HOLDER) ? "sure" : "gone";
    if (rows.has(HOLDER) !== (this.#holder === "sure"))
      throw new Error(`the lock of the holder is not ${this.#holder}`);
    rows.delete(HOLDER);
    for (const [svid, known] of this.#waiters) this.#checkOne(svid, known, rows.get(svid) ?? []);
    for (const svid of rows.keys())
      if (!this.#waiters.has(svid)) throw new Error(`${svid} has a lock, and never asked`);
    if (this.#holder === "gone") await this.#untilServed();
  }

  #checkOne(svid: number, known: Known, rows: readonly LockRow[]): void {
    const states = rows.map(({ state }) => state).sort();
    if (known === "unsure") {
      if (rows.length === 0) this.#waiters.delete(svid);
      else this.#waiters.set(svid, "sure");
      return;
    }
    const text = states.join(" and ");
    if (!RIGHT.includes(text)) throw new Error(`the request of ${svid} is "${text}"`);
    if (text === "waiting" && this.#told.has(svid))
      throw new Error(`${svid} waits again for what it was told that it has`);
  }

  async #untilServed(): Promise<void> {
    const { nowMs } = this.#simulation;
    while (this.#rows().some(({ state }) => state === "waiting")) {
      if (this.#target.fs.failed !== null) throw stopped(this.#target.fs.failed);
      if (this.#simulation.nowMs - nowMs > SERVED_MS_MAX) throw new Error("requests wait for a lock that nobody has");
      await this.#simulation.until(this.#simulation.sleep(100), "requests that wait for a lock");
    }
  }

  #rows(): LockRow[] {
    return this.#target.fs.locks.list().filter(({ ino }) => ino === this.#file?.id?.ino);
  }

  #forget(): void {
    this.#file = null;
    this.#waiters.clear();
    this.#told.clear();
    this.#holder = "gone";
    this.#splits = 0;
  }

  async #wait(svid: number): Promise<void> {
    if (this.#waiters.has(svid)) return;
    this.#waiters.set(svid, "unsure");
    const { life } = this.#target.model;
    const done = await this.#lock(svid, false);
    if (life !== this.#target.model.life) return;
    if (done) this.#waiters.set(svid, "sure");
    else this.#waiters.delete(svid);
  }

  /** One of those who waited gives back what it has, or waits no more. */
  async #leave(svid: number): Promise<void> {
    if (this.#waiters.get(svid) !== "sure") return;
    this.#waiters.set(svid, "unsure");
    this.#told.delete(svid);
    if (await this.#unlock(svid, ALL, false)) this.#waiters.delete(svid);
  }

  /** A hole in what the holder has: a row more. */
  async #split(): Promise<void> {
    const first = BigInt(2 * ++this.#splits + 1);
    if (this.#holder !== "sure" || first >= LAST) return;
    await this.#unlock(HOLDER, { first, last: first }, true);
  }

  #lock(svid: number, exclusive: boolean): Promise<boolean> {
    const { fs } = this.#target;
    const request = { owner: this.#owner(svid), ...ALL, exclusive };
    return unlessRefused(this.#target, true, `lock of ${svid}`, () =>
      fs.locks.lock(this.#file!.id!, request, Buffer.from("note")),
    );
  }

  async #unlock(svid: number, range: { first: bigint; last: bigint }, takesRoom: boolean): Promise<boolean> {
    const { fs, model } = this.#target;
    const { life } = model;
    const call = () => fs.locks.unlock(this.#file!.id!, { owner: this.#owner(svid), ...range });
    return (await unlessRefused(this.#target, takesRoom, `unlock of ${svid}`, call)) && life === model.life;
  }

  #owner(svid: number): LockOwner {
    const address = `10.0.${Math.floor(svid / PER_ADDRESS) % 250}.1`;
    const host = "h".repeat(this.#nameBytes);
    return { address, host, svid, oh: Buffer.alloc(this.#nameBytes, svid & 255) };
  }
}
