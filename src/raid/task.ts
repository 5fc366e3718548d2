import { type Clock, wallMs } from "../lib/clock.js";
import { messageOf } from "../lib/errors.js";
import type { TaskDescription, TaskKind, TaskState } from "./contract.js";
import type { Pace } from "./pace.js";

/** What a task does, piece by piece. */
export interface TaskWork {
  readonly kind: TaskKind;
  readonly disk?: number | undefined;
  readonly totalBytes: number;
  /** Counted from the same place as `totalBytes`, also by work that goes on from an earlier life. */
  readonly doneBytes: number;
  readonly found: number;
  readonly healed: number;
  /** Before the first step; by default none. */
  readonly headStartMs?: number;
  /** After a step: there is nothing to do for so long but to wait. */
  readonly restMs?: number;
  /** For people, while it waits for something. */
  readonly waitsFor?: string | undefined;
  /** The next piece, some tens of milliseconds at most. @returns false when there is none left; an error ends the task */
  step(): Promise<boolean>;
  /** Everything that is to be true when the task has ended well; its error makes it fail. Also called, with false, when it ends otherwise. */
  finish(whole: boolean): Promise<void>;
}

export interface TaskOptions {
  readonly clock: Clock;
  readonly pace: Pace;
  readonly onChange: (task: BackgroundTask) => void;
}

/** Over how long the rate is taken. */
const RATE_WINDOW_MS = 5000;

/**
 * Work in the background of a group: steps one after another, as fast as the pace lets them, until there are none, or until it is
 * paused, stopped or failed. It holds nothing between two steps.
 */
export class BackgroundTask {
  /** Wall time. */
  readonly startedMs: number;
  /** By the monotonic clock. */
  readonly #startedAt: number;
  readonly #samples: Array<{ readonly at: number; readonly doneBytes: number }> = [];
  #state: TaskState = "running";
  #endedMs: number | undefined;
  #reason: string | undefined;
  #stopping = false;
  #resume: (() => void) | null = null;
  readonly #running: Promise<void>;

  constructor(
    readonly work: TaskWork,
    private readonly options: TaskOptions,
  ) {
    this.startedMs = wallMs(options.clock);
    this.#startedAt = options.clock.monotonicMs();
    this.#running = this.#run();
  }

  get state(): TaskState {
    return this.#state;
  }

  /** running or paused */
  get underWay(): boolean {
    return this.#state === "running" || this.#state === "paused";
  }

  /** Resolves when it has ended, however. */
  get ended(): Promise<void> {
    return this.#running;
  }

  pause(): void {
    if (this.#state !== "running") return;
    this.#state = "paused";
    this.options.onChange(this);
  }

  resume(): void {
    if (this.#state !== "paused") return;
    this.#state = "running";
    this.#samples.length = 0;
    this.options.onChange(this);
    this.#resume?.();
  }

  /** End it after the step under way; what was done stays done. Resolves when nothing of it runs any more. */
  async cancel(reason?: string): Promise<void> {
    this.#stopping = true;
    this.#reason ??= reason;
    this.#resume?.();
    this.options.pace.hurry();
    await this.#running;
  }

  async #run(): Promise<void> {
    // The caller gets the object before anything happens.
    await Promise.resolve();
    this.options.onChange(this);
    let whole = false;
    try {
      whole = await this.#steps();
      await this.work.finish(whole);
      this.#end(whole ? "done" : "cancelled");
    } catch (error) {
      this.#reason = messageOf(error);
      if (!whole) await this.work.finish(false).catch(() => {});
      this.#end("failed");
    }
  }

  /** @returns false when it was told to stop before the last step */
  async #steps(): Promise<boolean> {
    const { clock, pace } = this.options;
    const { headStartMs } = this.work;
    if (headStartMs !== undefined) await pace.wait(headStartMs);
    for (;;) {
      if (this.#stopping) return false;
      if (this.#state === "paused") {
        await new Promise<void>((resolve) => (this.#resume = resolve));
        this.#resume = null;
        continue;
      }
      if (
        !(await pace.turn(
          () => this.work.step(),
          () => !this.#stopping,
        ))
      )
        return true;
      this.#sample(clock.monotonicMs());
      const { restMs = 0 } = this.work;
      if (restMs > 0 && !this.#stopping) await pace.wait(restMs);
    }
  }

  #sample(at: number): void {
    this.#samples.push({ at, doneBytes: this.work.doneBytes });
    while (this.#samples.length > 2 && at - this.#samples[0]!.at > RATE_WINDOW_MS) this.#samples.shift();
  }

  #end(state: TaskState): void {
    this.#state = state;
    // However the wall clock was set meanwhile: it took as long as it took.
    this.#endedMs = this.startedMs + Math.round(this.options.clock.monotonicMs() - this.#startedAt);
    this.options.onChange(this);
  }

  #rate(): number {
    const [first, last] = [this.#samples[0], this.#samples[this.#samples.length - 1]];
    if (this.#state !== "running" || first === undefined || last === undefined || last.at <= first.at) return 0;
    return ((last.doneBytes - first.doneBytes) / (last.at - first.at)) * 1000;
  }

  describe(): TaskDescription {
    const { kind, disk, doneBytes, totalBytes, found, healed } = this.work;
    const rate = this.#rate();
    const reason = this.#reason ?? (this.underWay ? this.work.waitsFor : undefined);
    return {
      ...{ kind, state: this.#state, doneBytes, totalBytes, found, healed, startedMs: this.startedMs },
      bytesPerSecond: Math.round(rate),
      secondsLeft: rate > 0 ? Math.ceil((totalBytes - doneBytes) / rate) : null,
      ...(disk === undefined ? {} : { disk }),
      ...(this.#endedMs === undefined ? {} : { endedMs: this.#endedMs }),
      ...(reason === undefined ? {} : { reason }),
    };
  }
}
