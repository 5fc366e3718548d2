/**
 * What a Linux machine with the file system mounted notices of takeovers: nothing but a pause. In a guest `fio` writes and verifies, `git` clones and checks
 * the clone, and a process holds a lock, while the node that serves is killed, stopped and asked to go. Needs port 111 of 127.0.0.1 and .2.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { GuestMonitor } from "../support/guest-monitor.js";
import { NfsClient } from "../support/nfs-client.js";
import { NlmClient, NlmStat } from "../support/nlm-client.js";
import { skipWithout } from "../support/packages.js";
import { Pair } from "../support/pair.js";
import { portmapTaken } from "../support/portmap-port.js";
import { alive, Rig } from "../support/rig.js";
import { Vm } from "../support/vm.js";

const skip =
  skipWithout("qemu-system-x86", "busybox-static", "gcc", "libc6-dev", "linux-image-cloud-amd64", "fio", "git") ||
  (await portmapTaken());

/** A history of some size, as one file. */
function repositoryBundle(): Buffer {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-git-"));
  const git = (...args: string[]) => {
    const settings = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
    const { status, stderr } = spawnSync("git", [...settings, ...args], { cwd: folder, encoding: "utf8" });
    if (status !== 0) throw new Error(`git ${args.join(" ")}: ${stderr}`);
  };
  try {
    git("init", "-q", "-b", "main");
    for (let i = 0; i < 60; i++) {
      writeFileSync(path.join(folder, `file${i}`), `${i} `.repeat(500 + i * 20));
      git("add", ".");
      if (i % 10 === 9) git("commit", "-q", "-m", `commit ${i}`);
    }
    git("bundle", "create", "-q", "all.bundle", "main");
    return readFileSync(path.join(folder, "all.bundle"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const which = (program: string) => spawnSync("which", [program], { encoding: "utf8" }).stdout.trim();

/** Each until a file says stop; the last line is "ok", or what went wrong. */
const FIO = `cd /tmp; n=0
while [ ! -e /tmp/stop ]; do
  fio --name=v$n --directory=/mnt/fio --rw=randwrite --bs=16k --size=4m --ioengine=psync --fsync=32 --verify=crc32c \\
    --verify_fatal=1 --do_verify=1 --verify_state_save=0 --unlink=1 > /tmp/fio.log 2>&1 || { tail -n 5 /tmp/fio.log; exit 1; }
  n=$((n + 1))
done
echo "$n ok"`;
const GIT = `export GIT_EXEC_PATH=/bin HOME=/tmp GIT_CONFIG_NOSYSTEM=1 GIT_TEMPLATE_DIR=/tmp; n=0
while [ ! -e /tmp/stop ]; do
  git clone -q /all.bundle /mnt/git/clone$n -b main && git -C /mnt/git/clone$n fsck --full --no-progress > /tmp/git.log 2>&1 || { cat /tmp/git.log; exit 1; }
  rm -r /mnt/git/clone$n || exit 1
  n=$((n + 1))
done
echo "$n ok"`;

test("the Linux kernel's client: fio --verify, git clone and a held lock go through three takeovers", {
  skip,
  timeout: 600_000,
}, async (t) => {
  const rig = await Rig.up({ disks: 4, diskSize: "512M", more: ["--nodes", "2", "--portmap"] });
  t.after(() => rig.remove());
  const pair = new Pair(rig);
  await pair.whole();
  const port = rig.description.service.nfsPort;
  const monitor = await GuestMonitor.start();
  t.after(() => monitor.close());
  const files = new Map([["/all.bundle", repositoryBundle()]]);
  const vm = await Vm.boot({ hostname: "worker", memoryMiB: 1024, programs: [which("fio"), which("git")], files });
  t.after(() => vm.stop());
  await vm.ok(monitor.relay);
  const options = `vers=3,tcp,port=${port},mountport=${port},mountproto=tcp,addr=10.0.2.2,hard,timeo=50`;
  await vm.ok(
    `mkdir -p /mnt; guest mount 10.0.2.2:/data /mnt ${options}; mkdir /mnt/fio /mnt/git; echo text > /mnt/held`,
  );

  const lock = vm.run("guest flock /mnt/held x try 400", { timeoutMs: 500_000 });
  const work = [FIO, GIT].map((script) => vm.run(script, { timeoutMs: 500_000 }));
  await sleep(10_000);
  for (const how of ["killed", "hung", "planned"] as const) {
    const pid = await pair.activePid();
    if (how === "killed") await pair.kill(pid);
    else if (how === "hung") process.kill(pid, "SIGSTOP");
    else await rig.ok(["node", "takeover"]);
    await sleep(8000);
    while (how !== "planned" && alive(pid)) await sleep(10);
    await pair.whole();
    await otherIsRefused(port);
    t.diagnostic(`${how}: the guest goes on`);
  }
  await vm.ok("touch /tmp/stop");
  for (const [i, result] of (await Promise.all(work)).entries()) {
    assert.equal(result.status, 0, `${i === 0 ? "fio" : "git"}: ${result.output}`);
    assert.match(result.output, /^\d+ ok/m);
    t.diagnostic(`${i === 0 ? "fio --verify" : "git clone and fsck"}: ${result.output.trim().split("\n").at(-1)}`);
  }
  // The process that holds the lock has not ended, and ends well when it is told to.
  await vm.ok("killall guest");
  await lock;
  assert.doesNotMatch(await vm.ok("dmesg"), /I\/O error|lost \d+ locks|server 10\.0\.2\.2 error/i);
});

/** Another client does not get the lock that the guest holds. */
async function otherIsRefused(port: number): Promise<void> {
  const client = await NfsClient.connect(port);
  try {
    const { handle: root } = await client.mount("/data");
    const { handle } = await client.lookup(root, "held");
    const svid = 1 + Math.floor(Math.random() * 1e6);
    const status = await new NlmClient(client).lock({ handle, host: "beside", svid, cookie: `c${svid}` });
    assert.equal(status, NlmStat.denied, "the lock is held");
  } finally {
    await client.close();
  }
}
