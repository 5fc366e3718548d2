import type { Steps } from "./book.js";

/** What may be done in one turn of the event loop, in the costs of steps: some two milliseconds. */
const TURN_COST = 1_000;
/** Of every task, whatever it does. */
const TASK_COST = 2;

export interface Task {
  steps(): Steps<void>;
  /** A step has thrown, or the lanes have stopped before the last one. */
  failed(error: unknown): void;
}

interface Queued {
  readonly task: Task;
  steps: Steps<void> | null;
}

/**
 * Tasks that are done in steps: one after the other on a lane, side by side on several. A task begins at once when its lane is free, and is done
 * in that piece unless it is long; the rest of it, and of all others, goes on in later turns of the event loop, a bounded part in each.
 */
export class WorkLanes {
  readonly #lanes = new Map<number, Queued[]>();
  #spent = 0;
  #armed = false;
  /** There will be no room any more: the file system has stopped, and the next steps say so to whoever waits. */
  #stopped = false;
  #resting: (() => void)[] = [];

  /**
   * @param afterPortion  called whenever some steps have been done
   * @param roomInCommit  null: there is room for a step; else when there is. A rejection is told to those who wait for durability
   */
  constructor(
    private readonly afterPortion: () => void,
    private readonly roomInCommit: () => Promise<void> | null,
  ) {}

  run(lane: number, task: Task): void {
    const queued: Queued = { task, steps: null };
    const others = this.#lanes.get(lane);
    if (others !== undefined) {
      others.push(queued);
      return;
    }
    // Its own lane meanwhile: whatever it calls finds it taken.
    this.#lanes.set(lane, [queued]);
    if (this.#mayStep) this.#work(lane);
    this.#arm();
  }

  /** Nothing is under way on it. */
  isFree(lane: number): boolean {
    return !this.#lanes.has(lane);
  }

  /** Resolves at once, or in the next turn when this one has had its part. */
  async rest(): Promise<void> {
    if (this.#spent < TURN_COST) return;
    await new Promise<void>((resolve) => {
      this.#resting.push(resolve);
      this.#arm();
    });
  }

  /** Nothing more is done: every task that has not ended fails. */
  stop(error: unknown): void {
    const left = [...this.#lanes.values()].flat();
    this.#lanes.clear();
    for (const { task } of left) task.failed(error);
  }

  /** The turn has not had its part, and the commit has room; when it has none, the next turn waits for that. */
  get #mayStep(): boolean {
    if (this.#spent >= TURN_COST) return false;
    if (this.#stopped) return true;
    const room = this.roomInCommit();
    room?.catch(() => {});
    return room === null;
  }

  #arm(): void {
    if (this.#armed || (this.#spent === 0 && this.#lanes.size === 0 && this.#resting.length === 0)) return;
    this.#armed = true;
    setImmediate(() => {
      this.#armed = false;
      this.#turn();
    });
  }

  #turn(): void {
    const room = this.roomInCommit();
    if (room === null) {
      this.#portion();
      return;
    }
    this.#armed = true;
    const disarmed = (next: () => void) => () => {
      this.#armed = false;
      next();
    };
    room.then(
      disarmed(() => this.#turn()),
      disarmed(() => {
        this.#stopped = true;
        this.#portion();
      }),
    );
  }

  #portion(): void {
    this.#spent = 0;
    for (const resolve of this.#resting.splice(0)) resolve();
    for (const lane of this.#lanes.keys()) {
      if (!this.#mayStep) break;
      this.#work(lane);
    }
    this.#arm();
  }

  /** Until the lane is empty, or the turn has had its part; then the other lanes come first. */
  #work(lane: number): void {
    const queue = this.#lanes.get(lane) ?? [];
    while (queue.length > 0 && this.#mayStep) {
      if (!this.#isDone(queue[0]!)) break;
      queue.shift();
    }
    this.#lanes.delete(lane);
    if (queue.length > 0) this.#lanes.set(lane, queue);
    this.afterPortion();
  }

  #isDone(queued: Queued): boolean {
    this.#spent += TASK_COST;
    try {
      queued.steps ??= queued.task.steps();
      while (this.#mayStep) {
        const { done, value } = queued.steps.next();
        if (done === true) return true;
        this.#spent += value;
      }
      return false;
    } catch (error) {
      queued.task.failed(error);
      return true;
    }
  }
}
