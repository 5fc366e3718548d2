import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { freePort } from "../../../src/cli/rig/free-port.js";
import { type Bundle, makeBundle } from "../../../src/cluster/bundle.js";
import type { TerminalDisks } from "../../../src/cluster/disks.js";
import { type ClusterPlan, parsePlan } from "../../../src/cluster/plan.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";

/** A release that looks like ours from outside: it serves /v1/status, and tells that it has made what it was asked for. */
const FAKE_MAIN = `
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { version } = JSON.parse(fs.readFileSync(path.join(__dirname, "../../../package.json"), "utf8"));
const [, , first, ...rest] = process.argv;
if (first === "serve") {
  const config = fs.readFileSync(rest[1], "utf8");
  const socket = /socket: (.*)/.exec(config)[1];
  const node = /^node: (.*)/m.exec(config)[1];
  if (fs.existsSync(path.join(path.dirname(socket), "refuse"))) {
    console.error("stripeward: cannot listen on 127.0.0.1:2049: the port is taken");
    process.exit(1);
  }
  fs.appendFileSync(socket + ".starts", process.pid + "\\n");
  http.createServer((request, response) => response.end(JSON.stringify({ pid: process.pid, node, version }))).listen(socket);
} else {
  for (const step of ["partitions shared", "partitions backup", "file systems shared", "file systems backup"])
    for (const state of ["begun", "done"]) console.log(JSON.stringify({ kind: "step", step, state, what: state }));
}
`;

/** A folder with disks as files, a plan over them and a release that is quickly made; everything that it started is ended with the test. */
export class ClusterFixture {
  readonly folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-cluster-"));
  readonly disks: TerminalDisks = { log: SILENT, random: new SeededRandom(7), directIo: false };
  port = 0;

  private constructor(t: TestContext) {
    t.after(() => {
      for (const pid of this.started()) kill(pid);
      rmSync(this.folder, { recursive: true, force: true });
    });
    mkdirSync(path.join(this.folder, "disks"));
    for (const name of ["s1", "s2", "b1"]) this.disk(name);
    this.release("1.0.0");
  }

  static async make(t: TestContext): Promise<ClusterFixture> {
    const fixture = new ClusterFixture(t);
    fixture.port = await freePort();
    return fixture;
  }

  disk(name: string): string {
    const file = path.join(this.folder, "disks", `${name}.img`);
    writeFileSync(file, "");
    truncateSync(file, 32 * 2 ** 20);
    return file;
  }

  place(name: string): string {
    return path.join(this.folder, name);
  }

  plan(change: (text: string) => string = (text) => text): ClusterPlan {
    return parsePlan(change(this.text()), path.join(this.folder, "plan.yaml"));
  }

  text(): string {
    const { folder } = this;
    const node = (name: string, address: string) =>
      [
        `  - name: ${name}`,
        `    address: ${address}`,
        `    install: ${folder}/${name}/install`,
        `    state: ${folder}/${name}/state`,
        `    socket: ${folder}/${name}/s`,
        `    disks: [${folder}/disks/*.img]`,
        "    local: true",
      ].join("\n");
    return [
      "management:",
      "  host: 127.0.0.1",
      `  port: ${this.port}`,
      "nodes:",
      node("chn1", "127.0.0.1"),
      node("chn5", "127.0.0.2"),
      `shared: [${folder}/disks/s1.img, ${folder}/disks/s2.img]`,
      `backup: [${folder}/disks/b1.img]`,
      "",
    ].join("\n");
  }

  /** A package with nothing in it but what the installer needs. */
  release(version: string): void {
    const root = this.place("package");
    mkdirSync(path.join(root, "dist/src/cli"), { recursive: true });
    mkdirSync(path.join(root, "node_modules/one/build/Release"), { recursive: true });
    const write = (name: string, content: string) => writeFileSync(path.join(root, name), content);
    write("package.json", JSON.stringify({ name: "stripeward", version, dependencies: { one: "1" } }));
    write("LICENSE", "MIT\n");
    write("dist/src/cli/main.js", FAKE_MAIN);
    chmodSync(path.join(root, "dist/src/cli/main.js"), 0o755);
    write("dist/src/cli/main.js.map", "{}");
    write("node_modules/one/package.json", JSON.stringify({ name: "one", version: "1.0.0" }));
    write("node_modules/one/index.js", "");
    write("node_modules/one/README.md", "left out");
    write("node_modules/one/build/Release/one.node", "native");
  }

  /** As if nothing had ever been done here. */
  forget(): void {
    for (const name of ["chn1", "chn5", "record"]) rmSync(this.place(name), { recursive: true, force: true });
    for (const name of ["s1", "s2", "b1"]) this.disk(name);
  }

  bundle(): Promise<Bundle> {
    return makeBundle(this.place("package"), this.place("bundle"));
  }

  /** Processes of the daemons that were started, in order. */
  started(node?: string): number[] {
    const nodes = node === undefined ? readdirSync(this.folder).filter((name) => name.startsWith("chn")) : [node];
    return nodes.flatMap((name) => {
      const file = this.place(`${name}/s.starts`);
      return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n").map(Number) : [];
    });
  }
}

export function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended already.
  }
}
