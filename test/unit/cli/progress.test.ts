import assert from "node:assert/strict";
import { test } from "node:test";
import { type ProgressTarget, ProgressView, progressLine } from "../../../src/cli/progress.js";
import type { TaskDescription } from "../../../src/control/types.js";
import { GIB, MIB } from "../../../src/lib/units.js";

const TASK: TaskDescription = {
  ...{ kind: "rebuild", state: "running", disk: 4, doneBytes: 512 * MIB, totalBytes: GIB, bytesPerSecond: 64 * MIB },
  ...{ secondsLeft: 8, found: 0, healed: 0, startedMs: 0 },
};

test("progress: bar, percent, sizes, rate and time left", () => {
  assert.equal(
    progressLine(TASK, 100),
    "rebuild of disk #004 [################.................]  50 %  512 MiB of 1 GiB  64 MiB/s  8 s left",
  );
});

test("progress: narrower terminals lose the sizes, then the rate, then the bar; never a column too many", () => {
  const at = (columns: number) => progressLine(TASK, columns);
  assert.equal(at(70), "rebuild of disk #004 [##########...........]  50 %  64 MiB/s  8 s left");
  assert.equal(at(50), "rebuild of disk #004 [#####......]  50 %  8 s left");
  assert.equal(at(30), "rebuild of disk #004  50 %");
  assert.equal(at(10), "rebuild of");
  for (let columns = 1; columns <= 200; columns++) {
    const line = at(columns);
    assert.ok(line.length <= columns, `${columns}: ${line}`);
  }
});

test("progress: nothing is made up: no rate, no time, nothing to do, paused, faults", () => {
  const line = (values: Partial<TaskDescription>) => progressLine({ ...TASK, ...values }, 100);
  assert.match(line({ bytesPerSecond: 0, secondsLeft: null }), / 50 % {2}512 MiB of 1 GiB$/);
  assert.match(line({ doneBytes: 0, totalBytes: 0, bytesPerSecond: 0, secondsLeft: null }), /#\] 100 % {2}0 B of 0 B$/);
  assert.match(line({ state: "paused", bytesPerSecond: 0, secondsLeft: null }), /512 MiB of 1 GiB {2}paused$/);
  assert.match(line({ kind: "scrub", found: 3 }), /8 s left {2}3 found$/);
  assert.match(line({ doneBytes: 2 * GIB }), /#\] 100 % /);
  assert.match(line({ doneBytes: GIB - 1 }), /\.\] {2}99 % /, "not done before it is done");
  assert.match(line({ kind: "grow" }), /^grow on to disk #004 /);
});

function target(terminal: boolean) {
  const written: string[] = [];
  const state = { nowMs: 0, columns: 60 };
  const fake: ProgressTarget = {
    write: (text) => void written.push(text),
    terminal,
    columns: () => state.columns,
    nowMs: () => state.nowMs,
  };
  return { written, state, view: new ProgressView(fake) };
}

test("progress: a terminal is redrawn in place, at the width that it has now", () => {
  const { written, state, view } = target(true);
  view.show(TASK);
  state.columns = 40;
  view.show(TASK);
  view.end();
  view.end();
  assert.equal(written.length, 3);
  for (const [i, columns] of [60, 40].entries()) {
    assert.ok(written[i]!.startsWith("\rrebuild of disk #004") && written[i]!.endsWith("\x1b[K"));
    assert.ok(written[i]!.length - "\r\x1b[K".length < columns);
  }
  assert.equal(written[2], "\n");
});

test("progress: elsewhere a line every few seconds, and at each change of state", () => {
  const { written, state, view } = target(false);
  for (let i = 0; i < 30; i++) {
    view.show(TASK);
    state.nowMs += 500;
  }
  assert.equal(written.length, 3);
  view.show({ ...TASK, state: "paused" });
  view.show({ ...TASK, state: "done", doneBytes: GIB });
  view.end();
  assert.equal(written.length, 5);
  for (const line of written) {
    assert.match(line, /^rebuild .+\n$/);
    assert.ok(!line.includes("\r") && !line.includes("\x1b"));
  }
});
