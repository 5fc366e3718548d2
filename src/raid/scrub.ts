import { wallMs } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { ScrubOptions, ScrubRecord } from "./contract.js";
import { closeInspectors, type ScrubGroup, ScrubWork, whyNot } from "./scrub-work.js";
import type { BackgroundTask } from "./task.js";

/** Seconds that the label has room for. */
const EVERY_MAX = 2 ** 32 - 1;

/** The scrubs of a group: at most one at a time. What is to be known after a restart is on the labels (ScrubRecord). */
export class Scrubs {
  readonly #group: ScrubGroup;
  #starting = false;
  #work: ScrubWork | null = null;

  constructor(group: ScrubGroup) {
    this.#group = group;
  }

  get #record(): ScrubRecord {
    return this.#group.labels.record.scrub;
  }

  /** The inspectors are closed when the scrub has ended, or is refused. @throws as Group.scrub */
  async start(options: ScrubOptions): Promise<void> {
    try {
      this.#refuse();
      this.#starting = true;
      await this.#begin(options).finally(() => {
        this.#starting = false;
      });
    } catch (error) {
      closeInspectors(options);
      throw error;
    }
  }

  /** @throws StorageError EBUSY, EIO */
  #refuse(): void {
    const { tasks, name } = this.#group;
    this.#group.assertAlive();
    const why = this.#starting || tasks.underWay("scrub") !== null ? "a scrub is under way" : whyNot(this.#group);
    if (why !== null) throw new StorageError("EBUSY", `group "${name}" cannot be scrubbed now: ${why}`);
  }

  async #begin(options: ScrubOptions): Promise<void> {
    const { labels, tasks } = this.#group;
    const fresh = { startedMs: wallMs(this.#group.clock), atBytes: 0, found: 0, healed: 0 };
    const goesOn = this.#record.state !== "idle";
    // Whoever goes on with it may not know how it was begun: the schedule, a restart of the daemon.
    const heal = options.heal && (!goesOn || this.#record.heal);
    labels.record = { ...labels.record, scrub: { ...this.#record, ...(goesOn ? {} : fresh), heal } };
    const work = new ScrubWork(this.#group, { ...options, heal });
    await work.checkLabels();
    work.note({ state: "running" });
    await work.save();
    const task = tasks.start(work);
    work.stop = (reason) => void task.cancel(reason);
    this.#work = work;
  }

  /** @throws StorageError EINVAL */
  async schedule(everySeconds: number): Promise<void> {
    if (!Number.isInteger(everySeconds) || everySeconds < 0 || everySeconds > EVERY_MAX) {
      throw new StorageError("EINVAL", `a scrub every ${everySeconds} seconds: 0 (never) to ${EVERY_MAX}`);
    }
    this.#group.assertAlive();
    await this.#set({ everySeconds });
  }

  async #set(change: Partial<ScrubRecord>): Promise<void> {
    const { labels } = this.#group;
    labels.record = { ...labels.record, scrub: { ...this.#record, ...change } };
    await labels.save();
  }

  /** @throws StorageError ENOENT, also when it is only writing down how it ended */
  #find(): BackgroundTask {
    const task = this.#group.tasks.find("scrub");
    if (this.#work?.ending === true) throw new StorageError("ENOENT", "no scrub is under way: it has just ended");
    return task;
  }

  /** @throws StorageError ENOENT */
  async pause(): Promise<void> {
    this.#find().pause();
    this.#work?.note({ state: "paused" });
    await this.#work?.save();
  }

  /** Of a scrub that only the labels remember, `start` is the way to go on. @throws StorageError ENOENT */
  async resume(): Promise<void> {
    this.#find().resume();
    this.#work?.note({ state: "running" });
    await this.#work?.save();
  }

  /** Give it up, also one that only the labels remember. @throws StorageError ENOENT */
  async cancel(): Promise<void> {
    if (this.#group.tasks.underWay("scrub") === null && this.#record.state !== "idle") {
      await this.#set({ state: "idle", atBytes: 0 });
      return;
    }
    const task = this.#find();
    if (this.#work !== null) this.#work.givenUp = true;
    await task.cancel("given up");
  }
}
