import { deepEqual, equal, match, notEqual, ok, rejects } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { hasChecksum, makeBundle } from "../../../src/cluster/bundle.js";
import { tarHeader, tarPadding } from "../../../src/cluster/tar.js";
import { ClusterFixture } from "./fixture.js";

test("bundle: what runs goes along and nothing else; tar understands it; the same release has the same checksum", async (t) => {
  const fixture = await ClusterFixture.make(t);
  const first = await fixture.bundle();
  deepEqual(
    [first.version, first.name, first.platform],
    ["1.0.0", "stripeward-1.0.0.tar.gz", `${process.platform}-${process.arch}`],
  );
  const { stdout } = spawnSync("tar", ["-tzvf", first.file], { encoding: "utf8", env: { ...process.env, TZ: "UTC" } });
  const listed = stdout
    .trim()
    .split("\n")
    .map((line) => [line.slice(0, 10), line.split(" ").at(-1)]);
  deepEqual(listed, [
    ["-rw-r--r--", "LICENSE"],
    ["-rwxr-xr-x", "dist/src/cli/main.js"],
    ["-rw-r--r--", "node_modules/one/build/Release/one.node"],
    ["-rw-r--r--", "node_modules/one/index.js"],
    ["-rw-r--r--", "node_modules/one/package.json"],
    ["-rw-r--r--", "package.json"],
  ]);
  match(stdout, /1970-01-01/);
  ok(await hasChecksum(first.file, first.sha256));
  utimesSync(path.join(fixture.place("package"), "LICENSE"), 1, 1);
  equal((await fixture.bundle()).sha256, first.sha256);
  writeFileSync(path.join(fixture.place("package"), "LICENSE"), "other\n");
  notEqual((await fixture.bundle()).sha256, first.sha256);
  const again = await fixture.bundle();
  appendFileSync(again.file, "x");
  equal(await hasChecksum(again.file, again.sha256), false);
});

test("bundle: a checkout without a build, or without its dependencies, is refused", async (t) => {
  const fixture = await ClusterFixture.make(t);
  rmSync(fixture.place("package/node_modules/one"), { recursive: true });
  await rejects(fixture.bundle(), /the dependency one is not installed: run npm ci/);
  rmSync(fixture.place("package/dist"), { recursive: true });
  await rejects(makeBundle(fixture.place("package"), fixture.place("b")), /holds no built release: run npm run build/);
});

test("tar: a name above 100 bytes is cut at a slash; contents fill whole blocks", () => {
  const name = `${"folder/".repeat(20)}file`;
  const header = tarHeader({ name, executable: false, sizeBytes: 5, link: null });
  const field = (from: number, bytes: number) => header.toString("utf8", from, from + bytes).replace(/\0.*$/s, "");
  equal(`${field(345, 155)}/${field(0, 100)}`, name);
  equal(field(124, 12), "00000000005");
  deepEqual([tarPadding(5).length, tarPadding(512).length, tarPadding(0).length], [507, 0, 0]);
});
