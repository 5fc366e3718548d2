import { setTimeout as sleep } from "node:timers/promises";
import type { StatusReport } from "../../control/types.js";
import { ApiClient, type SocketChoice } from "../client.js";
import { CliError } from "../errors.js";
import { daemonAnswers } from "./daemon.js";
import { type RigNode, readRig, rigNodes } from "./record.js";

/** A daemon that is stopped takes connections and never answers. */
const ANSWER_MS = 1500;

/** null: it does not run, or does not answer. */
export async function statusOf(node: RigNode): Promise<StatusReport | null> {
  if (!(await daemonAnswers(node))) return null;
  const status = new ApiClient(node.socket).get<StatusReport>("/v1/status").catch(() => null);
  return await Promise.race([status, sleep(ANSWER_MS, null, { ref: false })]);
}

/** The socket of a rig's daemon: the one that is named, or else the one that serves. @throws CliError when the rig has no such node */
export function rigSocket(dir: string, name: string | undefined): string | SocketChoice {
  const nodes = rigNodes(dir, readRig(dir));
  const [first, second] = nodes;
  if (first === undefined) throw new CliError(`the rig in ${dir} has no node`);
  if (name !== undefined) {
    const node = nodes.find((one) => one.name === name);
    if (node === undefined)
      throw new CliError(`the rig in ${dir} has no node ${name}: ${nodes.map((one) => one.name).join(", ")}`);
    return node.socket;
  }
  if (second === undefined) return first.socket;
  return async () => {
    const status = [await statusOf(first), await statusOf(second)];
    const active = status.find((one) => one?.role === "active") ?? status.find((one) => one !== null);
    return active?.socket ?? first.socket;
  };
}
