import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { someoneAnswers } from "../../control/claim-socket.js";
import type { StatusReport } from "../../control/types.js";
import { makeFolder } from "../../lib/make-folder.js";
import { LIMITS } from "../../limits.js";
import { ApiClient } from "../client.js";
import { daemonEnvironment } from "../daemon-environment.js";
import { CliError } from "../errors.js";
import type { RigNode, RigRecord } from "./record.js";

/** How often a rig looks whether its daemon has come up or gone. */
const POLL_MS = 25;

export async function daemonAnswers({ socket }: Pick<RigNode, "socket">): Promise<boolean> {
  return existsSync(socket) && (await someoneAnswers(socket));
}

export function writeConfig(node: RigNode, record: RigRecord, disks: readonly string[]): void {
  const config = {
    node: node.name,
    "state-directory": node.state,
    disks,
    management: { socket: node.socket },
    nfs: { host: node.host, port: record.nfsPort, portmap: record.portmap },
    ...(node.partner === null ? {} : { pair: { partner: node.partner } }),
    "fault-injection": record.faults,
    "volatile-cache": record.volatileCache,
  };
  writeFileSync(node.config, `# Written by "stripeward rig up", again at every start.\n${stringify(config)}`);
}

/**
 * Start the daemon, detached, and wait for its first answer.
 * @throws CliError with the daemon's own last words when it does not come up
 */
export async function startDaemon(node: RigNode): Promise<void> {
  makeFolder(node.state);
  const log = openSync(node.log, "a", 0o600);
  const complaint = openSync(node.complaint, "w", 0o600);
  const cli = fileURLToPath(new URL("../main.js", import.meta.url));
  const child = spawn(process.execPath, ["--enable-source-maps", cli, "serve", "--config", node.config], {
    detached: true,
    stdio: ["ignore", log, complaint],
    env: daemonEnvironment({ hasPartner: node.partner !== null }),
  });
  closeSync(log);
  closeSync(complaint);
  let exited = false;
  child.once("exit", () => {
    exited = true;
  });
  child.once("error", () => {
    exited = true;
  });
  child.unref();
  const deadline = performance.now() + LIMITS.startMs;
  while (!(await daemonAnswers(node))) {
    if (exited) throw new CliError(lastWords(node));
    if (performance.now() > deadline) throw new CliError(`the daemon does not answer; see ${node.log}`);
    await sleep(POLL_MS);
  }
  const { pid } = await new ApiClient(node.socket).get<StatusReport>("/v1/status");
  if (pid !== child.pid) throw new CliError(`another daemon (process ${pid}) answers at ${node.socket}`);
}

function lastWords(node: RigNode): string {
  const lines = readFileSync(node.complaint, "utf8").trim().split("\n");
  const said = lines.at(-1)?.replace(/^stripeward: /, "") ?? "";
  return said === "" ? `the daemon did not start; see ${node.log}` : `the daemon did not start: ${said}`;
}

/** SIGTERM, a limit, SIGKILL. @returns how it ended; "absent" when nothing ran */
export async function stopDaemon(node: RigNode): Promise<"absent" | "stopped" | "killed"> {
  const pid = runningPid(node);
  let outcome: "absent" | "stopped" | "killed" = "absent";
  if (pid !== undefined) {
    process.kill(pid, "SIGTERM");
    outcome = (await waitForExit(node, pid, LIMITS.stopMs)) ? "stopped" : "killed";
    if (outcome === "killed") {
      process.kill(pid, "SIGKILL");
      await waitForExit(node, pid, LIMITS.drainMs);
    }
  }
  rmSync(node.pid, { force: true });
  rmSync(node.socket, { force: true });
  return outcome;
}

/** SIGKILL, unless it has gone already; returns when it has. What it leaves behind stays, as after a crash. */
export async function killDaemon(node: RigNode, pid: number): Promise<void> {
  if (isOurDaemon(node, pid)) process.kill(pid, "SIGKILL");
  if (!(await waitForExit(node, pid, LIMITS.drainMs))) throw new CliError(`process ${pid} does not end`);
}

/** The recorded process, if it still is our daemon and not a stranger that was given its number. */
export function runningPid(node: RigNode): number | undefined {
  if (!existsSync(node.pid)) return undefined;
  const pid = Number(readFileSync(node.pid, "utf8"));
  return Number.isInteger(pid) && pid > 1 && isOurDaemon(node, pid) ? pid : undefined;
}

function isOurDaemon(node: RigNode, pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(node.config);
  } catch {
    return false;
  }
}

async function waitForExit(node: RigNode, pid: number, limitMs: number): Promise<boolean> {
  const deadline = performance.now() + limitMs;
  while (isOurDaemon(node, pid)) {
    if (performance.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}
