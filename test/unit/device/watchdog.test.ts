import { deepEqual, equal, throws } from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { Watchdog } from "../../../src/device/watchdog.js";

const directory = mkdtempSync(path.join(os.tmpdir(), "watchdog-"));
test.after(() => rmSync(directory, { recursive: true }));
const at = (name: string): string => path.join(directory, name);

for (const [name, seconds] of [
  ["watchdog0", "10"],
  ["watchdog1", "60"],
] as const) {
  mkdirSync(at(name), { recursive: true });
  writeFileSync(path.join(at(name), "timeout"), `${seconds}\n`);
}

test("watchdog: armed by the first sign of life, disarmed by the last byte", () => {
  writeFileSync(at("watchdog"), "");
  const watchdog = Watchdog.find(at("watchdog"), 10, directory);
  deepEqual([watchdog.timeoutSeconds, watchdog.armed], [10, false]);
  watchdog.disarm();
  equal(readFileSync(at("watchdog"), "latin1"), "", "nothing to disarm");
  watchdog.live();
  watchdog.live();
  equal(watchdog.armed, true);
  equal(readFileSync(at("watchdog"), "latin1"), "\n\n");
  watchdog.disarm();
  equal(watchdog.armed, false);
  equal(readFileSync(at("watchdog"), "latin1"), "\n\nV");
});

test("watchdog: one that fires too late, is absent or cannot be opened is refused by name", () => {
  const late = {
    code: "EINVAL",
    message: /watchdog1 fires after 60 s, later than the lease of 10 s: set its driver to less/,
  };
  throws(() => Watchdog.find("/dev/watchdog1", 10, directory), late);
  throws(() => Watchdog.find("/dev/watchdog7", 10, directory), { code: "ENXIO", message: /is no watchdog/ });
  const absent = Watchdog.find(path.join(directory, "absent", "watchdog0"), 10, directory);
  throws(() => absent.live(), { code: "EIO", message: /absent\/watchdog0 cannot be written: ENOENT/ });
});
