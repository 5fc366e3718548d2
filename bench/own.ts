/** This server: a rig over plain files, started through the command line as a user would. */
import { Rig } from "../test/support/rig.js";
import type { Server } from "./server.js";
import type { Undo } from "./undo.js";

export class OwnServer implements Server {
  readonly name = "stripeward";
  readonly description: string;
  readonly #folder: string;
  readonly #disks: number;
  readonly #diskBytes: number;
  readonly #undo: Undo;
  #rig: Rig | undefined;

  constructor(folder: string, disks: number, diskBytes: number, undo: Undo) {
    this.#folder = folder;
    this.#disks = disks;
    this.#diskBytes = diskBytes;
    this.#undo = undo;
    this.description = `stripeward, RAID-5 over ${disks} sparse files`;
  }

  async start(): Promise<void> {
    if (this.#rig !== undefined) {
      await this.#rig.up();
      return;
    }
    const rig = await Rig.up({
      disks: this.#disks,
      diskSize: String(this.#diskBytes),
      parent: this.#folder,
      more: ["--no-faults"],
    });
    this.#rig = rig;
    this.#undo.add("remove the rig", () => rig.remove());
  }

  async stop(): Promise<void> {
    await this.#rig?.down();
  }

  /** Any command on the rig, as a document. */
  json(args: readonly string[]): Promise<unknown> {
    return this.rig.json(args);
  }

  get rig(): Rig {
    if (this.#rig === undefined) throw new Error("the rig is not up");
    return this.#rig;
  }

  get url(): string {
    return this.rig.url();
  }

  get pid(): number {
    return this.rig.pid;
  }
}
