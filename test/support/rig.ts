/** A rig of the real daemon, driven through the real command line, in a folder of its own; whatever happens, it is taken down. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../../src/cli/rig/free-port.js";

const CLI = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");

/** What `rig up --json` prints (DESIGN, section 9); only what tests look at. */
export interface RigDescription {
  readonly dir: string;
  readonly nodes: readonly { name: string; pid: number; socket: string; role: string }[];
  readonly service: { host: string; nfsPort: number };
  readonly exports: readonly { path: string; url: string }[];
  readonly disks: readonly { number: number; path: string; state: string }[];
}

export interface RigOptions {
  readonly disks?: number;
  readonly diskSize?: string;
  readonly raid?: 1 | 5;
  /** Where its folder is made. */
  readonly parent?: string;
  /** Further arguments of `rig up`. */
  readonly more?: readonly string[];
}

export interface CommandResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Run a program to its end without blocking this process. */
export async function command(file: string, args: readonly string[], timeoutMs = 120_000): Promise<CommandResult> {
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], timeout: timeoutMs, killSignal: "SIGKILL" });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  const [status] = (await once(child, "close")) as [number | null];
  return { status, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
}

/** Whether a process runs; a zombie does not. */
export function alive(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return stdout.trim() !== "" && !stdout.trim().startsWith("Z");
}

async function gone(pid: number): Promise<void> {
  while (alive(pid)) await new Promise((resolve) => setTimeout(resolve, 20));
}

export class Rig {
  description!: RigDescription;
  readonly dir: string;
  readonly port: number;
  readonly #arguments: readonly string[];

  private constructor(dir: string, port: number, options: RigOptions) {
    this.dir = dir;
    this.port = port;
    this.#arguments = [
      ...["--disks", String(options.disks ?? 5), "--disk-size", options.diskSize ?? "1G"],
      ...["--raid", String(options.raid ?? 5), "--nfs-port", String(port)],
      ...(options.more ?? []),
    ];
  }

  static async up(options: RigOptions = {}): Promise<Rig> {
    const dir = mkdtempSync(
      path.join(options.parent ?? process.env.STRIPEWARD_TEST_DIR ?? os.tmpdir(), "stripeward-rig-"),
    );
    const rig = new Rig(dir, await freePort(), options);
    process.once("exit", rig.#abandoned);
    try {
      await rig.up();
    } catch (error) {
      await rig.remove();
      throw error;
    }
    return rig;
  }

  /** Start the daemon on this folder, for the first time or again. */
  async up(): Promise<RigDescription> {
    this.description = (await this.json(["rig", "up", ...this.#arguments])) as RigDescription;
    return this.description;
  }

  async down(): Promise<void> {
    await this.ok(["rig", "down"]);
  }

  get pid(): number {
    return this.description.nodes[0]!.pid;
  }

  /** kill -9, and wait until the process is gone. */
  async kill(): Promise<void> {
    process.kill(this.pid, "SIGKILL");
    await gone(this.pid);
  }

  /** The export's URL for libnfs, with a path below it. */
  url(below = ""): string {
    const [base, query] = this.description.exports[0]!.url.split("?");
    return `${base}${below === "" ? "" : `/${below}`}?${query}`;
  }

  /** Any command of the CLI on this rig; its status is not judged. */
  cli(args: readonly string[]): Promise<CommandResult> {
    return command(process.execPath, [CLI, ...args, "--dir", this.dir]);
  }

  async ok(args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.cli(args);
    if (status !== 0) throw new Error(`stripeward ${args.join(" ")}: status ${status}\n${stderr}${stdout}`);
    return stdout;
  }

  async json(args: readonly string[]): Promise<unknown> {
    return JSON.parse(await this.ok([...args, "--json"]));
  }

  readonly #abandoned = (): void => {
    spawnSync(process.execPath, [CLI, "rig", "down", "--dir", this.dir], { timeout: 20_000 });
    rmSync(this.dir, { recursive: true, force: true });
  };

  /** Stop the daemon if it runs, and delete the folder. */
  async remove(): Promise<void> {
    process.off("exit", this.#abandoned);
    await this.cli(["rig", "down"]);
    rmSync(this.dir, { recursive: true, force: true });
  }
}
