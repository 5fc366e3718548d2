import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { daemonEnvironment } from "../../src/cli/daemon-environment.js";
import type { EventRow, PairRow, StatusReport } from "../../src/control/types.js";
import { REPOSITORY } from "./packages.js";
import { alive, type CommandResult, command } from "./rig.js";

/**
 * Two hosts on one machine: each has a network, a host name, process ids and a boot id of its own, and the disks as devices of its own, so that a lock of one says
 * nothing to the other. Both, and a client, are joined by a switch. Addresses are of namespaces that nothing else reaches.
 */

const CLI = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");
const PROBE = path.join(path.dirname(fileURLToPath(import.meta.url)), "address-probe.js");
export const HOOK = path.join(REPOSITORY, "systemd/stripeward-address");
const DISKS = 3;
const DISK_BYTES = 192 * 2 ** 20;
const PORT = 2049;
const WAIT_MS_MAX = 60_000;

/** Why two hosts cannot be had here; false: they can. */
export function withoutTwoHosts(): string | false {
  if (process.getuid?.() !== 0) return "LEFT OUT: not root";
  for (const tool of ["ip", "arping", "unshare", "nsenter", "losetup"])
    if (spawnSync(tool, ["-V"]).error !== undefined) return `LEFT OUT: ${tool} is not installed`;
  const name = `swt${process.pid}`;
  const made = spawnSync("ip", ["netns", "add", name]);
  spawnSync("ip", ["netns", "delete", name]);
  return made.status === 0 ? false : "LEFT OUT: network namespaces cannot be made";
}

function must(file: string, ...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(file, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${file} ${args.join(" ")}: status ${status}\n${stderr}${stdout}`);
  return stdout;
}

export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = Date.now() + WAIT_MS_MAX;
  while (!(await condition())) {
    if (Date.now() > endMs) throw new Error(`it did not come about: ${what}`);
    await sleep(50);
  }
}

export interface HostOptions {
  readonly name: "chn1" | "chn5";
  /** Where clients find its groups. */
  readonly service: string;
  /** Further settings of `pair`. */
  readonly pair?: Readonly<Record<string, unknown>>;
}

/** The command that the unit has run after any end of the daemon. */
function stopPost(): string[] {
  const unit = readFileSync(path.join(REPOSITORY, "systemd/stripeward.service"), "utf8");
  const line = /^ExecStopPost=[-+]*(.*)$/m.exec(unit)?.[1];
  if (line === undefined) throw new Error("the unit has no ExecStopPost=");
  return line.replace("/usr/lib/stripeward/", `${REPOSITORY}/systemd/`).split(" ");
}

export class Host {
  readonly name: string;
  readonly service: string;
  readonly socket: string;
  readonly network: string;
  readonly interface: string;
  /** Each end of the daemon: its status, or the signal that ended it. */
  readonly ends: (number | string)[] = [];
  /** As systemd does: what the unit says is run after each end. */
  cleansUp = true;
  #init: ChildProcess | null = null;
  #initPid = 0;
  #daemon: ChildProcess | null = null;
  readonly #folder: string;

  constructor(
    private readonly lab: TwoHosts,
    private readonly options: HostOptions,
    readonly index: number,
  ) {
    this.name = options.name;
    this.service = options.service;
    this.#folder = path.join(lab.folder, this.name);
    this.socket = path.join(lab.folder, `${this.name}.sock`);
    this.network = `${lab.prefix}${index}`;
    this.interface = `${lab.prefix}e${index}`;
  }

  /** Its namespaces, and a process that keeps them. */
  async boot(): Promise<void> {
    mkdirSync(this.#folder, { recursive: true });
    const bootId = path.join(this.#folder, "boot-id");
    writeFileSync(bootId, `${randomUUID()}\n`);
    const script = `mount --bind ${bootId} /proc/sys/kernel/random/boot_id && hostname ${this.name} && echo booted && exec sleep 100000`;
    const unshared = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"];
    const init = spawn("ip", ["netns", "exec", this.network, ...unshared, "sh", "-c", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#init = init;
    await once(init.stdout, "data");
    this.#initPid = childOf(init.pid!);
  }

  /** A command on this host. */
  inside(...words: readonly string[]): string[] {
    const target = String(this.#initPid);
    return ["nsenter", "--target", target, "--mount", "--uts", "--net", "--pid", "--", ...words];
  }

  run(...words: readonly string[]): Promise<CommandResult> {
    const [file, ...args] = this.inside("env", `STRIPEWARD_ADDRESS_CONF=${this.conf}`, ...words);
    return command(file!, args);
  }

  get conf(): string {
    return path.join(this.#folder, "address.conf");
  }

  configure(command_: string, addresses: readonly string[]): void {
    const lines = [`INTERFACE=${this.interface}`, "PREFIX=24", `ADDRESSES="${addresses.join(" ")}"`];
    writeFileSync(this.conf, `${lines.join("\n")}\n`);
    const partner = this.name === "chn1" ? "chn5" : "chn1";
    const config = {
      node: this.name,
      "state-directory": path.join(this.#folder, "state"),
      disks: this.lab.disks[this.index],
      management: { socket: this.socket },
      nfs: { host: this.service, port: PORT },
      // Short, so that a takeover without a fence command need not be waited for.
      pair: { partner, "address-command": command_, "lease-seconds": 5, ...this.options.pair },
      "direct-io": true,
    };
    writeFileSync(path.join(this.#folder, "config.yaml"), stringify(config));
  }

  async up(): Promise<void> {
    const config = path.join(this.#folder, "config.yaml");
    const env = { ...daemonEnvironment({ hasPartner: true }), STRIPEWARD_ADDRESS_CONF: this.conf };
    const [file, ...args] = this.inside(process.execPath, "--enable-source-maps", CLI, "serve", "--config", config);
    const child = spawn(file!, args, { stdio: ["ignore", "ignore", "inherit"], env });
    this.#daemon = child;
    child.once("exit", (status, signal) => void this.#ended(child, status ?? signal ?? "?"));
    await until(`${this.name} answers`, async () => {
      if (this.#daemon !== child) throw new Error(`${this.name} ended: ${this.ends.at(-1)}`);
      return (await this.cli("status")).status === 0;
    });
  }

  async #ended(child: ChildProcess, how: number | string): Promise<void> {
    if (this.cleansUp) await this.run(...stopPost());
    if (this.#daemon === child) this.#daemon = null;
    this.ends.push(how);
  }

  /** Of the daemon, as this machine knows it. */
  get pid(): number {
    const pid = this.#daemon?.pid;
    if (pid === undefined) throw new Error(`${this.name} does not run`);
    return childOf(pid);
  }

  /** To the daemon; resolves when it has ended, and what comes after that is done. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<number | string> {
    const before = this.ends.length;
    process.kill(this.pid, signal);
    return await this.ended(before);
  }

  /** The next end after so many. */
  async ended(before: number): Promise<number | string> {
    await until(`${this.name} ends`, () => this.ends.length > before);
    return this.ends[before]!;
  }

  pause(): void {
    process.kill(this.pid, "SIGSTOP");
  }

  resume(): void {
    const wrapper = this.#daemon?.pid;
    process.kill(this.pid, "SIGCONT");
    // It has stopped itself with its child.
    if (wrapper !== undefined) process.kill(wrapper, "SIGCONT");
  }

  get runs(): boolean {
    return this.#daemon !== null;
  }

  cli(...args: readonly string[]): Promise<CommandResult> {
    return command(process.execPath, [CLI, ...args, "--socket", this.socket], 60_000);
  }

  async ok(...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.cli(...args);
    if (status !== 0)
      throw new Error(`${this.name}: stripeward ${args.join(" ")}: status ${status}\n${stderr}${stdout}`);
    return stdout;
  }

  async status(): Promise<StatusReport> {
    return JSON.parse(await this.ok("status", "--json")) as StatusReport;
  }

  async row(): Promise<PairRow> {
    return JSON.parse(await this.ok("node", "list", "--json")) as PairRow;
  }

  async events(): Promise<EventRow[]> {
    return JSON.parse(await this.ok("events", "--json")) as EventRow[];
  }

  /** Whether this host has an address now. */
  has(address: string): boolean {
    return must("ip", "-n", this.network, "-o", "address", "show", "to", `${address}/32`) !== "";
  }

  /** Other processes of this host whose command line says this. */
  processes(text: string): number[] {
    const inside = must(...(this.inside("pgrep", "-f", text) as [string, ...string[]])).trim();
    return inside.split("\n").map(Number);
  }

  async off(): Promise<void> {
    this.cleansUp = false;
    if (this.#daemon !== null) {
      const wrapper = this.#daemon.pid!;
      process.kill(this.pid, "SIGKILL");
      process.kill(wrapper, "SIGCONT");
      await until(`${this.name} is off`, () => this.#daemon === null);
    }
    this.#init?.kill("SIGKILL");
    if (this.#initPid > 0 && alive(this.#initPid)) process.kill(this.#initPid, "SIGKILL");
  }
}

function childOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0]);
}

/** A client that asks the service every so often, over a new connection each time. */
export class AddressProbe {
  readonly #child: ChildProcess;
  #answered = 0;
  #lastMs = Date.now();
  #gapMs = 0;
  #ended: number | string | null = null;

  constructor(network: string, address: string) {
    this.#child = spawn("ip", ["netns", "exec", network, process.execPath, PROBE, address, String(PORT)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#child.once("exit", (status) => {
      this.#ended = status ?? "?";
    });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => {
      if (line !== "answered") return;
      this.#gapMs = Math.max(this.#gapMs, Date.now() - this.#lastMs);
      this.#lastMs = Date.now();
      this.#answered++;
    });
  }

  /** So many answers more, none of them from before now. */
  async answers(count = 10): Promise<void> {
    const from = this.#answered + 1;
    await until("the service answers at its address", () => {
      if (this.#ended !== null) throw new Error(`the client has ended by itself: ${this.#ended}`);
      return this.#answered >= from + count;
    });
  }

  /** The longest time without an answer since this was last asked. */
  takeGapMs(): number {
    const gapMs = Math.max(this.#gapMs, Date.now() - this.#lastMs);
    this.#gapMs = 0;
    return gapMs;
  }

  end(): void {
    this.#child.kill("SIGKILL");
  }
}

export class TwoHosts {
  readonly folder = mkdtempSync(path.join(process.env.STRIPEWARD_TEST_DIR ?? os.tmpdir(), "swth-"));
  readonly prefix = `sw${process.pid}`;
  readonly #switch = `${this.prefix}s`;
  readonly client = `${this.prefix}c`;
  /** Of each host, in its order. */
  readonly disks: string[][] = [];
  readonly hosts: readonly [Host, Host];

  private constructor(pair: Readonly<Record<string, unknown>>) {
    this.hosts = [
      new Host(this, { name: "chn1", service: "10.99.0.1", pair }, 0),
      new Host(this, { name: "chn5", service: "10.99.0.5", pair }, 1),
    ];
  }

  /** Both up, with a group and a file system at home on chn1; chn5 stands by. @param pair  further settings of `pair` */
  static async up(pair: Readonly<Record<string, unknown>> = {}): Promise<TwoHosts> {
    const lab = new TwoHosts(pair);
    try {
      lab.#makeDisks();
      lab.#makeNetwork();
      const [one, two] = lab.hosts;
      for (const host of lab.hosts) {
        await host.boot();
        host.configure(HOOK, [one.service, two.service]);
      }
      await one.up();
      await lab.#furnish(one);
      await two.up();
      await lab.whole(one);
      return lab;
    } catch (error) {
      await lab.down();
      throw error;
    }
  }

  #makeDisks(): void {
    const files = Array.from({ length: DISKS }, (_, i) => path.join(this.folder, `disk${i + 1}.img`));
    for (const file of files) {
      writeFileSync(file, "");
      truncateSync(file, DISK_BYTES);
    }
    for (const _ of [0, 1]) this.disks.push(files.map((file) => must("losetup", "--find", "--show", file).trim()));
  }

  #makeNetwork(): void {
    must("ip", "netns", "add", this.#switch);
    must("ip", "-n", this.#switch, "link", "add", "br0", "type", "bridge");
    must("ip", "-n", this.#switch, "link", "set", "br0", "up");
    const [one, two] = this.hosts;
    this.#plug(one.network, one.interface, "10.99.0.11");
    this.#plug(two.network, two.interface, "10.99.0.15");
    this.#plug(this.client, `${this.prefix}ec`, "10.99.0.100");
  }

  #plug(network: string, name: string, address: string): void {
    must("ip", "netns", "add", network);
    must(
      "ip",
      "link",
      "add",
      name,
      "netns",
      network,
      "type",
      "veth",
      "peer",
      "name",
      `${name}p`,
      "netns",
      this.#switch,
    );
    must("ip", "-n", this.#switch, "link", "set", `${name}p`, "master", "br0", "up");
    must("ip", "-n", network, "link", "set", "lo", "up");
    must("ip", "-n", network, "link", "set", name, "up");
    must("ip", "-n", network, "address", "add", `${address}/24`, "dev", name);
  }

  async #furnish(host: Host): Promise<void> {
    await host.ok("disk", "add", ...this.disks[host.index]!);
    await host.ok("group", "create", "g", "--disks", "1-3");
    await host.ok("fs", "create", "data", "--group", "g", "--mode", "1777");
    await host.ok("export", "add", "/data", "--client", "10.99.0.0/24", "--squash", "none", "--insecure");
  }

  /** Until this one serves, the other stands by, and each has heard the other. */
  async whole(active: Host): Promise<void> {
    await until(`${active.name} serves and the other stands by`, async () => {
      const rows = await Promise.all(this.hosts.map((host) => host.row().catch(() => null)));
      return rows.every(
        (row) => row?.nodes.every(({ name, role }) => role === (name === active.name ? "active" : "standby")) === true,
      );
    });
  }

  /** The switch passes nothing to or from a host any more, and its carrier stays. */
  cut(host: Host): void {
    must("ip", "-n", this.#switch, "link", "set", `${host.interface}p`, "nomaster");
  }

  mend(host: Host): void {
    must("ip", "-n", this.#switch, "link", "set", `${host.interface}p`, "master", "br0");
  }

  /** Of one host's path to a disk so much is left, as when a storage box exports another size by mistake; 0: all of it. */
  resize(host: Host, disk: number, byteCount: number): void {
    // LOOP_GET_STATUS64 and LOOP_SET_STATUS64 (loop(4)); lo_sizelimit is the fifth word of the structure.
    const script = `open(my $f, "+<", $ARGV[0]) or die; my $s = "\\0" x 232; ioctl($f, 0x4C05, $s) or die;
      substr($s, 32, 8) = pack("Q", $ARGV[1]); ioctl($f, 0x4C04, $s) or die "$!";`;
    must("perl", "-e", script, this.disks[host.index]![disk]!, String(byteCount));
  }

  /** Names of the hosts that have an address now. */
  holders(address: string): string[] {
    return this.hosts.filter((host) => host.has(address)).map(({ name }) => name);
  }

  probe(address: string): AddressProbe {
    return new AddressProbe(this.client, address);
  }

  async down(): Promise<void> {
    for (const host of this.hosts) await host.off().catch(() => {});
    for (const name of [...this.hosts.map(({ network }) => network), this.client, this.#switch])
      spawnSync("ip", ["netns", "delete", name]);
    for (const device of this.disks.flat()) spawnSync("losetup", ["--detach", device]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
