import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { SeededRandom } from "../../src/lib/prng.js";
import { BLOCK_BYTES } from "../../src/lib/units.js";
import { FILE_SYNC, UNSTABLE } from "../../src/protocol/nfs3/stable-how.js";
import { NfsClient } from "../support/nfs-client.js";

const DIRECTORIES = 200;
const FILES_PER_DIRECTORY = 100;
/** More files than the file system knows of at a time, with names of some length. */
const FILES = DIRECTORIES * FILES_PER_DIRECTORY;
const IN_FLIGHT = 8;
const PAUSE_MS = 10;
/** Of the visits, one in so many writes. */
const WRITES_SHARE = 8;

/** A client with many small files that stay: looks them up, reads and writes them at random, so that everything which the daemon knows of files in use is full. */
export class Visitor {
  readonly #random: SeededRandom;
  readonly #directories: Buffer[] = [];

  private constructor(
    private readonly client: NfsClient,
    seed: number,
  ) {
    this.#random = new SeededRandom(seed);
  }

  /** Until `running` says no. @throws AssertionError for an answer that is not what it must be */
  static async run(port: number, seed: number, running: () => boolean): Promise<void> {
    const client = await NfsClient.connect(port);
    try {
      const visitor = new Visitor(client, seed);
      const { handle: root } = await client.mount("/data");
      for (let i = 0; i < DIRECTORIES && running(); i++)
        visitor.#directories.push((await client.mkdir(root, `many-${i}`)).handle!);
      let made = 0;
      await inParallel(async () => {
        while (made < FILES && running()) await visitor.#make(made++);
      });
      await inParallel(async () => {
        while (running()) {
          await visitor.#visit(visitor.#random.below(FILES));
          await sleep(PAUSE_MS);
        }
      });
    } finally {
      await client.close();
    }
  }

  async #make(number: number): Promise<void> {
    const { status, handle } = await this.client.create(this.#directoryOf(number), nameOf(number));
    assert.equal(status, 0, "CREATE");
    assert.equal((await this.client.write(handle!, 0, contentOf(number), UNSTABLE)).status, 0, "WRITE");
  }

  async #visit(number: number): Promise<void> {
    const { handle } = await this.client.lookup(this.#directoryOf(number), nameOf(number));
    const { data } = await this.client.read(handle, 0, BLOCK_BYTES);
    assert.ok(data.equals(contentOf(number)), `${nameOf(number)}: other bytes than were written`);
    if (this.#random.below(WRITES_SHARE) > 0) return;
    const stable = this.#random.below(2) === 0 ? FILE_SYNC : UNSTABLE;
    assert.equal((await this.client.write(handle, 0, contentOf(number), stable)).status, 0, "WRITE");
  }

  #directoryOf(number: number): Buffer {
    return this.#directories[Math.floor(number / FILES_PER_DIRECTORY)]!;
  }
}

function inParallel(work: () => Promise<void>): Promise<unknown> {
  return Promise.all(Array.from({ length: IN_FLIGHT }, work));
}

function nameOf(number: number): string {
  return `a file of many that stay where they are, number ${number}`;
}

function contentOf(number: number): Buffer {
  return Buffer.alloc(BLOCK_BYTES, number & 0xff);
}
