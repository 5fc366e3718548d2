import assert from "node:assert/strict";
import { SeededRandom } from "../../src/lib/prng.js";
import { FILE_SYNC, UNSTABLE } from "../../src/protocol/nfs3/stable-how.js";
import { NfsClient } from "../support/nfs-client.js";
import { NlmClient } from "../support/nlm-client.js";

const FILES = 60;
const LOCKS = 10;
const FILE_BYTES_MAX = 200_000;
const LIST_BYTES = 32_768;
const NO_VERIFIER = Buffer.alloc(8);

/**
 * One client of a soak: rounds that make a directory with everything in it that a client can make, read it back, and leave nothing behind, each over a
 * connection of its own. After a round the file system is what it was before.
 */
export class SoakClient {
  readonly #random: SeededRandom;
  readonly #content: Buffer;

  constructor(
    private readonly port: number,
    private readonly name: string,
    seed: number,
  ) {
    this.#random = new SeededRandom(seed);
    this.#content = Buffer.alloc(FILE_BYTES_MAX);
    this.#random.fill(this.#content);
  }

  /** @throws AssertionError for an answer that is not what it must be */
  async round(number: number): Promise<void> {
    const client = await NfsClient.connect(this.port);
    try {
      const { status, handle: root } = await client.mount("/data");
      assert.equal(status, 0, "MNT");
      const directory = (await client.mkdir(root, `${this.name}-${number}`)).handle!;
      const sizes = await this.#fill(client, directory);
      await this.#locks(client, (await client.lookup(directory, "f0")).handle);
      await this.#readBack(client, directory, sizes);
      await this.#empty(client, directory);
      assert.equal((await client.rmdir(root, `${this.name}-${number}`)).status, 0, "RMDIR");
    } finally {
      await client.close();
    }
  }

  async #fill(client: NfsClient, directory: Buffer): Promise<number[]> {
    const sizes: number[] = [];
    for (let i = 0; i < FILES; i++) {
      const size = this.#random.below(3) === 0 ? this.#random.below(FILE_BYTES_MAX) : this.#random.below(8192);
      sizes.push(size);
      const { handle, status } = await client.create(directory, `f${i}`, { mode: 0o644 });
      assert.equal(status, 0, "CREATE");
      const stable = this.#random.below(2) === 0 ? FILE_SYNC : UNSTABLE;
      const written = await client.write(handle!, 0, this.#content.subarray(0, size), stable);
      assert.equal(written.status, 0, "WRITE");
      if (stable === UNSTABLE) assert.equal((await client.commit(handle!)).status, 0, "COMMIT");
      if (i % 5 === 0) assert.equal((await client.link(handle!, directory, `l${i}`)).status, 0, "LINK");
      if (i % 7 === 0) assert.equal((await client.symlink(directory, `s${i}`, `f${i}`)).status, 0, "SYMLINK");
      if (i % 3 === 0) assert.equal((await client.setattr(handle!, { mode: 0o600 })).status, 0, "SETATTR");
    }
    return sizes;
  }

  async #locks(client: NfsClient, file: Buffer): Promise<void> {
    const nlm = new NlmClient(client);
    for (let i = 0; i < LOCKS; i++) {
      const place = { offset: BigInt(i * 10), length: 10n, exclusive: true };
      const lock = { handle: file, host: this.name, oh: `${i}@${this.name}`, svid: i, ...place };
      assert.equal(await nlm.lock(lock), 0, "LOCK");
      if (i % 2 === 0) assert.equal(await nlm.unlock(lock), 0, "UNLOCK");
    }
    await nlm.freeAll(this.name);
  }

  async #readBack(client: NfsClient, directory: Buffer, sizes: readonly number[]): Promise<void> {
    for (let i = 0; i < FILES; i++) {
      const { handle } = await client.lookup(directory, `f${i}`);
      const size = sizes[i]!;
      const { data } = await client.read(handle, 0, Math.max(1, size));
      assert.ok(data.equals(this.#content.subarray(0, size)), `f${i}: other bytes than were written`);
      if (i % 4 === 0)
        assert.equal((await client.rename(directory, `f${i}`, directory, `f${i}`)).status, 0, "RENAME to itself");
    }
  }

  async #empty(client: NfsClient, directory: Buffer): Promise<void> {
    for (;;) {
      const { entries } = await client.readdirplus(directory, 0, NO_VERIFIER, LIST_BYTES, LIST_BYTES);
      const names = entries.map(({ name }) => name).filter((name) => name !== "." && name !== "..");
      if (names.length === 0) return;
      for (const name of names) assert.equal((await client.remove(directory, name)).status, 0, `REMOVE ${name}`);
    }
  }
}
