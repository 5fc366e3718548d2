import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { controlGroupLimit, memoryWarnings, promisedBytes } from "../../src/control/memory-promise.js";
import { LIMITS } from "../../src/limits.js";
import { CLIENT_BYTES_MAX, DEFAULT_LIMITS } from "../../src/protocol/limits.js";

const MIB = 1024 ** 2;
const UNIT = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../../systemd/stripeward.service");
const DEFAULTS = { dataCacheBytes: LIMITS.dataCacheBytesDefault, metadataCacheBytes: LIMITS.metadataCacheBytesDefault };

test("memory: what clients can make the daemon hold, its caches and its own are what it promises", () => {
  const lent = LIMITS.readMemoryBytes;
  assert.ok(lent >= DEFAULT_LIMITS.clients.replies.bytesMax, "replies that leave by reference have aligned memory");
  // Read memory that was touched stays; the same bytes may be taken by small replies later.
  assert.ok(CLIENT_BYTES_MAX + lent <= LIMITS.processBytesMax - 150 * MIB, "and the process itself has 150 MiB");
  assert.equal(promisedBytes(DEFAULTS, 1), LIMITS.residentBytesMax);
  assert.ok(LIMITS.processBytesMax <= 352 * MIB);
});

test("memory: the unit allows twice what the daemon promises with its default settings", () => {
  const unit = readFileSync(UNIT, "utf8");
  const [, number, suffix] = /^MemoryMax=(\d+)([MG])$/m.exec(unit) ?? [];
  assert.equal(Number(number) * (suffix === "G" ? 1024 : 1) * MIB, 2 * LIMITS.residentBytesMax);
  assert.match(unit, new RegExp(`${LIMITS.residentBytesMax / MIB} MiB`), "and its comment says so");
});

test("memory: settings that a unit's limit does not allow are told, with what mends it", () => {
  assert.deepEqual(memoryWarnings(DEFAULTS, 1, 1024 * MIB), []);
  assert.deepEqual(memoryWarnings(DEFAULTS, 8, null), []);
  const [warning] = memoryWarnings(DEFAULTS, 8, 1024 * MIB);
  assert.match(warning ?? "", /with 8 file systems .* may hold 1.6 GiB, and its unit allows 1 GiB: raise MemoryMax=/);
});

test("memory: the limit is that of the control group or one above it, whichever is lower", (t) => {
  const root = mkdtempSync(path.join(os.tmpdir(), "stripeward-cgroup-"));
  t.after(() => rmSync(root, { recursive: true }));
  const membership = path.join(root, "self");
  writeFileSync(membership, "4:memory:/old\n0::/system.slice/stripeward.service\n");
  const set = (group: string, text: string) => {
    mkdirSync(path.join(root, group), { recursive: true });
    writeFileSync(path.join(root, group, "memory.max"), `${text}\n`);
  };
  assert.equal(controlGroupLimit(root, membership), null);
  set("system.slice/stripeward.service", "max");
  assert.equal(controlGroupLimit(root, membership), null);
  set("system.slice", "800");
  assert.equal(controlGroupLimit(root, membership), 800);
  set("system.slice/stripeward.service", "700");
  assert.equal(controlGroupLimit(root, membership), 700);
  assert.equal(controlGroupLimit(root, path.join(root, "nothing")), null);
});
