import { deepEqual, equal, rejects } from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AddressCommand } from "../../../src/control/address-command.js";

const folder = mkdtempSync(path.join(os.tmpdir(), "address-command-"));
test.after(() => rmSync(folder, { recursive: true }));

/** Says what it was called with; what follows decides how it goes. */
function program(name: string, script: string): AddressCommand {
  const file = path.join(folder, name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return new AddressCommand(file);
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await sleep(10);
  equal(condition(), true);
}

const text = (file: string): string => (existsSync(file) ? readFileSync(file, "utf8") : "");

test("address command: an executable is called with verb and address, and its first words say why it failed", async () => {
  const log = path.join(folder, "calls");
  const command = program(
    "calls.sh",
    `echo "$@" >>${log}; [ "$1" = add ] || { echo "no such interface" >&2; exit 1; }`,
  );
  await command.change("add", "192.0.2.1");
  const message = "the address command failed to remove 192.0.2.1: no such interface";
  await rejects(command.change("remove", "192.0.2.1"), { code: "EIO", message });
  equal(text(log), "add 192.0.2.1\nremove 192.0.2.1\n");
});

test("address command: what is no address is never given to it", async () => {
  const log = path.join(folder, "never");
  const command = program("never.sh", `echo "$@" >>${log}`);
  for (const host of ["-x", "storage1", "192.0.2.1; reboot", "a\nb", ""])
    await rejects(command.change("add", host), { code: "EINVAL" });
  command.abandon("-x");
  equal((await command.check("--help")).kind, "failed");
  equal(text(log), "");
});

test("address command: what a check says", async () => {
  const check = (says: string) => program("check.sh", says).check("192.0.2.1");
  deepEqual(await check("echo alone"), { kind: "alone" });
  deepEqual(await check("echo held by 02:00:00:00:00:05"), { kind: "held", by: "02:00:00:00:00:05" });
  deepEqual(await check("echo unknown: no arping"), { kind: "unknown", why: "no arping" });
  const why = "the address command failed to check 192.0.2.1: no privilege";
  deepEqual(await check("echo no privilege >&2; exit 1"), { kind: "failed", why });
  const missing = new AddressCommand(path.join(folder, "missing"));
  equal(await missing.trouble(), `the address command ${missing.path} cannot be run`);
});

test("address command: a guard hears signs of life, is released in order, or sees the end of its input", async () => {
  const log = path.join(folder, "guard");
  const command = program("guard.sh", `echo "$@" >>${log}; cat >>${log}; echo " end" >>${log}`);
  const guard = command.guard("192.0.2.1", 10);
  await until(() => text(log) === "guard 192.0.2.1 10\n");
  guard.live();
  guard.live();
  guard.release();
  await until(() => guard.ended);
  equal(text(log), "guard 192.0.2.1 10\n..q end\n");
  guard.live();
  guard.release();
});

test("address command: which targets answer, round by round", async () => {
  const command = program("reach.sh", 'echo "$2 $3 "; echo; echo "$3"; cat >/dev/null');
  const rounds: (readonly string[])[] = [];
  let ended = false;
  const end = command.reach(
    ["192.0.2.254", "gateway"],
    (answered) => rounds.push(answered),
    () => {
      ended = true;
    },
  );
  await until(() => rounds.length === 3);
  deepEqual(rounds, [["192.0.2.254", "gateway"], [], ["gateway"]]);
  equal(ended, false);
  end();
  await until(() => ended);
});

test("address command: at a socket each call is a connection", async () => {
  const socket = path.join(folder, "socket");
  const requests: string[] = [];
  let answer = "";
  const server = net.createServer({ allowHalfOpen: true }, (peer) => {
    peer.setEncoding("utf8").on("error", () => {});
    let heard = "";
    peer.on("data", (piece) => {
      heard += String(piece);
      if (!heard.startsWith("guard") && heard.endsWith("\n")) peer.end(answer);
    });
    peer.on("end", () => requests.push(heard)).on("end", () => peer.end());
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  test.after(() => server.close());
  const command = new AddressCommand(socket);
  equal(await command.trouble(), null);
  answer = "\nok\n";
  await command.change("add", "192.0.2.1");
  answer = "held by 02:00:00:00:00:05\nok\n";
  deepEqual(await command.check("192.0.2.1"), { kind: "held", by: "02:00:00:00:00:05" });
  answer = "error: 192.0.2.1 is not among the ADDRESSES\n";
  const message = "the address command failed to remove 192.0.2.1: 192.0.2.1 is not among the ADDRESSES";
  await rejects(command.change("remove", "192.0.2.1"), { code: "EIO", message });
  answer = "";
  await rejects(command.change("remove", "192.0.2.1"), { message: /it gave no answer$/ });
  const guard = command.guard("192.0.2.1", 10);
  guard.live();
  guard.release();
  await until(() => guard.ended);
  const change = "remove 192.0.2.1\n";
  deepEqual(requests, ["add 192.0.2.1\n", "check 192.0.2.1\n", change, change, "guard 192.0.2.1 10\n.q"]);
});
