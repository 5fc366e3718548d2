import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { ApiClient } from "../../../src/cli/client.js";
import { describeReport, followTask, reportTask } from "../../../src/cli/follow-task.js";
import { Output } from "../../../src/cli/output.js";
import type { GroupRow, TaskDescription, TaskReport } from "../../../src/control/types.js";
import { NO_SCRUB } from "../../../src/raid/label.js";

const RUNNING: TaskDescription = {
  ...{ kind: "scrub", state: "running", doneBytes: 0, totalBytes: 1000, bytesPerSecond: 0, secondsLeft: null },
  ...{ found: 0, healed: 0, startedMs: 1000 },
};
const REPORT: TaskReport = { group: "g", groupState: "clean", begun: true, task: RUNNING, scrub: NO_SCRUB };

/** A daemon that answers with one task after another. */
function answers(...tasks: readonly (Partial<TaskDescription> | null)[]) {
  const left = [...tasks];
  const sleeps: number[] = [];
  const groups = async (): Promise<readonly GroupRow[]> => {
    const next = left.shift();
    if (next === undefined || next === null) return [];
    return [{ name: "g", state: "clean", scrub: NO_SCRUB, tasks: [{ ...RUNNING, ...next }] } as unknown as GroupRow];
  };
  return { sleeps, groups, sleep: async (ms: number) => void sleeps.push(ms), target: null };
}

test("follow: until the task has ended, through a pause", async () => {
  const sources = answers({ doneBytes: 500 }, { state: "paused" }, { state: "done", doneBytes: 1000, endedMs: 9000 });
  const last = await followTask(REPORT, sources);
  assert.deepEqual([last.task?.state, last.task?.doneBytes, sources.sleeps.length], ["done", 1000, 3]);
});

test("follow: what has ended already is not asked about", async () => {
  const sources = answers();
  await followTask({ ...REPORT, task: { ...RUNNING, state: "done" } }, sources);
  await followTask({ ...REPORT, task: null }, sources);
  assert.equal(sources.sleeps.length, 0);
});

test("follow: a group that is gone is an error", async () => {
  await assert.rejects(followTask(REPORT, answers(null)), /group g is gone/);
});

/** What a command prints and how it ends, when the daemon's answer has ended already. */
async function outcome(json: boolean, values: Partial<TaskDescription>, begun = true, wait = true) {
  const stream = new PassThrough();
  const context = { api: new ApiClient("/nowhere"), out: new Output(json, stream, false) };
  const report = { ...REPORT, begun, task: { ...RUNNING, state: "done" as const, endedMs: 13_000, ...values } };
  const error = await reportTask(context, report, { wait, watch: true }).then(
    () => null,
    (thrown: Error) => thrown.message,
  );
  return { text: String(stream.read() ?? ""), error };
}

test("report: how it ended decides the exit status when it was waited for", async () => {
  const cases: [Partial<TaskDescription>, string, string | null][] = [
    [{}, "group g: scrub is done after 12 s: nothing was wrong\n", null],
    [{ found: 2, healed: 2 }, "group g: scrub is done after 12 s: 2 places wrong, 2 healed\n", null],
    [
      { found: 2, healed: 1 },
      "group g: scrub is done after 12 s: 2 places wrong, 1 healed\n",
      "group g: 1 of 2 places still wrong; events names them",
    ],
    [{ state: "failed", reason: "EIO" }, "group g: scrub failed: EIO\n", "group g: scrub failed: EIO"],
    [
      { state: "cancelled", doneBytes: 512 },
      "group g: scrub was given up after 512 B\n",
      "group g: scrub was given up after 512 B",
    ],
    [
      { kind: "rebuild", disk: 4, found: 1 },
      "group g: rebuild of disk #004 is done after 12 s: 1 block given up\n",
      "group g: 1 block given up and lost; events names them",
    ],
  ];
  for (const [values, text, error] of cases) assert.deepEqual(await outcome(false, values), { text, error });
});

test("report: one that ended earlier is told of, not judged; nor is one that nobody waits for", async () => {
  assert.equal((await outcome(false, { state: "failed" }, false)).error, null);
  assert.equal((await outcome(false, { state: "failed" }, true, false)).error, null);
});

test("report: --json is the one document, also when it did not end well", async () => {
  const { text, error } = await outcome(true, { state: "failed", reason: "EIO" });
  assert.equal((JSON.parse(text) as TaskReport).task?.state, "failed");
  assert.match(error ?? "", /EIO/);
});

test("report: --json and --wait follow in silence and print the last state", async () => {
  const done = { ...RUNNING, state: "done" as const, doneBytes: 1000, endedMs: 13_000 };
  class Daemon extends ApiClient {
    override async get<T>(): Promise<T> {
      return [{ name: "g", state: "clean", scrub: NO_SCRUB, tasks: [done] }] as T;
    }
  }
  const stream = new PassThrough();
  const context = { api: new Daemon("/nowhere"), out: new Output(true, stream, false) };
  await reportTask(context, REPORT, { wait: true, watch: false });
  assert.deepEqual((JSON.parse(String(stream.read())) as TaskReport).task, done);
});

test("report: what was begun, what is under way, and nothing to do", () => {
  assert.equal(describeReport(REPORT, 80), "group g: scrub has begun");
  assert.match(describeReport({ ...REPORT, begun: false }, 80), /^scrub \[\.+\] {3}0 %/);
  assert.equal(describeReport({ ...REPORT, task: null }, 80), "group g is clean: nothing to do");
});
