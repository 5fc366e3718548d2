import { setTimeout as sleep } from "node:timers/promises";
import type { PairRow } from "../../src/control/types.js";
import { alive, type Rig } from "./rig.js";

/** The two nodes of a rig, by what they do now. */
export class Pair {
  constructor(readonly rig: Rig) {}

  async row(): Promise<PairRow> {
    return (await this.rig.json(["node", "list"])) as PairRow;
  }

  /** Process of the node that serves. */
  async activePid(): Promise<number> {
    const { nodes } = await this.row();
    const pid = nodes.find(({ role }) => role === "active")?.pid;
    if (pid === undefined || pid === null) throw new Error(`no node serves: ${JSON.stringify(nodes)}`);
    return pid;
  }

  /** Until one node serves and the other stands by; starts what does not run. */
  async whole(): Promise<void> {
    await this.rig.up();
    for (let i = 0; i < 400; i++) {
      const { nodes } = await this.row();
      const roles = nodes.map(({ role }) => role).sort();
      if (roles[0] === "active" && roles[1] === "standby") return;
      await sleep(25);
    }
    throw new Error(`the pair does not come together: ${JSON.stringify(await this.row())}`);
  }

  async kill(pid: number): Promise<void> {
    process.kill(pid, "SIGKILL");
    while (alive(pid)) await sleep(5);
  }
}
