import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { loadConfig } from "../../src/config/load.js";
import { REPOSITORY } from "../support/packages.js";

function skipWithout(tool: string): string | false {
  return spawnSync(tool, ["--version"]).error === undefined ? false : `LEFT OUT: ${tool} is not installed`;
}

const UNITS = ["stripeward.service", "stripeward-address.socket", "stripeward-address@.service"];

test("systemd: the units pass systemd-analyze verify", { skip: skipWithout("systemd-analyze") }, (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-unit-"));
  t.after(() => rmSync(folder, { recursive: true }));
  // verify wants the programs to be there; where they are installed is not what is tested.
  const files = UNITS.map((name) => {
    const unit = readFileSync(path.join(REPOSITORY, "systemd", name), "utf8");
    const file = path.join(folder, name);
    writeFileSync(
      file,
      unit.replaceAll(/\/usr\/(bin\/stripeward|lib\/stripeward\/stripeward-address)/g, process.execPath),
    );
    return file;
  });
  const { status, stdout, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", ...files], {
    encoding: "utf8",
  });
  assert.deepEqual([status, stdout, stderr], [0, "", ""]);
});

test("systemd: the example configuration is valid", () => {
  const config = loadConfig(path.join(REPOSITORY, "systemd/stripeward.yaml"));
  assert.equal(config.nfs.port, 2049);
  assert.equal(config.management.socket, "/run/stripeward/stripeward.sock");
});

test("man page: no warnings", { skip: skipWithout("man") || skipWithout("groff") }, () => {
  const page = path.join(REPOSITORY, "docs/man/stripeward.8");
  const { status, stderr } = spawnSync("man", ["--warnings", "-l", page], {
    encoding: "utf8",
    env: { ...process.env, MANWIDTH: "100", LC_ALL: "C.UTF-8" },
  });
  assert.deepEqual([status, stderr], [0, ""]);
});
