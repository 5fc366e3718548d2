import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import net from "node:net";
import path from "node:path";
import { after, before, test } from "node:test";
import { stringify } from "yaml";
import { daemonEnvironment } from "../../src/cli/daemon-environment.js";
import type { StatusReport } from "../../src/control/types.js";
import { REPOSITORY } from "../support/packages.js";
import { command } from "../support/rig.js";
import { HOOK, until, withoutTwoHosts } from "../support/two-hosts.js";
import { UnitConfinement } from "../support/unit-confinement.js";

function missing(): string | false {
  for (const tool of ["systemd-analyze", "gcc", "setpriv"])
    if (spawnSync(tool, ["--version"]).error !== undefined) return `LEFT OUT: ${tool} is not installed`;
  return withoutTwoHosts();
}

const skip = missing();
/** Accounts that own nothing. */
const DAEMON = 64_001;
const HELPER = 64_002;
const ADDRESS = "10.98.0.1";
const ours = `swu${process.pid}`;
const theirs = `${ours}o`;
const folder = skip === false ? mkdtempSync("/tmp/swunit-") : "";
const conf = path.join(folder, "address.conf");
const socket = path.join(folder, "address.socket");
let daemonUnit: UnitConfinement;
let helperUnit: UnitConfinement;
let server: net.Server;

function ip(...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync("ip", args, { encoding: "utf8" });
  assert.equal(status, 0, `ip ${args.join(" ")}: ${stderr}`);
  return stdout;
}

const has = (network: string): boolean => ip("-n", network, "-o", "address", "show", "to", `${ADDRESS}/32`) !== "";
const env = (variables: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => {
  return { PATH: process.env.PATH, STRIPEWARD_ADDRESS_CONF: conf, ...variables };
};

before(() => {
  if (skip !== false) return;
  chmodSync(folder, 0o755);
  for (const name of [ours, theirs]) ip("netns", "add", name);
  ip("link", "add", "here", "netns", ours, "type", "veth", "peer", "name", "there", "netns", theirs);
  for (const [name, link, address] of [
    [ours, "here", "10.98.0.11/24"],
    [theirs, "there", "10.98.0.15/24"],
  ] as const) {
    ip("-n", name, "link", "set", "lo", "up");
    ip("-n", name, "link", "set", link, "up");
    ip("-n", name, "address", "add", address, "dev", link);
  }
  writeFileSync(conf, `INTERFACE=here\nPREFIX=24\nADDRESSES="${ADDRESS} 10.98.0.5"\n`);
  daemonUnit = new UnitConfinement("stripeward.service", folder);
  helperUnit = new UnitConfinement("stripeward-address@.service", folder);
  // As systemd does for Accept=yes: each connection is standard input and output of a process of its own.
  server = net.createServer({ pauseOnConnect: true }, (peer) => {
    const [file, ...args] = ["ip", "netns", "exec", ours, ...helperUnit.command(HELPER, "sh", HOOK, "serve")];
    spawn(file!, args, { stdio: [peer, peer, "inherit"], env: env() });
    peer.destroy();
  });
  server.listen(socket, () => chownSync(socket, DAEMON, DAEMON));
});

after(() => {
  if (skip !== false) return;
  server.close();
  for (const name of [ours, theirs]) spawnSync("ip", ["netns", "delete", name]);
  rmSync(folder, { recursive: true, force: true });
});

/** The program as its unit would run it. */
function confined(unit: UnitConfinement, uid: number, words: readonly string[], input = "") {
  const [file, ...args] = ["ip", "netns", "exec", ours, ...unit.command(uid, ...words)];
  return spawnSync(file!, args, { encoding: "utf8", env: env(), input, timeout: 30_000 });
}

test("units: the daemon's own restrictions do not let it change addresses, and the command says what does", {
  skip,
}, () => {
  assert.equal(daemonUnit.last("NoNewPrivileges"), "yes");
  const { status, stderr } = confined(daemonUnit, DAEMON, ["sh", HOOK, "add", ADDRESS]);
  assert.equal(status, 1);
  assert.match(
    stderr,
    /^stripeward-address: no privilege .*: enable stripeward-address\.socket and name it as pair\.address-command\n$/,
  );
  assert.equal(has(ours), false);
});

test("units: the helper's restrictions let it do each of its works, and no other", { skip }, () => {
  const serve = (request: string): string => confined(helperUnit, HELPER, ["sh", HOOK, "serve"], `${request}\n`).stdout;
  assert.equal(serve(`add ${ADDRESS}`).trim(), "ok");
  assert.equal(has(ours), true);
  assert.equal(serve(`check ${ADDRESS}`), "alone\nok\n");
  ip("-n", theirs, "address", "add", `${ADDRESS}/24`, "dev", "there");
  assert.match(serve(`check ${ADDRESS}`), /^held by ([0-9A-F]{2}:){5}[0-9A-F]{2}\nok\n$/);
  ip("-n", theirs, "address", "delete", `${ADDRESS}/24`, "dev", "there");
  const reached = 'echo reach 10.98.0.15 10.98.0.99 | sh "$0" serve | head -n 1';
  assert.equal(confined(helperUnit, HELPER, ["sh", "-c", reached, HOOK]).stdout, "10.98.0.15 \n");
  assert.equal(serve(`guard ${ADDRESS} 5\n..q`), "");
  assert.equal(has(ours), true, "a guard that is released leaves the address");
  assert.equal(serve(`guard ${ADDRESS} 5\n..`), "");
  assert.equal(has(ours), false, "one that hears nothing more takes it away");
  assert.equal(serve(`remove ${ADDRESS}`).trim(), "ok");
  assert.match(serve("add 10.98.0.66"), /^error: .*10\.98\.0\.66 is not among the ADDRESSES/);
  assert.match(serve("add $(id)"), /^error: .* is no address/);
  assert.equal(confined(helperUnit, HELPER, ["ip", "netns", "add", "never"]).status !== 0, true, "it cannot mount");
});

test("units: the daemon under its unit has its address through the socket, and loses it when it is killed", {
  skip,
}, async () => {
  const home = path.join(folder, "node");
  mkdirSync(home);
  const disks = ["1", "2", "3"].map((name) => path.join(home, `disk${name}.img`));
  for (const disk of disks) {
    writeFileSync(disk, "");
    truncateSync(disk, 64 * 2 ** 20);
  }
  for (const file of [home, ...disks]) chownSync(file, DAEMON, DAEMON);
  const config = path.join(home, "config.yaml");
  const management = path.join(home, "sock");
  const pair = { partner: "chn5", "address-command": socket };
  const state = path.join(home, "state");
  const settings = { node: "chn1", "state-directory": state, disks, management: { socket: management }, pair };
  writeFileSync(config, stringify({ ...settings, nfs: { host: ADDRESS, port: 2049 } }));
  const main = path.join(REPOSITORY, "dist/src/cli/main.js");
  const words = daemonUnit.command(DAEMON, process.execPath, main, "serve", "--config", config);
  const [file, ...args] = ["ip", "netns", "exec", ours, ...words];
  const daemon: ChildProcess = spawn(file!, args, {
    stdio: ["ignore", "ignore", "inherit"],
    env: env(daemonEnvironment({ hasPartner: true })),
  });
  try {
    const status = async (): Promise<StatusReport | null> => {
      const asked = await command(process.execPath, [main, "status", "--json", "--socket", management]);
      return asked.status === 0 ? (JSON.parse(asked.stdout) as StatusReport) : null;
    };
    await until("the daemon serves at its address", async () => {
      assert.equal(daemon.exitCode, null);
      return (await status())?.service.host === ADDRESS && has(ours);
    });
    const standing = readFileSync(`/proc/${daemon.pid}/status`, "utf8");
    for (const line of [/^CapBnd:\t0+$/m, /^NoNewPrivs:\t1$/m, /^Seccomp:\t2$/m]) assert.match(standing, line);
  } finally {
    daemon.kill("SIGKILL");
  }
  await until("its guard has taken the address away", () => !has(ours));
});

test("units: a watchdog may be opened", { skip }, () => {
  const unit = readFileSync(path.join(REPOSITORY, "systemd/stripeward.service"), "utf8");
  assert.match(unit, /^DeviceAllow=\/dev\/watchdog rw$/m);
  assert.match(unit, /^DeviceAllow=char-watchdog rw$/m);
});
