import { equal, throws } from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { replaceJson, writeSmallFile } from "../../../src/lib/json-file.js";

test("json file: replaced as a whole", (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "json-file-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "a.json");
  replaceJson(file, { a: 1 });
  replaceJson(file, [2]);
  equal(readFileSync(file, "utf8"), "[\n  2\n]\n");
});

test("json file: a full or absent file system is told with the file", () => {
  const full = "no space left for /dev/full: make room on its file system";
  throws(() => writeSmallFile("/dev/full", "x"), { code: "ENOSPC", message: full });
  throws(() => replaceJson("/proc/stripeward/a", {}), {
    code: "EIO",
    message: /^\/proc\/stripeward\/a\.new cannot be written: ENOENT/,
  });
});
