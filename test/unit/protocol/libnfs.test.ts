import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { openRig, pattern } from "./fixture.js";

const run = promisify(execFile);
const missing = ["nfs-ls", "nfs-cp", "nfs-cat"].filter((tool) => spawnSync("which", [tool]).status !== 0);
const skip = missing.length > 0 ? `LEFT OUT: no ${missing.join(", ")} (Debian package libnfs-utils)` : false;

test("libnfs tools: copy in, list, read back", { skip }, async (t) => {
  const { client, root, port } = await openRig(t);
  await client.mkdir(root, "d", { mode: 0o777 });
  const folder = await mkdtemp(path.join(tmpdir(), "stripeward-libnfs-"));
  t.after(() => rm(folder, { recursive: true }));
  const data = pattern(3 * 1024 * 1024 + 777);
  await writeFile(path.join(folder, "in"), data);
  const url = (name: string) => `nfs://127.0.0.1/data${name}?nfsport=${port}&mountport=${port}`;
  const options = { encoding: "buffer", maxBuffer: 2 ** 24, timeout: 20000 } as const;
  await run("nfs-cp", [path.join(folder, "in"), url("/d/copy")], options);
  const listing = await run("nfs-ls", [url("/d")], options);
  assert.match(listing.stdout.toString(), new RegExp(`${data.length} copy`));
  const { stdout } = await run("nfs-cat", [url("/d/copy")], options);
  assert.ok(stdout.equals(data));
});
