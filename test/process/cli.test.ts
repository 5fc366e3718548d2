import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { cli } from "./cli.js";

test("cli: wrong usage is status 2 and one line; stdout stays empty", async () => {
  const cases: [string[], RegExp][] = [
    [["flub"], /unknown command 'flub'/],
    [["status", "--colour"], /unknown option '--colour'/],
    [["serve"], /required option '--config <file>' not specified/],
    [["disk", "add"], /missing required argument 'path'/],
    [["disk", "fail", "x"], /"x" is no disk number/],
    [["group", "scrub", "--every", "soon"], /wants a time such as 12h, 7d or 2w, or never/],
    [["group", "scrub", "--pause", "--wait"], /cannot be used with/],
    [["group", "grow", "--disk", "3", "--pause"], /--disk begins a growth/],
    [["lu", "resize", "data"], /missing required argument 'size'/],
    [["group", "create", "g", "--disks", "x"], /"x" is no disk number/],
    [["shared", "create"], /required option '--disks <numbers>' not specified/],
    [["shared", "create", "--disks", "1", "--nodes", "chn9"], /wants node names such as chn1,chn5/],
    [["shared", "replace", "3"], /required option '--with <disk>' not specified/],
    [["node", "show"], /missing required argument 'name'/],
    [["lu", "create", "l", "--size", "much"], /not a size: "much"/],
    [["fs", "create", "f", "--raid", "6"], /wants 5 or 1/],
    [["export", "add", "/f"], /required option '--client <network...>' not specified/],
    [["rig", "up"], /required option '--dir <dir>' not specified/],
    [["rig", "up", "--dir", "x", "--disks", "1"], /wants a whole number from 2 to 64/],
    [["status", "--dir", "x", "--socket", "y"], /cannot be used with/],
  ];
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = await cli(...args);
    assert.equal(status, 2, `${args.join(" ")}: ${stderr}`);
    assert.equal(stdout, "");
    assert.match(stderr, /^stripeward: [^\n]+\n$/);
    assert.match(stderr, message);
  }
});

test("cli: help of every command is on stdout with status 0", async () => {
  const commands = ["", "serve", "status", "disk", "disk add", "group create", "lu create", "lu delete", "fs create"];
  commands.push("disk replace", "disk remove", "group scrub", "group rebuild", "group grow", "lu resize");
  commands.push("shared", "shared create", "shared replace", "shared show", "node", "node show");
  for (const command of [...commands, "fs check", "fs files", "export add", "events", "rig up", "rig down"]) {
    const { status, stdout, stderr } = await cli(...command.split(" ").filter(Boolean), "--help");
    assert.deepEqual([status, stderr], [0, ""], command);
    assert.match(stdout, new RegExp(`Usage: stripeward ?${command.replace(" ", ".*")}`));
  }
  assert.match((await cli("--version")).stdout, /^\d+\.\d+\.\d+\n$/);
});

test("cli: a rig where no folder can be made is one line, at once", async () => {
  const { status, stderr } = await cli("rig", "up", "--dir", "/proc/stripeward-rig");
  const said = "stripeward: the folder /proc/stripeward-rig cannot be made: this file system takes no folders there\n";
  assert.deepEqual([status, stderr], [1, said]);
});

test("cli: without a daemon every command says so in one line, status 1", async () => {
  const commands = [
    ["status"],
    ["disk", "list"],
    ["fs", "files", "data"],
    ["events", "--follow"],
    ["export", "list", "--json"],
  ];
  for (const args of commands) {
    const { status, stdout, stderr } = await cli(...args, "--socket", "/nonexistent/s.sock");
    assert.deepEqual([status, stdout], [1, ""]);
    assert.match(stderr, /^stripeward: no daemon answers at \/nonexistent\/s\.sock [^\n]+\n$/);
  }
});

test("cli: serve --check says every mistake with its place, and nothing when there is none", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-config-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "s.yaml");
  writeFileSync(file, "disks: [a.img]\nnfs:\n  prot: 1\nlog-level: loud\n");
  const wrong = await cli("serve", "--config", file, "--check");
  assert.deepEqual(
    [wrong.status, wrong.stdout, wrong.stderr],
    [
      1,
      "",
      `${file}:3:3: nfs.prot: unknown key; did you mean port?\n${file}:4:12: log-level: wants one of error, warn, info, debug\n`,
    ],
  );
  writeFileSync(file, "disks: [a.img]\n");
  const right = await cli("serve", "--config", file, "--check", "--json");
  assert.equal(right.status, 0);
  assert.deepEqual((JSON.parse(right.stdout) as { disks: string[] }).disks, [path.join(folder, "a.img")]);
});
