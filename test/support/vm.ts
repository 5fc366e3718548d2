/**
 * A virtual machine with the Debian cloud kernel, so that the Linux kernel's own NFS client can be tested without KVM, without
 * root and without a module on the host. `run` sends a shell script to the guest and returns what it printed.
 *
 * The guest reaches the host's loopback as 10.0.2.2 (user networking). Its agent connects to a port of this process, receives one
 * script per connection and sends the output back over another, so that scripts can run side by side.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import path from "node:path";
import { CACHE, REPOSITORY } from "./packages.js";
import { cpioArchive, type InitramfsFile, KernelModules } from "./vm-initramfs.js";

const KERNEL_FOLDER = path.join(CACHE, "kernel");
const HELPER_SOURCE = path.join(REPOSITORY, "test/interop/guest/guest.c");
const MODULES = ["virtio_pci", "virtio_net", "nfsv3"];
const CONSOLE_BYTES_MAX = 256 * 1024;
const CONSOLE = "console=ttyS0 quiet panic=-1 random.trust_cpu=on";
/** What only costs time when every instruction is emulated: a third off each NFS call. */
const LEAN =
  "mitigations=off nopti nosmap nosmep nokaslr init_on_alloc=0 audit=0 apparmor=0 lsm= transparent_hugepage=never";
const FOLDER = 0o040755;
const PROGRAM = 0o100755;

export interface VmOptions {
  /** Two guests with one host name look like one client to a lock manager. */
  readonly hostname?: string;
  readonly memoryMiB?: number;
  /** Programs of this machine, by path, that the guest has in /bin, with the libraries that they need. */
  readonly programs?: readonly string[];
  /** More files, by path in the guest. */
  readonly files?: ReadonlyMap<string, Buffer>;
  readonly bootTimeoutMs?: number;
  /** A TCP port of the host's loopback that leads to a port of the guest: there the caller is 10.0.2.2. */
  readonly forward?: { readonly host: number; readonly guest: number };
}

export interface RunOptions {
  readonly timeoutMs?: number;
}

export interface RunResult {
  readonly status: number;
  /** stdout and stderr together. */
  readonly output: string;
}

/** The guest did not do what it was asked for; the message carries the output so far and the end of the console. */
export class VmError extends Error {}

function kernelImage(): string {
  const boot = path.join(KERNEL_FOLDER, "boot");
  const image = existsSync(boot) ? readdirSync(boot).find((name) => name.startsWith("vmlinuz-")) : undefined;
  if (image === undefined) throw new VmError("no kernel: run `node scripts/packages.mjs test`");
  return path.join(boot, image);
}

/** test/interop/guest/guest.c, statically linked; built once per version of the source. */
export function buildGuestHelper(): string {
  const source = readFileSync(HELPER_SOURCE);
  const target = path.join(CACHE, `guest-${createHash("sha256").update(source).digest("hex").slice(0, 16)}`);
  if (existsSync(target)) return target;
  mkdirSync(CACHE, { recursive: true });
  const work = `${target}.${process.pid}`;
  const args = ["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", work, HELPER_SOURCE];
  const { status, stderr, error } = spawnSync("gcc", args, { encoding: "utf8" });
  if (status !== 0)
    throw new VmError(`gcc cannot build ${path.relative(REPOSITORY, HELPER_SOURCE)}: ${error ?? stderr}`);
  renameSync(work, target);
  return target;
}

interface Ports {
  readonly scripts: number;
  readonly results: number;
}

/** The agent gives up, and the machine powers off, when nobody has listened for about a minute: no guest outlives its test. */
function initScript(hostname: string, ports: Ports, moduleNames: readonly string[]): string {
  return `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /mnt /run /etc
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null; mount -t tmpfs tmp /tmp
echo 'root:x:0:0:root:/:/bin/sh' > /etc/passwd
for m in ${moduleNames.join(" ")}; do insmod /modules/$m.ko || echo "insmod $m failed"; done
hostname ${hostname}
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
n=0; silent=0
while [ $silent -lt 300 ]; do
  n=$((n + 1))
  if nc 10.0.2.2 ${ports.scripts} </dev/null >/run/script.$n 2>/dev/null && [ -s /run/script.$n ]; then
    silent=0
    ( read id < /run/script.$n
      { echo "$id"; sh /run/script.$n; s=$?; echo; echo "status $s"; } 2>&1 </dev/null | nc 10.0.2.2 ${ports.results} >/dev/null
      rm -f /run/script.$n ) &
  else
    silent=$((silent + 1)); rm -f /run/script.$n; sleep 0.2
  fi
done
poweroff -f
`;
}

/** A program and what it is linked with, each where the guest's loader looks. */
function programFiles(programs: readonly string[]): InitramfsFile[] {
  const found = new Map<string, string>();
  for (const program of programs) {
    found.set(`bin/${path.basename(program)}`, program);
    const { stdout } = spawnSync("ldd", [program], { encoding: "utf8" });
    for (const line of stdout.split("\n")) {
      const [, library] = /(?:=> )?(\/\S+) \(/.exec(line) ?? [];
      if (library !== undefined) found.set(library.slice(1), library);
    }
  }
  return [...found].map(([name, source]) => ({ name, mode: PROGRAM, data: readFileSync(source) }));
}

/** The folders of these files that an archive must name before them. */
function foldersOf(files: readonly InitramfsFile[]): InitramfsFile[] {
  const names = new Set<string>();
  for (const { name } of files) {
    const parts = name.split("/").slice(0, -1);
    for (let i = 1; i <= parts.length; i++) names.add(parts.slice(0, i).join("/"));
  }
  return [...names].sort().map((name) => ({ name, mode: FOLDER }));
}

function initramfs(hostname: string, ports: Ports, { programs = [], files: extra = new Map() }: VmOptions): Buffer {
  const more = [
    ...programFiles(programs),
    ...[...extra].map(([name, data]) => ({ name: name.replace(/^\//, ""), mode: 0o100644, data })),
  ];
  const modules = new KernelModules(path.join(KERNEL_FOLDER, "lib/modules")).withDependencies(MODULES);
  const names = modules.map(({ name }) => name);
  const busybox = readFileSync("/bin/busybox");
  const files: InitramfsFile[] = [
    ...["dev", "bin", "modules"].map((name) => ({ name, mode: FOLDER })),
    ...foldersOf(more).filter(({ name }) => name !== "bin"),
    ...more,
    { name: "dev/console", mode: 0o020600, rdev: { major: 5, minor: 1 } },
    { name: "bin/busybox", mode: PROGRAM, data: busybox },
    { name: "bin/guest", mode: PROGRAM, data: readFileSync(buildGuestHelper()) },
    { name: "init", mode: PROGRAM, data: Buffer.from(initScript(hostname, ports, names)) },
    ...modules.map(({ name, data }) => ({ name: `modules/${name}.ko`, mode: 0o100644, data })),
  ];
  return cpioArchive(files);
}

/** Keeps the end of a text that may grow without bound. */
class Tail {
  text = "";
  add(chunk: Buffer): void {
    this.text += chunk.toString("latin1");
    if (this.text.length > CONSOLE_BYTES_MAX) this.text = this.text.slice(-CONSOLE_BYTES_MAX / 2);
  }
  lines(count: number): string {
    return this.text.trimEnd().split("\n").slice(-count).join("\n");
  }
}

interface Job {
  readonly id: number;
  readonly script: string;
  readonly chunks: Buffer[];
  finished: (result: RunResult) => void;
}

async function listening(onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    onConnection(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

function forwarding({ forward }: VmOptions): string {
  return forward === undefined ? "" : `,hostfwd=tcp:127.0.0.1:${forward.host}-:${forward.guest}`;
}

const portOf = (server: Server) => (server.address() as AddressInfo).port;

export class Vm {
  readonly console = new Tail();
  readonly #jobs = new Map<number, Job>();
  readonly #queue: Job[] = [];
  /** The guest's agent, waiting for a script. */
  #waiting: Socket | undefined;
  #servers: Server[] = [];
  #qemu: ChildProcess | undefined;
  #folder = "";
  #nextId = 1;

  static async boot(options: VmOptions = {}): Promise<Vm> {
    const vm = new Vm();
    try {
      await vm.#start(options);
      await vm.run("true", { timeoutMs: options.bootTimeoutMs ?? 120_000 });
    } catch (error) {
      await vm.stop();
      throw error;
    }
    return vm;
  }

  async #start(options: VmOptions): Promise<void> {
    const scripts = await listening((socket) => this.#agentWaits(socket));
    const results = await listening((socket) => this.#receive(socket));
    this.#servers = [scripts, results];
    mkdirSync(CACHE, { recursive: true });
    this.#folder = mkdtempSync(path.join(CACHE, "vm-"));
    const image = path.join(this.#folder, "initramfs");
    const ports = { scripts: portOf(scripts), results: portOf(results) };
    writeFileSync(image, initramfs(options.hostname ?? "guest", ports, options));
    const qemu = spawn("qemu-system-x86_64", this.#arguments(image, options), { stdio: ["ignore", "pipe", "pipe"] });
    this.#qemu = qemu;
    qemu.stdout.on("data", (chunk: Buffer) => this.console.add(chunk));
    qemu.stderr.on("data", (chunk: Buffer) => this.console.add(chunk));
    qemu.on("error", (error) => this.console.add(Buffer.from(`qemu: ${error.message}\n`)));
    process.once("exit", this.#killed);
  }

  #arguments(image: string, options: VmOptions): string[] {
    return [
      ...["-accel", "tcg", "-cpu", "max", "-m", String(options.memoryMiB ?? 512), "-nodefaults", "-no-user-config"],
      ...["-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", kernelImage(), "-initrd", image],
      ...["-append", `${CONSOLE} ${LEAN}`],
      ...["-netdev", `user,id=net0${forwarding(options)}`, "-device", "virtio-net-pci,netdev=net0,romfile="],
    ];
  }

  readonly #killed = (): void => {
    this.#qemu?.kill("SIGKILL");
    if (this.#folder !== "") rmSync(this.#folder, { recursive: true, force: true });
  };

  #agentWaits(socket: Socket): void {
    socket.resume();
    this.#waiting?.destroy();
    this.#waiting = socket;
    this.#dispatch();
  }

  #dispatch(): void {
    if (this.#waiting === undefined || this.#queue.length === 0) return;
    const job = this.#queue.shift()!;
    const socket = this.#waiting;
    this.#waiting = undefined;
    this.#jobs.set(job.id, job);
    socket.end(`# ${job.id}\n${job.script}\n`);
  }

  /** Output of one script: a line with its number, what it printed, a line with its status. */
  #receive(socket: Socket): void {
    let head = Buffer.alloc(0);
    let job: Job | undefined;
    socket.on("data", (chunk: Buffer) => {
      if (job !== undefined) {
        job.chunks.push(chunk);
        return;
      }
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf("\n");
      if (end < 0) return;
      job = this.#jobs.get(Number(head.toString("latin1", 2, end)));
      job?.chunks.push(head.subarray(end + 1));
    });
    socket.on("end", () => {
      socket.end();
      if (job !== undefined) this.#finish(job);
    });
  }

  #finish(job: Job): void {
    this.#jobs.delete(job.id);
    const text = Buffer.concat(job.chunks).toString();
    const match = /\nstatus (\d+)\n$/.exec(text);
    if (match === null) return; // The connection broke: `run` will say so when its time is over.
    job.finished({ status: Number(match[1]), output: text.slice(0, match.index) });
  }

  /** Run a shell script in the guest; its status is not judged. */
  async run(script: string, options: RunOptions = {}): Promise<RunResult> {
    const timeoutMs = options.timeoutMs ?? 60_000;
    const job: Job = { id: this.#nextId++, script, chunks: [], finished: () => {} };
    const { promise, resolve, reject } = withResolvers<RunResult>();
    job.finished = resolve;
    const fail = (what: string) => reject(new VmError(this.#diagnosis(what, job)));
    const timer = setTimeout(() => fail(`no end after ${timeoutMs / 1000} s`), timeoutMs);
    const exited = () => fail("the virtual machine stopped");
    this.#qemu?.once("exit", exited);
    if (this.#qemu === undefined || this.#qemu.exitCode !== null || this.#qemu.signalCode !== null) exited();
    this.#queue.push(job);
    this.#dispatch();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#qemu?.off("exit", exited);
      this.#jobs.delete(job.id);
    }
  }

  /** Run a script that must succeed (`set -e`); returns what it printed. */
  async ok(script: string, options: RunOptions = {}): Promise<string> {
    const { status, output } = await this.run(`set -e\n${script}`, options);
    if (status !== 0) {
      throw new VmError(
        `status ${status}\n--- script\n${script}\n--- output\n${output}\n--- console\n${this.console.lines(10)}`,
      );
    }
    return output;
  }

  #diagnosis(what: string, job: Job): string {
    const output = Buffer.concat(job.chunks).toString();
    return `${what}\n--- script\n${job.script}\n--- output\n${output}\n--- console\n${this.console.lines(30)}`;
  }

  async stop(): Promise<void> {
    process.off("exit", this.#killed);
    const qemu = this.#qemu;
    if (qemu !== undefined && qemu.exitCode === null && qemu.signalCode === null && qemu.pid !== undefined) {
      qemu.kill("SIGKILL");
      await once(qemu, "exit");
    }
    this.#waiting?.destroy();
    for (const server of this.#servers) server.close();
    if (this.#folder !== "") rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Promise.withResolvers of a newer Node. */
function withResolvers<T>() {
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
