import type { TaskDescription } from "../control/types.js";
import { formatSize } from "../lib/size.js";
import { formatDuration } from "./duration.js";
import { diskNumber } from "./output.js";

/** Columns of a bar: it takes what the texts leave, within these. */
const BAR_COLUMNS_MIN = 8;
const BAR_COLUMNS_MAX = 40;
/** Where nothing is redrawn (a pipe, a log), one line this often. */
const LINE_EVERY_MS = 5000;

/** How far something is: a task of the daemon, or the work of this command. */
export type ProgressState = Pick<
  TaskDescription,
  "doneBytes" | "totalBytes" | "state" | "bytesPerSecond" | "secondsLeft" | "found"
> & {
  readonly kind: string;
  readonly disk?: number | undefined;
  /** What it waits for. */
  readonly reason?: string | undefined;
};

/** `rebuild of disk #004` */
export function taskName({ kind, disk }: Pick<ProgressState, "kind" | "disk">): string {
  if (disk === undefined) return kind;
  return `${kind} ${kind === "grow" ? "on to" : "of"} disk ${diskNumber(disk)}`;
}

/**
 * `rebuild of disk #004 [#####.....]  45 %  812 MiB of 1.8 GiB  120 MiB/s  8 s left`, never wider than `columns`: the sizes go first, then
 * the rate, then the bar.
 */
export function progressLine(task: ProgressState, columns: number): string {
  const { doneBytes, totalBytes } = task;
  const share = totalBytes <= 0 ? 1 : Math.min(1, doneBytes / totalBytes);
  const name = taskName(task);
  const percent = `${String(Math.floor(share * 100)).padStart(3)} %`;
  const sizes = `${formatSize(doneBytes)} of ${formatSize(totalBytes)}`;
  const choices = [
    [sizes, ...rateOf(task), ...remainderOf(task)],
    [...rateOf(task), ...remainderOf(task)],
    remainderOf(task),
  ];
  for (const texts of choices) {
    const tail = [percent, ...texts].join("  ");
    const barColumns = Math.min(columns - name.length - tail.length - 4, BAR_COLUMNS_MAX);
    if (barColumns >= BAR_COLUMNS_MIN) return `${name} ${bar(share, barColumns)} ${tail}`;
  }
  return `${name} ${percent}`.slice(0, Math.max(0, columns));
}

function bar(share: number, columns: number): string {
  const full = Math.floor(share * columns);
  return `[${"#".repeat(full)}${".".repeat(columns - full)}]`;
}

function rateOf({ state, bytesPerSecond }: ProgressState): string[] {
  return state === "running" && bytesPerSecond > 0 ? [`${formatSize(bytesPerSecond)}/s`] : [];
}

function remainderOf({ state, secondsLeft, found, reason }: ProgressState): string[] {
  const wrong = found > 0 ? [`${found} found`] : [];
  if (state === "paused") return ["paused", ...wrong];
  if (reason !== undefined) return [reason, ...wrong];
  return secondsLeft === null ? wrong : [`${formatDuration(secondsLeft)} left`, ...wrong];
}

/** Where progress is drawn. */
export interface ProgressTarget {
  write(text: string): void;
  /** A terminal is redrawn in place. */
  readonly terminal: boolean;
  /** Of the terminal, now: it may be resized. */
  columns(): number;
  /** Milliseconds, from anywhere. */
  nowMs(): number;
}

/** Shows how far a task is: one line that is redrawn on a terminal, a line now and then elsewhere. */
export class ProgressView {
  #lastMs = Number.NEGATIVE_INFINITY;
  #lastState = "";
  #drawn = false;

  constructor(private readonly target: ProgressTarget) {}

  show(task: ProgressState): void {
    const { target } = this;
    if (target.terminal) {
      // A line that fills the last column would wrap on some terminals.
      target.write(`\r${progressLine(task, target.columns() - 1)}\x1b[K`);
      this.#drawn = true;
      return;
    }
    const now = target.nowMs();
    if (task.state === this.#lastState && now - this.#lastMs < LINE_EVERY_MS) return;
    this.#lastMs = now;
    this.#lastState = task.state;
    target.write(`${progressLine(task, target.columns())}\n`);
  }

  /** What follows begins on a line of its own. */
  end(): void {
    if (this.#drawn) this.target.write("\n");
    this.#drawn = false;
  }
}
