import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ServiceNotifier } from "../../../src/control/notify.js";
import { type Logger, SILENT } from "../../../src/lib/log.js";

/** Node has no datagram Unix sockets; Perl, which every Debian has, plays systemd. It closes the descriptor of BARRIER=1 by not taking it. */
const LISTENER = `
use IO::Socket::UNIX; use Socket;
my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die;
$| = 1; print "ready\\n";
while (defined $s->recv(my $m, 4096)) { $m =~ s/\\n/ /g; print "$m\\n"; }
`;

const missing = ["perl", "systemd-notify"].filter((tool) => spawnSync(tool, ["--version"]).error !== undefined);

test("notify: systemd hears ready, signs of life and stopping", {
  skip: missing.length > 0 && `no ${missing.join(", ")}`,
}, async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-notify-"));
  const socket = path.join(folder, "notify");
  const listener = spawn("perl", ["-e", LISTENER, socket], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => {
    listener.kill();
    rmSync(folder, { recursive: true });
  });
  let heard = "";
  listener.stdout.setEncoding("utf8").on("data", (text: string) => {
    heard += text;
  });
  while (!heard.includes("ready")) await sleep(10);
  const notifier = new ServiceNotifier(SILENT, { ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: "300000" });
  await notifier.ready("serving");
  await sleep(400);
  await notifier.stopping();
  notifier.close();
  for (let i = 0; i < 100 && !heard.includes("STOPPING=1"); i++) await sleep(20);
  assert.match(heard, /READY=1.*STATUS=serving|STATUS=serving.*READY=1/);
  assert.match(heard, /WATCHDOG=1/);
  assert.match(heard, /STOPPING=1/);
});

test("notify: outside of systemd nothing is run; without systemd-notify it is said once", async () => {
  const said: string[] = [];
  const log: Logger = { ...SILENT, error: (_fields, what) => said.push(what) };
  await new ServiceNotifier(log, {}, "/nonexistent").ready("x");
  assert.deepEqual(said, []);
  const notifier = new ServiceNotifier(log, { NOTIFY_SOCKET: "/x" }, "/nonexistent");
  await notifier.ready("x");
  await notifier.stopping();
  assert.equal(said.length, 1);
});
