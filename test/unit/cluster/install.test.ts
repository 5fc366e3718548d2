import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { type TestContext, test } from "node:test";
import vm from "node:vm";
import type { Bundle } from "../../../src/cluster/bundle.js";
import { InstallServer, type PrintedInvitation } from "../../../src/cluster/install-server.js";
import {
  type Invitation,
  installNode,
  type NodeOrders,
  type Notice,
  TOKEN_VARIABLE,
} from "../../../src/cluster/installer.js";
import { installerScript, NODE_LEAST } from "../../../src/cluster/installer-script.js";
import { configurationOf } from "../../../src/cluster/plan.js";
import { StorageError } from "../../../src/lib/errors.js";
import { ClusterFixture } from "./fixture.js";

interface Terminal {
  readonly fixture: ClusterFixture;
  readonly server: InstallServer;
  readonly bundle: Bundle;
  readonly notices: Notice[];
  /** The nodes whose disks were looked at. */
  readonly admitted: string[];
  invitation(node?: string): Invitation;
}

async function terminal(
  t: TestContext,
  change: (orders: NodeOrders) => NodeOrders = (orders) => orders,
): Promise<Terminal> {
  const fixture = await ClusterFixture.make(t);
  const bundle = await fixture.bundle();
  const notices: Notice[] = [];
  const admitted: string[] = [];
  const plan = fixture.plan();
  const server = new InstallServer({
    ...{ host: "127.0.0.1", port: fixture.port, bundle },
    admit: async (name) => {
      admitted.push(name);
      if (name === "chn2") throw new StorageError("EACCES", 'node chn2 has no path to group "shared": define it first');
    },
    ordersOf: (name) => {
      const node = plan.nodes.find((one) => one.name === name) ?? plan.nodes[0]!;
      const { install, state, socket, config, start } = node;
      const orders = {
        node: name,
        install,
        state,
        socket,
        config,
        start,
        furnish: null,
        environment: {},
        startMs: 10_000,
      };
      return change({ ...orders, configuration: configurationOf(plan, node), bundle });
    },
    onNotice: (_, notice) => void notices.push(notice),
  });
  await server.listen();
  t.after(() => server.close());
  const invitation = (node = "chn1") => invitationIn(server.invite(node), node);
  return { fixture, server, bundle, notices, admitted, invitation };
}

const QUIET = () => {};

function invitationIn({ url, token }: PrintedInvitation, node: string): Invitation {
  const { origin, hash } = new URL(url);
  return { origin, node, token, ordersSha256: hash.slice(1) };
}

function get(url: string, token = "", localAddress = "127.0.0.1"): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = token === "" ? {} : { authorization: `Bearer ${token}` };
    const request = http.get(url, { localAddress, headers, agent: false }, async (response) => {
      let text = "";
      for await (const piece of response) text += String(piece);
      resolve({ status: response.statusCode ?? 0, text });
    });
    request.once("error", reject);
  });
}

test("install: fetched, verified, unpacked, configured, started and reported; again, nothing is started twice", async (t) => {
  const { fixture, invitation, notices, bundle } = await terminal(t);
  await installNode(invitation(), QUIET);
  const [pid] = fixture.started("chn1");
  const last = notices.at(-1)!;
  deepEqual([last.kind, last.version, last.pid], ["complete", "1.0.0", pid]);
  const install = fixture.place("chn1/install");
  equal(readlinkSync(path.join(install, "current")), `releases/1.0.0-${bundle.sha256.slice(0, 12)}`);
  const mode = (name: string) => (statSync(fixture.place(name)).mode & 0o777).toString(8);
  deepEqual(
    [mode("chn1/state"), mode("chn1/install/stripeward.yaml"), mode("chn1/state/daemon.log")],
    ["700", "644", "600"],
  );
  match(readFileSync(fixture.place("chn1/install/stripeward.yaml"), "utf8"), /^node: chn1$/m);
  await installNode(invitation(), QUIET);
  deepEqual(fixture.started("chn1"), [pid]);
  equal(existsSync(path.join(install, ".installing")), false);
});

test("install: what the terminal serves runs under Node alone, from standard input", async (t) => {
  const { fixture, server, notices } = await terminal(t);
  const { url, token, installerSha256 } = server.invite("chn5");
  const { text } = await get(url);
  equal(createHash("sha256").update(text).digest("hex"), installerSha256);
  const env = { ...process.env, [TOKEN_VARIABLE]: token };
  const child = spawn(process.execPath, ["-"], { stdio: ["pipe", "pipe", "inherit"], env });
  child.stdin.end(text);
  const [status] = (await once(child, "exit")) as [number];
  equal(status, 0);
  equal(notices.at(-1)?.pid, fixture.started("chn5")[0]);
});

test("install: a Node that is too old says so before anything else", () => {
  const script = installerScript({ origin: "http://127.0.0.1:1", node: "chn1", ordersSha256: "0" });
  const head = script.slice(0, script.indexOf("const "));
  const said: string[] = [];
  const exits: number[] = [];
  const run = (node: string) => {
    const process = { versions: { node }, exit: (status: number) => exits.push(status) };
    vm.runInNewContext(head, { process, console: { error: (what: string) => said.push(what) } });
  };
  for (const fine of [NODE_LEAST.join("."), "20.20.2", "22.0.0"]) run(fine);
  deepEqual([said, exits], [[], []]);
  run("18.19.1");
  run("20.9.0");
  deepEqual(said, [
    "stripeward needs Node.js 20.10 or newer, and this is 18.19.1",
    "stripeward needs Node.js 20.10 or newer, and this is 20.9.0",
  ]);
  const { engines } = JSON.parse(readFileSync("package.json", "utf8")) as { engines: { node: string } };
  equal(engines.node, `>=${NODE_LEAST.join(".")}`);
});

test("install: a bundle that was changed on the way is refused, and nothing of it is unpacked", async (t) => {
  const { fixture, bundle, invitation, notices } = await terminal(t);
  const content = readFileSync(bundle.file);
  content.writeUInt8(content.readUInt8(content.length >> 1) ^ 1, content.length >> 1);
  writeFileSync(bundle.file, content);
  await rejects(
    installNode(invitation(), QUIET),
    /the bundle was changed on the way: its checksum is [0-9a-f]{64}, not [0-9a-f]{64}; nothing of it was unpacked/,
  );
  equal(notices.at(-1)?.kind, "failed");
  equal(existsSync(fixture.place("chn1/install/releases")), false);
  deepEqual(fixture.started(), []);
});

test("install: a token that is wrong, replaced, used up or used from elsewhere opens nothing, and neither does a node without a path", async (t) => {
  const { server, invitation, bundle, admitted } = await terminal(t);
  const { url, token } = server.invite("chn1");
  const config = url.replace(/install.*/, "config/chn1");
  match((await get(url.replace("chn1", "chn5"))).text, /node chn5 is not being installed now/);
  equal((await get(url)).text.includes(token), false, "the installer holds no secret");
  for (const guess of ["", "guess", `${token}x`]) {
    const wrong = await get(config, guess);
    deepEqual([wrong.status, wrong.text.includes("the token for node chn1 is wrong")], [403, true]);
  }
  equal((await get(`${config}?token=${token}`)).status, 403, "not in a URL, which others can read");
  deepEqual(admitted, [], "no disk was looked at for somebody without the token");
  equal((await get(config, token)).status, 200);
  deepEqual(admitted, ["chn1"]);
  const elsewhere = await get(config, token, "127.0.0.3");
  deepEqual(
    [elsewhere.status, elsewhere.text.includes("has been used from 127.0.0.1, and counts for that address only")],
    [403, true],
  );
  equal((await get(config, token)).status, 200);
  const fresh = invitation();
  match(
    (await get(config, token)).text,
    /the token for node chn1 is wrong: use the command that the terminal printed last/,
  );
  await installNode(fresh, QUIET);
  await rejects(installNode(fresh, QUIET), /the token for node chn1 has been used: it counts for one installation/);
  for (const used of ["", "guess", fresh.token])
    equal((await get(`${fresh.origin}/bundle/${bundle.name}`, used)).status, 403);
  await rejects(
    installNode(invitation("chn2"), QUIET),
    /^Error: node chn2 has no path to group "shared": define it first$/,
  );
});

test("install: orders that are not those of the printed command are not followed", async (t) => {
  const { fixture, invitation } = await terminal(t);
  const other = { ...invitation(), ordersSha256: "0".repeat(64) };
  await rejects(installNode(other, QUIET), /what the terminal says was changed on the way/);
  deepEqual([existsSync(fixture.place("chn1/install")), fixture.started()], [false, []]);
});

test("install: what the terminal or the daemon says plays with no terminal of the node", async (t) => {
  const server = http.createServer((_, response) => {
    response.writeHead(403).end(JSON.stringify({ error: { message: "no\x1b[2J\x9b31m\u202e\nfake" } }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const script = installerScript({ origin: `http://127.0.0.1:${port}`, node: "chn1", ordersSha256: "0" });
  const child = spawn(process.execPath, ["-"], { stdio: ["pipe", "ignore", "pipe"] });
  child.stdin.end(script);
  let said = "";
  for await (const piece of child.stderr) said += String(piece);
  equal(said, "stripeward: no\\x1b[2J\\x9b31m\\u{202e}\\x0afake\n");
});

test("install: a port that is taken, and an address that is not ours, are told", async (t) => {
  const { fixture, bundle } = await terminal(t);
  const other = (host: string) =>
    new InstallServer({
      host,
      port: fixture.port,
      bundle,
      admit: async () => {},
      ordersOf: () => ({}) as NodeOrders,
      onNotice: QUIET,
    });
  await rejects(
    other("127.0.0.1").listen(),
    /127\.0\.0\.1:\d+, where the terminal should listen, is taken by another program/,
  );
  await rejects(other("192.0.2.1").listen(), /192\.0\.2\.1 is no address of this machine \(management\.host\)/);
});

test("install: a daemon that does not come up is reported in its own words; another attempt goes on", async (t) => {
  const { fixture, invitation, notices } = await terminal(t);
  mkdirSync(fixture.place("chn1"), { recursive: true });
  writeFileSync(fixture.place("chn1/refuse"), "");
  await rejects(
    installNode(invitation(), QUIET),
    /the daemon did not start: cannot listen on 127\.0\.0\.1:2049: the port is taken/,
  );
  match(notices.at(-1)!.what, /the port is taken/);
  const { unlinkSync } = await import("node:fs");
  unlinkSync(fixture.place("chn1/refuse"));
  await installNode(invitation(), QUIET);
  equal(notices.at(-1)?.kind, "complete");
});

test("install: a node that runs another version, another machine, a start command that fails: one sentence each", async (t) => {
  const { fixture, invitation } = await terminal(t);
  await installNode(invitation(), QUIET);
  fixture.release("2.0.0");
  const newer = await terminal(t, (orders) => ({
    ...orders,
    socket: fixture.place("chn1/s"),
    bundle: { ...orders.bundle, version: "2.0.0" },
  }));
  await rejects(
    installNode(newer.invitation(), QUIET),
    /node chn1 runs version 1\.0\.0 already, and the bundle is 2\.0\.0: stop it first/,
  );
  const stranger = await terminal(t, (orders) => ({ ...orders, socket: fixture.place("chn1/s") }));
  await rejects(installNode(stranger.invitation("chn5"), QUIET), /node chn1 answers at .*, not chn5/);
  const arm = await terminal(t, (orders) => ({ ...orders, bundle: { ...orders.bundle, platform: "linux-other" } }));
  await rejects(installNode(arm.invitation(), QUIET), /this machine is linux-\w+, and the release is for linux-other/);
  const command = await terminal(t, (orders) => ({ ...orders, start: "echo 'no such unit' >&2; exit 5" }));
  await rejects(installNode(command.invitation(), QUIET), /the start command failed: no such unit/);
});

test("install: what an attempt that was killed has left does not stand in the way", async (t) => {
  const { fixture, invitation, bundle } = await terminal(t);
  const install = fixture.place("chn1/install");
  const name = `1.0.0-${bundle.sha256.slice(0, 12)}`;
  mkdirSync(path.join(install, "releases", `.${name}.new`, "dist"), { recursive: true });
  writeFileSync(path.join(install, ".installing"), "4194305");
  appendFileSync(path.join(install, "current.new"), "");
  await installNode(invitation(), QUIET);
  deepEqual(readdirSync(path.join(install, "releases")), [name]);
  equal(fixture.started("chn1").length, 1);
});
