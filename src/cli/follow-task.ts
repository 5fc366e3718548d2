import { isUnderWay } from "../control/task-state.js";
import type { GroupRow, TaskDescription, TaskReport } from "../control/types.js";
import { plural } from "../lib/plural.js";
import { formatSize } from "../lib/size.js";
import { type Context, isInteractive } from "./context.js";
import { formatDuration } from "./duration.js";
import { CliError } from "./errors.js";
import { type ProgressTarget, ProgressView, progressLine, taskName } from "./progress.js";

const POLL_MS = 500;

/** What the following of a task asks of outside. */
export interface FollowSources {
  groups(): Promise<readonly GroupRow[]>;
  sleep(ms: number): Promise<void>;
  /** null: shown to nobody. */
  readonly target: ProgressTarget | null;
}

/** @returns the report as it is when the task has ended. @throws CliError when the group is gone */
export async function followTask(first: TaskReport, sources: FollowSources): Promise<TaskReport> {
  const view = sources.target === null ? null : new ProgressView(sources.target);
  let report = first;
  try {
    while (report.task !== null && isUnderWay(report.task)) {
      view?.show(report.task);
      await sources.sleep(POLL_MS);
      report = await again(report, report.task, sources);
    }
    if (report.task !== null && report !== first) view?.show(report.task);
    return report;
  } finally {
    view?.end();
  }
}

async function again(report: TaskReport, { kind }: TaskDescription, sources: FollowSources): Promise<TaskReport> {
  const group = (await sources.groups()).find(({ name }) => name === report.group);
  if (group === undefined) throw new CliError(`group ${report.group} is gone`);
  const task = group.tasks.find((one) => one.kind === kind);
  if (task === undefined) throw new CliError(`group ${report.group} does not know of this ${kind} any more`);
  return { ...report, groupState: group.state, task, scrub: group.scrub };
}

export interface Watch {
  /** Stay until it has ended, and tell by the exit status how. */
  readonly wait: boolean;
  /** Stay when a person looks on. */
  readonly watch: boolean;
}

/** Print what an order came to; follow it where that is wanted. @throws CliError when it was waited for and did not end well */
export async function reportTask(context: Context, report: TaskReport, { wait, watch }: Watch): Promise<void> {
  const { out } = context;
  const follows = wait || (watch && !out.json && isInteractive(out));
  const last = follows ? await followTask(report, sourcesOf(context)) : report;
  out.result(last, () => out.line(describeReport(last, out.columns)));
  // One that had ended before is told of, not judged.
  const isNews = report.begun || (report.task !== null && isUnderWay(report.task));
  if (follows && isNews) throwUnlessWell(last);
}

function sourcesOf({ api, out }: Context): FollowSources {
  const target = {
    write: (text: string) => out.raw(text),
    terminal: isInteractive(out),
    columns: () => out.columns,
    nowMs: () => performance.now(),
  };
  return {
    groups: () => api.get<GroupRow[]>("/v1/groups"),
    sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    target: out.json ? null : target,
  };
}

export function describeReport({ group, groupState, task, begun, givenUp }: TaskReport, columns: number): string {
  if (givenUp !== undefined) return `group ${group}: ${plural(givenUp, "block")} given up`;
  if (task === null) return `group ${group} is ${groupState}: nothing to do`;
  if (isUnderWay(task)) return begun ? `group ${group}: ${taskName(task)} has begun` : progressLine(task, columns);
  return `group ${group}: ${taskName(task)} ${outcomeOf(task)}`;
}

function outcomeOf(task: TaskDescription): string {
  const { state, reason, doneBytes, startedMs, endedMs } = task;
  if (state === "failed") return `failed${reason === undefined ? "" : `: ${reason}`}`;
  if (state === "cancelled") return `was given up after ${formatSize(doneBytes)}`;
  const seconds = endedMs === undefined ? "" : ` after ${formatDuration((endedMs - startedMs) / 1000)}`;
  return `is done${seconds}${faultsOf(task)}`;
}

function faultsOf({ kind, found, healed }: TaskDescription): string {
  if (kind === "scrub") {
    return found === 0 ? ": nothing was wrong" : `: ${plural(found, "place")} wrong, ${healed} healed`;
  }
  return found === 0 ? "" : `: ${plural(found, "block")} given up`;
}

/** A scrub that left something wrong, a rebuild that lost blocks, work that did not end. */
function throwUnlessWell({ group, task }: TaskReport): void {
  if (task === null || isUnderWay(task)) return;
  const { state, found, healed, kind } = task;
  if (state !== "done") throw new CliError(`group ${group}: ${taskName(task)} ${outcomeOf(task)}`);
  if (found <= healed) return;
  const left = found - healed;
  throw new CliError(
    kind === "scrub"
      ? `group ${group}: ${left} of ${plural(found, "place")} still wrong; events names them`
      : `group ${group}: ${plural(left, "block")} given up and lost; events names them`,
  );
}
