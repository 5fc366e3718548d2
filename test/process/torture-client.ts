import assert from "node:assert/strict";
import type { Random } from "../../src/lib/prng.js";
import { NfsClient } from "../support/nfs-client.js";

const BLOCK = 4096;
const FILES_MAX = 12;
const FILE_BYTES_MAX = 160 * 1024;
const WRITE_BYTES_MAX = 40_000;
const NOENT = 2;

/** The server answered with an error where it must not. */
export class Refused extends Error {}

type Operation =
  | { readonly kind: "create" }
  | { readonly kind: "remove" }
  | { readonly kind: "truncate"; readonly size: number }
  | { readonly kind: "write"; readonly offset: number; readonly data: Buffer };

interface FileModel {
  /** Acknowledged as stable; null: there is no such file. */
  content: Buffer | null;
  /** Sent and not acknowledged, or not as stable: each may have happened. */
  pending: Operation[];
  /** Whether the pending writes are one stable operation, which is there whole or not at all. */
  whole: boolean;
}

/**
 * One client: works in files of its own, one call at a time, until its connection breaks or it is told to stop; remembers over restarts of the
 * server what was acknowledged, and compares.
 */
export class TortureClient {
  readonly #files = new Map<string, FileModel>();
  #serial = 0;
  /** Operations that were acknowledged as stable. */
  acknowledged = 0;

  constructor(
    private readonly port: number,
    private readonly name: string,
    private readonly random: Random,
  ) {}

  /** @throws Refused; a broken connection ends it without an error */
  async work(stopped: () => boolean): Promise<void> {
    const client = await NfsClient.connect(this.port);
    try {
      const { handle: root } = await client.mount("/data");
      while (!stopped()) await this.#step(client, root);
    } catch (error) {
      if (error instanceof Refused) throw error;
      // The server died, or took too long: what is pending stays so.
    } finally {
      await client.close();
    }
  }

  /** Everything that was acknowledged reads back; what was not is there or not. */
  async verify(): Promise<void> {
    const client = await NfsClient.connect(this.port);
    try {
      const { handle: root } = await client.mount("/data");
      for (const [name, file] of this.#files) {
        const found = await contentOf(client, root, name);
        const where = `${name} (pending: ${file.pending.map(({ kind }) => kind).join(" ") || "nothing"})`;
        assert.ok(allows(file, found), `${where} ${difference(file.content, found)}`);
        if (found === null) this.#files.delete(name);
        else this.#files.set(name, settled(found));
      }
    } finally {
      await client.close();
    }
  }

  async #step(client: NfsClient, root: Buffer): Promise<void> {
    const names = [...this.#files.keys()];
    const name = names[this.random.below(Math.max(1, names.length))];
    const choice = this.random.below(10);
    if (name === undefined || (choice < 2 && names.length < FILES_MAX)) await this.#create(client, root);
    else if (choice === 2) await this.#remove(client, root, name);
    else if (choice === 3) await this.#truncate(client, root, name);
    else if (choice < 7) await this.#writeStable(client, root, name);
    else await this.#writeAndCommit(client, root, name);
    this.acknowledged++;
  }

  async #create(client: NfsClient, root: Buffer): Promise<void> {
    const name = `${this.name}-${this.#serial++}`;
    this.#files.set(name, { content: null, pending: [{ kind: "create" }], whole: true });
    check("CREATE", (await client.create(root, name)).status);
    this.#files.set(name, settled(Buffer.alloc(0)));
  }

  async #remove(client: NfsClient, root: Buffer, name: string): Promise<void> {
    this.#file(name).pending = [{ kind: "remove" }];
    check("REMOVE", (await client.remove(root, name)).status);
    this.#files.delete(name);
  }

  async #truncate(client: NfsClient, root: Buffer, name: string): Promise<void> {
    const handle = await handleOf(client, root, name);
    const file = this.#file(name);
    const size = this.random.below((file.content?.length ?? 0) + 1);
    file.pending = [{ kind: "truncate", size }];
    check("SETATTR", (await client.setattr(handle, { size })).status);
    this.#settle(name);
  }

  async #writeStable(client: NfsClient, root: Buffer, name: string): Promise<void> {
    const handle = await handleOf(client, root, name);
    const write = this.#someWrite(name);
    const file = this.#file(name);
    file.pending = [write];
    file.whole = true;
    check("WRITE", (await client.write(handle, write.offset, write.data, 2)).status);
    this.#settle(name);
  }

  /** Unstable writes, stable with the COMMIT if the server did not restart in between. */
  async #writeAndCommit(client: NfsClient, root: Buffer, name: string): Promise<void> {
    const handle = await handleOf(client, root, name);
    const file = this.#file(name);
    file.whole = false;
    const verifiers = new Set<string>();
    for (let i = this.random.below(3); i >= 0; i--) {
      const write = this.#someWrite(name);
      file.pending.push(write);
      const { status, verifier } = await client.write(handle, write.offset, write.data, 0);
      check("WRITE", status);
      verifiers.add(verifier.toString("hex"));
    }
    const { status, verifier } = await client.commit(handle);
    check("COMMIT", status);
    assert.deepEqual([...verifiers], [verifier.toString("hex")], "the verifier changes only with a restart");
    this.#settle(name);
  }

  #someWrite(name: string): Operation & { kind: "write" } {
    const size = this.#file(name).content?.length ?? 0;
    const data = Buffer.alloc(1 + this.random.below(WRITE_BYTES_MAX));
    this.random.fill(data);
    return { kind: "write", offset: this.random.below(Math.min(size, FILE_BYTES_MAX) + 1), data };
  }

  #file(name: string): FileModel {
    const file = this.#files.get(name);
    assert.ok(file !== undefined, "a known file");
    return file;
  }

  #settle(name: string): void {
    const { content, pending } = this.#file(name);
    const now = pending.reduce(applied, content);
    assert.ok(now !== null, "the file is there");
    this.#files.set(name, settled(now));
  }
}

function check(what: string, status: number): void {
  if (status !== 0) throw new Refused(`${what} was answered with status ${status}`);
}

function settled(content: Buffer): FileModel {
  return { content, pending: [], whole: true };
}

async function handleOf(client: NfsClient, root: Buffer, name: string): Promise<Buffer> {
  const { status, handle } = await client.lookup(root, name);
  check(`LOOKUP of ${name}`, status);
  return handle;
}

async function contentOf(client: NfsClient, root: Buffer, name: string): Promise<Buffer | null> {
  const { status, handle } = await client.lookup(root, name);
  if (status === NOENT) return null;
  check(`LOOKUP of ${name}`, status);
  const { status: readStatus, data, eof } = await client.read(handle, 0, 2 * FILE_BYTES_MAX);
  check(`READ of ${name}`, readStatus);
  assert.ok(eof, `${name} is read to its end`);
  return data;
}

function applied(content: Buffer | null, operation: Operation): Buffer | null {
  const before = content ?? Buffer.alloc(0);
  if (operation.kind === "create") return before;
  if (operation.kind === "remove") return null;
  if (operation.kind === "truncate") return Buffer.from(before.subarray(0, operation.size));
  const after = Buffer.alloc(Math.max(before.length, operation.offset + operation.data.length));
  before.copy(after);
  operation.data.copy(after, operation.offset);
  return after;
}

/** Every state that some of the pending operations make, in their order. */
function candidates({ content, pending }: FileModel): (Buffer | null)[] {
  const states = [content];
  for (const operation of pending) states.push(...states.map((state) => applied(state, operation)));
  return states;
}

function same(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

/** Unstable writes may have happened for some blocks and not for others; anything else as a whole. */
function allows(file: FileModel, found: Buffer | null): boolean {
  const states = candidates(file);
  if (states.some((state) => same(state, found))) return true;
  if (file.whole || found === null) return false;
  if (!states.some((state) => state?.length === found.length)) return false;
  for (let at = 0; at < found.length; at += BLOCK) {
    const block = found.subarray(at, at + BLOCK);
    if (!states.some((state) => blockAt(state, at, block.length).equals(block))) return false;
  }
  return true;
}

function blockAt(state: Buffer | null, at: number, byteCount: number): Buffer {
  const block = Buffer.alloc(byteCount);
  state?.copy(block, 0, at, at + byteCount);
  return block;
}

function difference(expected: Buffer | null, found: Buffer | null): string {
  if (expected === null || found === null) return expected === null ? "is there and should not be" : "is gone";
  const at = expected.findIndex((byte, i) => byte !== found[i]);
  return `has ${found.length} bytes, ${expected.length} were acknowledged; the first other byte is ${at}`;
}
