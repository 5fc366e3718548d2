import type { Fence } from "../ha/contract.js";
import { processStat } from "../ha/process-identity.js";
import { StorageError } from "../lib/errors.js";
import { runCommand } from "./run-command.js";

const COMMAND_MS_MAX = 60_000;

/** Ends the partner: its process on this host, or by a command its machine. */
export class ProcessFence implements Fence {
  readonly command: Fence["command"];

  /** @param executable  as fence agents are called (ClusterLabs, FenceAgentAPI): options on standard input, a line each; 0 means that it is off */
  constructor(executable: string | null) {
    this.command = executable === null ? null : (node) => runFenceAgent(executable, node);
  }

  async kill(pid: number, processStart: number): Promise<void> {
    // Also the process id of somebody else by now: the time of its start tells.
    if (processStat(pid)?.start !== processStart) return;
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      throw new StorageError("EPERM", `process ${pid} cannot be ended (${(error as NodeJS.ErrnoException).code})`);
    }
  }

  processState(pid: number, processStart: number): string | null {
    const stat = processStat(pid);
    // A process that has ended, and that its parent has not waited for, holds nothing any more.
    return stat === null || stat.start !== processStart || stat.state === "Z" || stat.state === "X" ? null : stat.state;
  }
}

async function runFenceAgent(executable: string, node: string): Promise<void> {
  const input = `action=off\nport=${node}\nplug=${node}\nnodename=${node}\n`;
  await runCommand(executable, [], { timeMsMax: COMMAND_MS_MAX, input, what: "the fence command failed" });
}
