// What the interop tests and the benchmark want from Debian: installs it as root, otherwise tells what will be left out.
//
//   node scripts/packages.mjs [test] [bench] [--check] [--json]
//
// The kernel for the virtual machine is downloaded and unpacked into .cache/, never installed: it needs no root.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
export const CACHE = path.join(root, ".cache");
const KERNEL = "linux-image-cloud-amd64";

/** A package is there when its probe is: a program on the PATH or a file. */
export const WANTED = [
  { name: "libnfs-utils", probe: "nfs-cp", uses: { test: "the libnfs tools against a running rig" } },
  {
    name: "qemu-system-x86",
    probe: "qemu-system-x86_64",
    uses: { test: "the Linux kernel's own NFS client, in a virtual machine" },
  },
  // The same path as an ordinary `busybox`, which may be the dynamic one: ask for the static program by its package.
  { name: "busybox-static", probe: "dpkg:busybox-static", uses: { test: "what the virtual machine runs" } },
  {
    name: "gcc",
    probe: "gcc",
    uses: { test: "the helper inside the virtual machine", bench: "the load generator" },
  },
  {
    name: "libc6-dev",
    probe: "dpkg:libc6-dev",
    uses: { test: "the helper inside the virtual machine", bench: "the load generator" },
  },
  { name: "fio", probe: "fio", uses: { test: "a load that verifies itself, in the virtual machine" } },
  { name: "git", probe: "git", uses: { test: "a clone over NFS, in the virtual machine" } },
  { name: "iproute2", probe: "ip", uses: { test: "two hosts in network namespaces" } },
  { name: "iputils-arping", probe: "arping", uses: { test: "an address that two hosts have" } },
  { name: "libnfs-dev", probe: "/usr/include/nfsc/libnfs.h", uses: { bench: "the load generator" } },
  { name: "libisal-dev", probe: "/usr/include/isa-l/raid.h", uses: { bench: "the peer of the parity kernel (ISA-L)" } },
  { name: "nfs-ganesha", probe: "ganesha.nfsd", uses: { bench: "the peer (NFS-Ganesha)" } },
  { name: "nfs-ganesha-vfs", probe: "dpkg:nfs-ganesha-vfs", uses: { bench: "the peer (NFS-Ganesha)" } },
  { name: "rpcbind", probe: "rpcbind", uses: { bench: "the peer (NFS-Ganesha)" } },
  { name: "btrfs-progs", probe: "mkfs.btrfs", uses: { bench: "the peer's RAID-5 (btrfs)" } },
  { name: "mount", probe: "losetup", uses: { bench: "the peer's disks (loop devices)" } },
];

const PATHS = [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/sbin"];

/** The full path of a program, or undefined. */
export function which(program) {
  return PATHS.filter((folder) => folder !== "")
    .map((folder) => path.join(folder, program))
    .find((file) => existsSync(file));
}

function present(probe) {
  if (probe.startsWith("/")) return existsSync(probe);
  if (!probe.startsWith("dpkg:")) return which(probe) !== undefined;
  const list = path.join("/var/lib/dpkg/info");
  const name = probe.slice("dpkg:".length);
  return [`${name}.list`, `${name}:amd64.list`].some((file) => existsSync(path.join(list, file)));
}

function tool(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" },
    timeout: 300_000,
    ...options,
  });
  const text = `${stdout ?? ""}${stderr ?? ""}${error ? error.message : ""}`;
  return { ok: status === 0, stdout: stdout ?? "", why: lastLine(text) };
}

function lastLine(text) {
  const lines = text.trim().split("\n");
  return lines.findLast((line) => /^(E|Err):/.test(line)) ?? lines.at(-1) ?? "";
}

let updated = false;
function updateOnce() {
  if (updated) return;
  updated = true;
  tool("apt-get", ["update", "-q"]);
}

/** A package may start its daemon as it is installed (nfs-ganesha, rpcbind): not on our account. */
function withoutStartingServices(work) {
  const policy = "/usr/sbin/policy-rc.d";
  if (existsSync(policy)) return work();
  writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    return work();
  } finally {
    rmSync(policy, { force: true });
  }
}

function install(names) {
  if (which("apt-get") === undefined) return "this is not a Debian machine (no apt-get)";
  if (process.getuid() !== 0) return "not root";
  updateOnce();
  const args = ["install", "-q", "-y", "--no-install-recommends", ...names];
  const all = withoutStartingServices(() => tool("apt-get", args));
  return all.ok ? undefined : `apt-get failed: ${all.why}`;
}

/** The kernel package that the metapackage stands for now. */
function kernelPackage() {
  const shown = tool("apt-cache", ["show", "--no-all-versions", KERNEL]);
  return /^Depends:.*?\b(linux-image-[^\s,]+)/m.exec(shown.stdout)?.[1];
}

const unpacked = (folder) => existsSync(path.join(folder, "boot")) && existsSync(path.join(folder, "lib/modules"));

function fetchKernel(folder) {
  if (which("apt-get") === undefined || which("dpkg") === undefined) return "this is not a Debian machine (no apt-get)";
  if (process.arch !== "x64") return `no virtual machine on ${process.arch}`;
  let name = kernelPackage();
  if (name === undefined && process.getuid() === 0) {
    updateOnce();
    name = kernelPackage();
  }
  if (name === undefined) return `apt-cache does not know ${KERNEL} (apt-get update?)`;
  const work = `${folder}.${process.pid}`;
  try {
    mkdirSync(work, { recursive: true });
    let got = tool("apt-get", ["download", "-q", name], { cwd: work });
    if (!got.ok && process.getuid() === 0) {
      // The list may be older than what the mirror still keeps.
      updateOnce();
      got = tool("apt-get", ["download", "-q", kernelPackage() ?? name], { cwd: work });
    }
    const file = readdirSync(work).find((entry) => entry.endsWith(".deb"));
    if (!got.ok || file === undefined) return `apt-get download ${name} failed: ${got.why}`;
    const out = tool("dpkg", ["-x", file, "tree"], { cwd: work });
    if (!out.ok) return `dpkg -x failed: ${out.why}`;
    rmSync(folder, { recursive: true, force: true });
    renameSync(path.join(work, "tree"), folder);
    return undefined;
  } catch (error) {
    return error.message;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The folder with boot/ and lib/modules/ of the unpacked kernel. */
export const KERNEL_FOLDER = path.join(CACHE, "kernel");

/**
 * Make what `uses` names ("test", "bench") available.
 * @returns what is still missing: [{ name, needed, why }]
 */
export function ensurePackages(uses, { check = false, say = () => {} } = {}) {
  const wanted = WANTED.filter((entry) => uses.some((use) => entry.uses[use] !== undefined));
  const missing = wanted.filter((entry) => !present(entry.probe));
  const out = [];
  if (missing.length > 0) {
    if (!check) say(`installing ${missing.map((entry) => entry.name).join(" ")}`);
    const why = check ? "not installed" : install(missing.map((entry) => entry.name));
    for (const entry of missing.filter(({ probe }) => !present(probe))) {
      const needed = uses.map((use) => entry.uses[use]).filter((use) => use !== undefined);
      out.push({ name: entry.name, needed: needed.join("; "), why: why ?? "installed, yet not found" });
    }
  }
  if (uses.includes("test") && !unpacked(KERNEL_FOLDER)) {
    if (!check) say(`downloading ${KERNEL}`);
    const why = check ? "not unpacked" : fetchKernel(KERNEL_FOLDER);
    if (why !== undefined) {
      out.push({ name: KERNEL, needed: "the Linux kernel's own NFS client, in a virtual machine", why });
    }
  }
  return out;
}

/** A paragraph nobody overlooks; empty when nothing is missing. */
export function complain(missing) {
  if (missing.length === 0) return "";
  const bar = "!".repeat(100);
  const lines = missing.map(({ name, needed, why }) => `!! ${name}: ${why}. Needed for: ${needed}.`);
  return `${bar}\n!! LEFT OUT, because Debian packages are missing:\n${lines.join("\n")}\n${bar}\n`;
}

function main() {
  const args = process.argv.slice(2);
  const uses = args.filter((arg) => !arg.startsWith("--"));
  const missing = ensurePackages(uses.length > 0 ? uses : ["test", "bench"], {
    check: args.includes("--check"),
    say: (text) => console.error(`packages: ${text}`),
  });
  if (args.includes("--json")) console.log(JSON.stringify({ missing, complaint: complain(missing) }));
  else process.stdout.write(complain(missing) || "packages: everything is there\n");
  process.exit(missing.length === 0 ? 0 : 1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
