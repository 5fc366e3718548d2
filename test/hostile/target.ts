import { readFileSync } from "node:fs";
import http from "node:http";
import { NfsClient } from "../support/nfs-client.js";
import { Rig } from "../support/rig.js";

const MIB = 1024 * 1024;
const NFS3ERR_NOSPC = 28;
const FILL_WRITES = 8;

/** The bystander's own address; what else is named by the export does not behave. */
export const BYSTANDER = "127.0.0.1";
export const CLIENTS = ["127.0.0.3", "127.0.0.4", "127.0.0.5"] as const;
export const STRANGERS = ["127.0.0.66", "127.0.0.67", "127.0.0.68", "127.0.0.69"] as const;

/** A rig whose export /data names the bystander and the hostile clients, and nobody else. */
export class Target {
  readonly host = "127.0.0.1";

  private constructor(
    readonly rig: Rig,
    /** Of the daemon, as it was started. */
    readonly pid: number,
  ) {}

  static async up(): Promise<Target> {
    const rig = await Rig.up({ disks: 4, diskSize: "512M" });
    try {
      for (const address of [BYSTANDER, ...CLIENTS]) {
        const client = ["--client", `${address}/32`, "--squash", "none", "--insecure"];
        await rig.ok(["export", "add", "/data", ...client]);
      }
      await rig.ok(["export", "remove", "/data", "--client", "127.0.0.0/8"]);
    } catch (error) {
      await rig.remove();
      throw error;
    }
    const target = new Target(rig, rig.pid);
    await target.#fill();
    return target;
  }

  /** Write all of the data LU once: a hole in a file is given its place by the host, in a transaction for which every sync waits. Disks have none. */
  async #fill(): Promise<void> {
    const client = await NfsClient.connect(this.port);
    try {
      const { handle: root } = await client.mount("/data");
      const { handle } = await client.create(root, "fill");
      const data = Buffer.alloc(MIB, 1);
      for (let at = 0, isFull = false; !isFull; at += FILL_WRITES) {
        const writes = Array.from({ length: FILL_WRITES }, (_, i) => client.write(handle!, (at + i) * MIB, data, 0));
        isFull = (await Promise.all(writes)).some(({ status }) => status === NFS3ERR_NOSPC);
      }
      await client.remove(root, "fill");
    } finally {
      await client.close();
    }
  }

  get port(): number {
    return this.rig.port;
  }

  get socket(): string {
    return this.rig.description.nodes[0]!.socket;
  }

  /** A zombie is not. */
  get isAlive(): boolean {
    try {
      const stat = readFileSync(`/proc/${this.pid}/stat`, "latin1");
      return !stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
    } catch {
      return false;
    }
  }

  get residentMib(): number {
    return this.#statusKib("VmRSS") / 1024;
  }

  /** What it said last. */
  lastWords(): string {
    try {
      return readFileSync(`${this.rig.dir}/stripeward.err`, "utf8").trim().split("\n").at(-1) ?? "";
    } catch {
      return "";
    }
  }

  /** A sample of /metrics, such as `event_loop_delays_total{over="0.02"}`; null when there is none. */
  async metric(name: string): Promise<number | null> {
    const line = (await this.get("/metrics")).split("\n").find((one) => one.startsWith(`stripeward_${name} `));
    return line === undefined ? null : Number(line.slice(line.lastIndexOf(" ") + 1));
  }

  async remove(): Promise<void> {
    await this.rig.remove();
  }

  get(path: string): Promise<string> {
    return this.#request("GET", path);
  }

  post(path: string, body: object): Promise<string> {
    return this.#request("POST", path, JSON.stringify(body));
  }

  #request(method: string, path: string, body?: string): Promise<string> {
    const headers = body === undefined ? {} : { "content-type": "application/json" };
    return new Promise((resolve, reject) => {
      const options = { socketPath: this.socket, method, path, headers, agent: false };
      const request = http.request(options, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (piece: string) => {
          text += piece;
        });
        response.once("end", () => resolve(text));
        response.once("error", reject);
      });
      request.once("error", reject);
      request.end(body);
    });
  }

  #status(): string {
    return readFileSync(`/proc/${this.pid}/status`, "utf8");
  }

  #statusKib(name: string): number {
    return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(this.#status())?.[1] ?? 0);
  }
}
