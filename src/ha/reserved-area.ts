import type { BlockDevice } from "../device/device.js";
import { messageOf } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { LAYOUT } from "../raid/layout.js";

export interface ReservedAreaParts {
  readonly open: (path: string) => Promise<BlockDevice>;
  readonly log: Logger;
  /** For the simulator, which must notice: what is asked while an answer is awaited is asked again. */
  readonly asksAgain?: boolean | undefined;
}

interface Waiting<T> {
  readonly done: Promise<T>;
  /** What to do when its turn comes; a later write takes the place of an earlier one. */
  action: () => Promise<T>;
}

/**
 * One request at a time, and one that waits behind it, which all that come meanwhile share: whoever asks gets what began after it asked, and however many
 * ask, a disk that does not answer holds two requests.
 */
class Turn<T> {
  #running: Promise<T> | null = null;
  #waiting: Waiting<T> | null = null;

  get busy(): boolean {
    return this.#running !== null;
  }

  run(action: () => Promise<T>): Promise<T> {
    if (this.#waiting !== null) {
      this.#waiting.action = action;
      return this.#waiting.done;
    }
    if (this.#running === null) return this.#begin(action);
    const next = (): Promise<T> => {
      const waiting = this.#waiting as Waiting<T>;
      this.#waiting = null;
      return this.#begin(waiting.action);
    };
    const waiting: Waiting<T> = { action, done: this.#running.then(next) };
    this.#waiting = waiting;
    return waiting.done;
  }

  /** @param action  never rejects */
  #begin(action: () => Promise<T>): Promise<T> {
    const running = action().finally(() => {
      if (this.#running === running) this.#running = null;
    });
    this.#running = running;
    return running;
  }
}

/**
 * The reserved area of one disk. Each of its blocks is read by one request at a time, and written by one: a disk that answers late is not asked the same
 * again meanwhile. It is opened when it is first needed, and anew after an error.
 */
export class ReservedArea {
  readonly #reads = new Map<number, Turn<Buffer | null>>();
  readonly #writes = new Map<number, Turn<boolean>>();
  #device: Promise<BlockDevice> | null = null;
  /** When the youngest heartbeat began that it has taken. */
  takenMs = Number.NEGATIVE_INFINITY;

  constructor(
    readonly path: string,
    private readonly parts: ReservedAreaParts,
  ) {}

  isReading(block: number): boolean {
    return this.#reads.get(block)?.busy === true;
  }

  isWriting(block: number): boolean {
    return this.#writes.get(block)?.busy === true;
  }

  /** Asked after this call. @returns null when it cannot be read */
  read(block: number): Promise<Buffer | null> {
    if (this.parts.asksAgain === true) return this.#read(block);
    return turnOf(this.#reads, block).run(() => this.#read(block));
  }

  /** @returns whether the block holds this, or what was written there later */
  write(block: number, bytes: Buffer, durable: boolean): Promise<boolean> {
    return turnOf(this.#writes, block).run(() => this.#write(block, bytes, durable));
  }

  async #read(block: number): Promise<Buffer | null> {
    const bytes = Buffer.alloc(BLOCK_BYTES);
    return (await this.#with((device) => device.read(bytes, positionOf(block)))) ? bytes : null;
  }

  #write(block: number, bytes: Buffer, durable: boolean): Promise<boolean> {
    return this.#with((device) =>
      durable ? device.writeThrough([bytes], positionOf(block)) : device.write(bytes, positionOf(block)),
    );
  }

  /** @returns whether it was done */
  async #with(action: (device: BlockDevice) => Promise<void>): Promise<boolean> {
    this.#device ??= this.parts.open(this.path);
    const device = this.#device;
    try {
      await action(await device);
      return true;
    } catch (error) {
      this.parts.log.debug({ disk: this.path, error: messageOf(error) }, "the reserved area of a disk cannot be used");
      // Nobody waits for it: a disk that fails may take its time for that too.
      if (this.#device === device) void this.close();
      return false;
    }
  }

  /** Resolves when requests under way have ended. What is asked afterwards opens it anew. */
  async close(): Promise<void> {
    const device = this.#device;
    this.#device = null;
    this.takenMs = Number.NEGATIVE_INFINITY;
    await device?.then((opened) => opened.close()).catch(() => {});
  }
}

function positionOf(block: number): number {
  return LAYOUT.reserved + block * BLOCK_BYTES;
}

function turnOf<T>(turns: Map<number, Turn<T>>, block: number): Turn<T> {
  let turn = turns.get(block);
  if (turn === undefined) {
    turn = new Turn();
    turns.set(block, turn);
  }
  return turn;
}
