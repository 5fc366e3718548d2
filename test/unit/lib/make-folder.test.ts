import { equal, throws } from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { makeFolder } from "../../../src/lib/make-folder.js";

test("make folder: with those above it, and content with one that is there", (t) => {
  const base = mkdtempSync(path.join(os.tmpdir(), "make-folder-"));
  t.after(() => rmSync(base, { recursive: true }));
  const deep = path.join(base, "a/b/c");
  makeFolder(deep, 0o700);
  makeFolder(deep, 0o755);
  equal(statSync(deep).mode & 0o777, 0o700);
  writeFileSync(path.join(base, "file"), "");
  throws(() => makeFolder(path.join(base, "file")), { message: `${base}/file is not a folder` });
  throws(() => makeFolder(path.join(base, "file/x")), { code: "EACCES", message: /file\/x cannot be made: ENOTDIR/ });
});

test("make folder: where a file system takes none, that is said, at once", () => {
  const message = "the folder /proc/stripeward cannot be made: this file system takes no folders there";
  throws(() => makeFolder("/proc/stripeward/deeper"), { code: "EACCES", message });
});
