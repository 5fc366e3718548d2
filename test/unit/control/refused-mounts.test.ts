import assert from "node:assert/strict";
import { test } from "node:test";
import { EventLog } from "../../../src/control/event-log.js";
import { tellRefusedMounts } from "../../../src/control/refused-mounts.js";
import { SILENT } from "../../../src/lib/log.js";
import { HandClock } from "../../support/hand-clock.js";

test("refused mounts: each once a minute, so many in all, and how many were not told", async () => {
  const clock = new HandClock();
  const events = new EventLog(clock, SILENT);
  const tell = tellRefusedMounts(clock, events);
  const told = () => events.last(1000).map(({ what }) => what);
  const refused = { address: "192.0.2.1", path: "/data", why: "no rule of the export names this address" };
  for (let i = 0; i < 5; i++) tell(refused);
  const sentence = "a mount of /data by 192.0.2.1 was refused: no rule of the export names this address";
  assert.deepEqual(told(), [sentence]);
  for (let i = 0; i < 1000; i++) tell({ ...refused, address: `198.51.100.${i}` });
  assert.equal(told().length, 16);
  await clock.advance(60_000);
  tell(refused);
  assert.equal(told().at(-1), `${sentence} (and 985 other refusals before it)`);
});
