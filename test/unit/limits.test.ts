import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { startEnvironment } from "../../src/config/start-environment.js";
import { controlGroupLimit, memoryWarnings, promisedBytes } from "../../src/control/memory-promise.js";
import { GROUP_BYTES_HELD, GROUPS_MAX } from "../../src/fs/contents/limits.js";
import { INODE_BYTES, INODES_CACHED_DEFAULT } from "../../src/fs/inode-table.js";
import { NAME_CACHE_BYTES_DEFAULT } from "../../src/fs/name-cache.js";
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

test("memory: what a file system knows of files in use takes its part of what the process has for itself", () => {
  const known = INODES_CACHED_DEFAULT * INODE_BYTES + GROUPS_MAX * GROUP_BYTES_HELD + 2 * NAME_CACHE_BYTES_DEFAULT;
  // V8 lets its heap grow by a third above what is live.
  assert.ok((known * 4) / 3 <= 64 * MIB, `${Math.round(known / MIB)} MiB`);
});

test("memory: the unit allows twice what the daemon promises with its default settings", () => {
  const unit = readFileSync(UNIT, "utf8");
  const [, number, suffix] = /^MemoryMax=(\d+)([MG])$/m.exec(unit) ?? [];
  assert.equal(Number(number) * (suffix === "G" ? 1024 : 1) * MIB, 2 * LIMITS.residentBytesMax);
  assert.match(unit, new RegExp(`${LIMITS.residentBytesMax / MIB} MiB`), "and its comment says so");
});

test("memory: the unit starts the daemon with the environment that the rig and the installer give it", () => {
  const lines = readFileSync(UNIT, "utf8").split("\n");
  for (const [name, value] of Object.entries(startEnvironment({ hasPartner: true }))) {
    const wanted = value.includes(" ") ? `Environment="${name}=${value}"` : `Environment=${name}=${value}`;
    assert.ok(lines.includes(wanted), wanted);
  }
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
