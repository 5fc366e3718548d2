import type { BlockDevice } from "../device/device.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { readLabel } from "../raid/label-io.js";
import { LAYOUT, memberBytesNeeded } from "../raid/layout.js";

/** A disk that needs longer for one block is of no use to a takeover. */
const ANSWER_MS_MAX = 2000;

/** Whether members of groups answer and are all there, asked without a lock. One that does not answer holds nobody up, and is asked nothing more until it has. */
export class DiskSight {
  readonly #asked = new Set<string>();

  /** @param open  for reading, past what is cached of it */
  constructor(private readonly open: (path: string) => Promise<BlockDevice>) {}

  async sees(path: string): Promise<boolean> {
    if (this.#asked.has(path)) return false;
    this.#asked.add(path);
    const answer = this.#read(path).finally(() => this.#asked.delete(path));
    return await Promise.race([answer, lateAnswer()]);
  }

  async #read(path: string): Promise<boolean> {
    let device: BlockDevice | null = null;
    try {
      device = await this.open(path);
      await device.read(Buffer.alloc(BLOCK_BYTES), LAYOUT.reserved);
      const group = (await readLabel(device))?.group;
      return group !== undefined && device.sizeBytes >= memberBytesNeeded(group.shape);
    } catch {
      return false;
    } finally {
      await device?.close().catch(() => {});
    }
  }
}

function lateAnswer(): Promise<boolean> {
  return new Promise((resolve) => setTimeout(() => resolve(false), ANSWER_MS_MAX).unref());
}
