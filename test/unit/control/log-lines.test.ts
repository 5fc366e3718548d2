import assert from "node:assert/strict";
import { test } from "node:test";
import pino from "pino";
import { LogLines } from "../../../src/control/log-lines.js";

test("log: a text from outside keeps its value and plays with no terminal", () => {
  const lines: string[] = [];
  const log = pino({}, new LogLines((bytes) => void lines.push(String(bytes))));
  log.warn({ host: "a\x1b[2J\x9b31m\u202eb" }, "who\u2028ever");
  const written = lines.join("");
  assert.match(written, /^[ -~]*\n$/);
  const { host, msg } = JSON.parse(written);
  assert.deepEqual({ host, msg }, { host: "a\x1b[2J\x9b31m\u202eb", msg: "who\u2028ever" });
});

test("log: a full disk costs lines and says how many, not the daemon", () => {
  const written: string[] = [];
  let full = true;
  const lines = new LogLines((bytes) => {
    if (full) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
    written.push(String(bytes));
  });
  const log = pino({}, lines);
  log.info("first");
  log.info("second");
  full = false;
  log.info("third");
  log.info("fourth");
  assert.deepEqual(
    written.map((line) => JSON.parse(line)).map(({ lost, msg }) => lost ?? msg),
    [2, "third", "fourth"],
  );
});
