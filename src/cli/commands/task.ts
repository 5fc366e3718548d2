import { Command, Option } from "commander";
import type { GroupRow, TaskReport } from "../../control/types.js";
import { plural } from "../../lib/plural.js";
import { type CommonOptions, contextOf, diskNumberArgument, withDaemonOptions } from "../context.js";
import { durationArgument, formatDuration } from "../duration.js";
import { UsageError } from "../errors.js";
import { reportTask } from "../follow-task.js";

/** Work in the background of a group: `group scrub`, `group rebuild`, `group grow`. */

interface TaskOptions extends CommonOptions {
  readonly pause?: true;
  readonly resume?: true;
  readonly cancel?: true;
  readonly wait?: true;
}

const WAIT_HELP = `
On a terminal its progress is shown until it has ended; interrupting that does not interrupt the work.
With --wait the exit status tells how it ended.`;

function taskCommand(name: string): Command {
  return withDaemonOptions(new Command(name))
    .argument("[group]", "needed when there are several")
    .addOption(new Option("--pause", "until resumed").conflicts(["resume", "wait"]))
    .option("--resume", "go on with what was paused")
    .option("--wait", "until it has ended")
    .addHelpText("after", WAIT_HELP);
}

function actionOf({ pause, resume, cancel }: TaskOptions): "pause" | "resume" | "cancel" | undefined {
  if (pause === true) return "pause";
  if (cancel === true) return "cancel";
  return resume === true ? "resume" : undefined;
}

/** Send the order; follow what it began, not what it ended. */
async function order(kind: string, group: string | undefined, options: TaskOptions, body: object): Promise<void> {
  const context = contextOf(options);
  const action = actionOf(options);
  const report = await context.api.post<TaskReport>(`/v1/tasks/${kind}`, { group, action, ...body });
  const watch = action === undefined || action === "resume";
  await reportTask(context, report, { wait: options.wait === true, watch });
}

interface ScrubOptions extends TaskOptions {
  readonly heal: boolean;
  readonly every?: number;
}

export function scrubCommand(): Command {
  return taskCommand("scrub")
    .description("read everything, compare checksums, parity and copies, and heal what is wrong")
    .addOption(new Option("--cancel", "give it up").conflicts(["pause", "resume", "wait"]))
    .option("--no-heal", "only report what is wrong")
    .addOption(
      new Option("--every <time>", "begin by itself this often: 12h, 7d, 2w, or never; begins none now")
        .argParser(durationArgument)
        .conflicts(["pause", "resume", "cancel", "wait"]),
    )
    .action(async (group: string | undefined, options: ScrubOptions) => {
      if (options.every !== undefined) return schedule(group, options.every, options);
      return order("scrub", group, options, { heal: options.heal });
    });
}

async function schedule(group: string | undefined, everySeconds: number, options: CommonOptions): Promise<void> {
  const { api, out } = contextOf(options);
  const report = await api.post<TaskReport>("/v1/tasks/scrub", { group, everySeconds });
  out.result(report, () => out.line(`group ${report.group}: ${describeScrub(report.scrub)}`));
}

interface RebuildOptions extends TaskOptions {
  readonly disk?: number;
  readonly force?: true;
  readonly giveUp?: true;
}

const GIVE_UP_HELP = `
What cannot be read now is waited for, as long as it takes; events and status say for which disk. --give-up tries it once more, and
declares lost whatever cannot be read then: reading it is an I/O error until it is written. Disks that could not be read are not
overwritten by that, so what turns up again later is taken back. Before that, plug an old disk in again: it is used as a source.`;

export function rebuildCommand(): Command {
  return taskCommand("rebuild")
    .description("rebuild the member that is not online: taken back when it is here, else on a spare or unused disk")
    .addOption(new Option("--disk <number>", "which member").argParser(diskNumberArgument))
    .option("--force", "take a disk back that failed, or that went on without the group")
    .addOption(
      new Option("--give-up", "what cannot be read on another disk, and is waited for, is lost").conflicts([
        ...["pause", "resume", "disk", "force"],
      ]),
    )
    .addHelpText("after", GIVE_UP_HELP)
    .action((group: string | undefined, options: RebuildOptions) => {
      if (options.giveUp === true) return order("rebuild", group, options, { giveUp: true });
      return order("rebuild", group, options, { disk: options.disk, force: options.force === true });
    });
}

interface GrowOptions extends TaskOptions {
  readonly disk?: number;
}

export function growCommand(): Command {
  return taskCommand("grow")
    .description("give a group one more disk; RAID-5 LUs are spread over it in the background")
    .addOption(new Option("--disk <number>", "an unused or spare disk").argParser(diskNumberArgument))
    .action((group: string | undefined, options: GrowOptions) => {
      if (options.disk !== undefined && actionOf(options) !== undefined) {
        throw new UsageError("--disk begins a growth: not together with --pause or --resume");
      }
      return order("grow", group, options, { disk: options.disk });
    });
}

/** `scrubbed every 7 d; last on 2026-01-01T00:00:00.000Z: 3 places wrong, 3 healed`, or `0 healed (only reported)` */
export function describeScrub({
  everySeconds,
  startedMs,
  finishedMs,
  state,
  heal,
  found,
  healed,
}: GroupRow["scrub"]): string {
  const schedule = everySeconds === 0 ? "scrubbed by hand" : `scrubbed every ${formatDuration(everySeconds)}`;
  if (startedMs === 0) return `${schedule}; never yet`;
  const outcome =
    found === 0
      ? "nothing wrong"
      : `${plural(found, "place")} wrong, ${healed} healed${heal ? "" : " (only reported)"}`;
  const at = new Date(state === "idle" && finishedMs >= startedMs ? finishedMs : startedMs).toISOString();
  return state === "idle"
    ? `${schedule}; last on ${at}: ${outcome}`
    : `${schedule}; ${state} since ${at}: ${outcome} so far`;
}
