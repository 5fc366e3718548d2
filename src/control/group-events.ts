import { plural } from "../lib/plural.js";
import { formatSize } from "../lib/size.js";
import type { GroupEvent } from "../raid/contract.js";
import { pad } from "./disk-shelf.js";
import type { NewEvent } from "./event-log.js";
import type { Severity } from "./types.js";

/** What each event says, before disk and place are put to it. */
const EVENTS: Readonly<
  Record<GroupEvent["kind"], { readonly severity: Severity; readonly say: (e: GroupEvent) => string }>
> = {
  "member-failed": { severity: "error", say: (e) => `${disk(e)} ${lost(e)}${because(e)}` },
  "member-acquitted": { severity: "info", say: (e) => `${disk(e)} has not failed${because(e)}` },
  "member-released": { severity: "info", say: (e) => `${disk(e)} was let go, its path is free` },
  "member-stale": { severity: "warning", say: (e) => `${disk(e)} is stale and is not read${because(e)}` },
  "copy-passed-over": {
    severity: "warning",
    say: (e) => `${e.detail.path} is an earlier copy of ${disk(e)} and is not used: ${e.detail.used} is newer`,
  },
  "member-left-out": {
    severity: "error",
    say: (e) => `${disk(e)} is neither read nor written, so that nobody waits for it${because(e)}`,
  },
  "member-slow": {
    severity: "warning",
    say: (e) =>
      `${disk(e)} answers much later than the others and is read only when there is no other way${because(e)}`,
  },
  "member-well": { severity: "info", say: (e) => `${disk(e)} answers in time again` },
  "member-returned": { severity: "info", say: (e) => `${disk(e)} is back, what it missed is being written on it` },
  "member-replaced": { severity: "info", say: (e) => `${disk(e)} ${replaced(e)} and is being rebuilt` },
  "read-error": { severity: "warning", say: (e) => `${place(e)} could not be read${because(e)}${repaired(e)}` },
  degraded: { severity: "warning", say: () => "redundancy is lost" },
  complete: { severity: "info", say: () => "redundancy is whole again" },
  failed: { severity: "error", say: () => "too many disks are lost, nothing more is served" },
  replayed: { severity: "info", say: () => "its journal was replayed after an unclean stop" },
  resynced: { severity: "info", say: () => "parity and copies were made consistent after an unclean stop" },
  healed: { severity: "warning", say: (e) => `${place(e)}${owner(e)} was bad and has been rewritten` },
  "scrub-fault": { severity: "warning", say: fault },
  "lost-blocks": { severity: "error", say: (e) => `${place(e)}${owner(e)} was given up and is lost` },
  "unread-block": {
    severity: "warning",
    say: (e) => `${place(e)} cannot be read now; it stays as it is, and is tried again`,
  },
  "block-back": { severity: "info", say: (e) => `${place(e)} could not be read, and is there again` },
  "rebuild-waits": {
    severity: "warning",
    say: (e) =>
      `the rebuild of ${disk(e)} waits for disk #${pad(number(e.detail.for))}: unreadable at byte ${e.detail.position}`,
  },
  "rebuild-goes-on": { severity: "info", say: (e) => `the rebuild of ${disk(e)} waits for nothing any more` },
  "disk-lent": {
    severity: "info",
    say: (e) => `${disk(e)} is here again, and what its successor lacks is read from it`,
  },
  "task-started": { severity: "info", say: (e) => `${task(e)} began` },
  "task-ended": { severity: "info", say: ended },
};

/** An event of a group as a sentence: disk, position on it and file as far as they are known. */
export function groupEvent(event: GroupEvent): NewEvent {
  const { severity, say } = EVENTS[event.kind];
  return {
    severity: severityOf(event, severity),
    kind: `group-${event.kind}`,
    what: `group ${event.group}: ${say(event)}`,
    detail: { group: event.group, ...(event.disk === undefined ? {} : { disk: event.disk }), ...event.detail },
  };
}

/** A scrub's fault that stays, and work that failed, want somebody. */
function severityOf({ kind, detail }: GroupEvent, usual: Severity): Severity {
  if (kind === "task-ended" && detail.state === "failed") return "error";
  if (kind === "task-ended" && number(detail.found) > number(detail.healed)) return "error";
  if (kind === "task-ended" && number(detail.found) > 0) return "warning";
  return usual;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function number(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function disk(event: GroupEvent): string {
  return event.disk === undefined ? "a disk" : `disk #${pad(event.disk)}`;
}

/** `disk #003, byte 12345`, or the place in an LU when no disk is to blame. */
function place(event: GroupEvent): string {
  const { position, lu, at } = event.detail;
  if (event.disk !== undefined) return `${disk(event)}${typeof position === "number" ? `, byte ${position}` : ""}`;
  if (typeof lu === "number") return `LU #${lu}${typeof at === "number" ? `, byte ${at}` : ""}`;
  return "a place";
}

function owner({ detail }: GroupEvent): string {
  const file = text(detail.file);
  return file === undefined ? "" : ` (${file})`;
}

function because({ detail }: GroupEvent): string {
  const reason = text(detail.reason) ?? text(detail.error);
  return reason === undefined ? "" : `: ${reason}`;
}

function repaired({ detail }: GroupEvent): string {
  return detail.repaired === true ? "; rewritten from the other disks" : "";
}

function lost({ detail }: GroupEvent): string {
  return detail.gone === true ? "was pulled out" : "is no longer used";
}

function replaced({ detail }: GroupEvent): string {
  return typeof detail.replaces === "number"
    ? `takes the place of disk #${pad(detail.replaces)}`
    : "takes the place of another";
}

/** What a scrub found (raid/scrub-run.ts, FaultKind). */
const FOUND: Readonly<Record<string, string>> = {
  checksum: "did not match its checksum",
  parity: "parity did not agree with the data",
  copy: "the two copies differed",
  unreadable: "could not be read",
  label: "a label was missing or damaged",
  more: "more was found",
};

/** `disk #003, byte 12345: /data/a.txt (block 17) did not match its checksum; rewritten from the other disks` */
function fault(event: GroupEvent): string {
  const { file, what, done } = event.detail;
  const subject = text(file);
  const found = FOUND[text(what) ?? ""] ?? text(what) ?? "is wrong";
  const after = text(done);
  return `${place(event)}: ${subject === undefined ? found : `${subject} ${found}`}${after === undefined ? "" : `; ${after}`}`;
}

const TASKS: Readonly<Record<string, string>> = { rebuild: "the rebuild", scrub: "the scrub", grow: "the growth" };

function task(event: GroupEvent): string {
  const name = TASKS[text(event.detail.kind) ?? ""] ?? "work in the background";
  if (event.disk === undefined) return name;
  return event.detail.kind === "grow" ? `${name} on to ${disk(event)}` : `${name} of ${disk(event)}`;
}

function ended(event: GroupEvent): string {
  const { state, doneBytes } = event.detail;
  if (state === "failed") return `${task(event)} failed${because(event)}`;
  if (state === "cancelled")
    return `${task(event)} was given up after ${formatSize(number(doneBytes))}${because(event)}`;
  return `${task(event)} is done${outcome(event)}`;
}

function outcome({ detail }: GroupEvent): string {
  const found = number(detail.found);
  if (detail.kind === "scrub")
    return found === 0 ? ": nothing was wrong" : `: ${plural(found, "place")} wrong, ${number(detail.healed)} healed`;
  return found === 0 ? "" : `: ${plural(found, "block")} given up`;
}
