import type { Clock } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { TaskDescription, TaskKind } from "./contract.js";
import type { Pace } from "./pace.js";
import { BackgroundTask, type TaskWork } from "./task.js";

export interface TaskBoardOptions {
  readonly clock: Clock;
  readonly pace: Pace;
  readonly onChange: (task: BackgroundTask) => void;
}

/** The background work of a group: the newest task of each kind, under way or ended. */
export class TaskBoard {
  readonly #tasks = new Map<TaskKind, BackgroundTask>();

  constructor(private readonly options: TaskBoardOptions) {}

  /** @throws StorageError EBUSY while one of its kind is under way */
  start(work: TaskWork): BackgroundTask {
    if (this.underWay(work.kind) !== null) throw new StorageError("EBUSY", `a ${work.kind} is under way already`);
    const task = new BackgroundTask(work, this.options);
    this.#tasks.set(work.kind, task);
    return task;
  }

  /** The task of this kind that has not ended. */
  underWay(kind: TaskKind): BackgroundTask | null {
    const task = this.#tasks.get(kind);
    return task?.underWay === true ? task : null;
  }

  /** @throws StorageError ENOENT */
  find(kind: TaskKind): BackgroundTask {
    const task = this.underWay(kind);
    if (task === null) throw new StorageError("ENOENT", `no ${kind} is under way`);
    return task;
  }

  describe(): TaskDescription[] {
    return [...this.#tasks.values()].map((task) => task.describe());
  }

  /** Every task ends after its step under way; resolves when nothing runs any more. */
  async stop(reason: string): Promise<void> {
    await Promise.all([...this.#tasks.values()].map((task) => task.cancel(reason)));
  }
}
