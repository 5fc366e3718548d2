/** The peer: NFS-Ganesha (FSAL VFS) on btrfs RAID-5 over loop devices. Needs root. */
import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { freePort } from "../src/cli/rig/free-port.js";
import { command } from "../test/support/rig.js";
import { mountBtrfs } from "./btrfs.js";
import type { Server } from "./server.js";
import { must, pause, start, stop, type Undo } from "./undo.js";

const ANSWER_PATIENCE_MS = 60_000;

function config(folder: string, mount: string, port: number, mountPort: number): string {
  return `NFS_CORE_PARAM { NFS_Port = ${port}; MNT_Port = ${mountPort}; Protocols = 3; mount_path_pseudo = true; Bind_addr = 127.0.0.1;
  Enable_NLM = false; Enable_RQUOTA = false; }
NFSv4 { RecoveryRoot = "${folder}"; }
EXPORT { Export_Id = 1; Path = "${mount}"; Pseudo = /data; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 3;
  Transports = TCP; PrivilegedPort = false; FSAL { Name = VFS; } }
`;
}

function running(program: string): boolean {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .some((pid) => {
      try {
        return readFileSync(`/proc/${pid}/comm`, "utf8").trim() === program;
      } catch {
        return false; // It has just ended.
      }
    });
}

export class Ganesha implements Server {
  readonly name = "NFS-Ganesha";
  readonly description: string;
  readonly #folder: string;
  readonly #disks: number;
  readonly #diskBytes: number;
  readonly #undo: Undo;
  #process: ChildProcess | undefined;
  #ports = { nfs: 0, mount: 0 };
  #prepared = false;

  constructor(folder: string, disks: number, diskBytes: number, undo: Undo) {
    this.#folder = folder;
    this.#disks = disks;
    this.#diskBytes = diskBytes;
    this.#undo = undo;
    const version = /V([\d.]+)/.exec(must("ganesha.nfsd", "-v"))?.[1] ?? "";
    this.description = `NFS-Ganesha ${version} (FSAL VFS) on btrfs RAID-5 over ${disks} loop devices on sparse files`;
  }

  get #mount(): string {
    return path.join(this.#folder, "mount");
  }

  /** Once: loop devices, file system, rpcbind (without which Ganesha does not start). */
  async #prepare(): Promise<void> {
    this.#prepared = true;
    mountBtrfs(this.#folder, this.#disks, this.#diskBytes, this.#undo);
    if (!running("rpcbind")) await this.#rpcbind();
  }

  /** On all addresses: Debian 12's rpcbind 1.2.6 aborts (double free) when it is given one with -h. */
  async #rpcbind(): Promise<void> {
    const rpcbind = start("rpcbind", ["-f", "-w"], { stderr: "ignore" });
    this.#undo.add("stop rpcbind", () => stop(rpcbind));
    await pause(500);
    if (rpcbind.exitCode !== null || rpcbind.signalCode !== null) throw new Error("rpcbind does not start");
  }

  async start(): Promise<void> {
    if (!this.#prepared) await this.#prepare();
    this.#ports = { nfs: await freePort(), mount: await freePort() };
    const configFile = path.join(this.#folder, "ganesha.conf");
    const log = path.join(this.#folder, "ganesha.log");
    writeFileSync(configFile, config(this.#folder, this.#mount, this.#ports.nfs, this.#ports.mount));
    const args = ["-F", "-f", configFile, "-L", log, "-p", path.join(this.#folder, "ganesha.pid"), "-N", "NIV_EVENT"];
    const child = start("ganesha.nfsd", args, { stderr: "ignore" });
    child.stdout.resume();
    this.#process = child;
    this.#undo.add("stop Ganesha", () => stop(child));
    const deadline = Date.now() + ANSWER_PATIENCE_MS;
    while ((await command("nfs-ls", [this.url], 10_000)).status !== 0) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error(`Ganesha does not answer:\n${tail(log)}`);
      await pause(200);
    }
  }

  async stop(): Promise<void> {
    if (this.#process !== undefined) await stop(this.#process);
    this.#process = undefined;
  }

  get url(): string {
    return `nfs://127.0.0.1/data?nfsport=${this.#ports.nfs}&mountport=${this.#ports.mount}`;
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }
}

function tail(file: string): string {
  try {
    return readFileSync(file, "utf8").split("\n").slice(-15).join("\n");
  } catch {
    return "(no log)";
  }
}
