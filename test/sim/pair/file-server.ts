import type { MountedFileSystem } from "../../../src/fs/file-system.js";
import { type Attributes, type FileId, type KeptReply, ROOT_CREDENTIALS } from "../../../src/fs/vfs.js";
import { StorageError } from "../../../src/lib/errors.js";
import type { MemoryReplyCache } from "../../../src/protocol/rpc/reply-cache.js";
import type { Call, State } from "./client-model.js";

const CRED = ROOT_CREDENTIALS;
/** As protocol/nfs3/program.ts: what may go better the next time is not kept. */
const TRANSIENT: ReadonlySet<string> = new Set(["EIO", "EBUSY", "ENOSPC"]);

type Kept = (result: unknown) => KeptReply;

export function directoryName(client: number): Buffer {
  return Buffer.from(`client${client}`);
}

function idOf({ ino, generation }: Attributes): FileId {
  return { ino, generation };
}

/** Answers calls over a mounted file system, each exactly once, in the way of the protocol (protocol/nfs3/call.ts, rpc/connection.ts). */
export class FileServer {
  inProgress = 0;

  constructor(
    private readonly fs: MountedFileSystem,
    private readonly cache: MemoryReplyCache,
  ) {}

  serve(call: Call, answer: (reply: Buffer) => void): void {
    const key = `client${call.client} ${call.xid} ${call.kind}`;
    if (call.kind === "read") {
      void this.#read(call).then(answer);
      return;
    }
    const known = this.cache.begin(key, answer);
    if (known === "waiting") return;
    if (known !== "new") {
      answer(known);
      return;
    }
    this.inProgress++;
    void this.#change(call, key)
      .then(answer)
      .finally(() => this.inProgress--);
  }

  async #change(call: Call, key: string): Promise<Buffer> {
    let reply: Buffer | null = null;
    const kept: Kept = (result) => {
      reply = encode("OK", result);
      return { key, reply };
    };
    try {
      const result = await this.#do(call, kept);
      const answer = reply ?? encode("OK", result);
      this.cache.complete(key, answer);
      return answer;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      return this.#refuse(key, error);
    }
  }

  #refuse(key: string, error: StorageError): Buffer {
    const answer = encode(error.code, error.message);
    if (TRANSIENT.has(error.code)) this.cache.abandon(key, answer);
    else {
      this.cache.complete(key, answer);
      this.fs.keepReply({ key, reply: answer });
    }
    return answer;
  }

  #do(call: Call, kept: Kept): Promise<unknown> | unknown {
    const { fs } = this;
    const directory = this.directory(call.client);
    const [name, to] = [Buffer.from(call.name), Buffer.from(call.to)];
    switch (call.kind) {
      case "create":
        return fs.create(CRED, directory, name, { mode: "guarded", attributes: { mode: 0o644 } }, kept);
      case "mkdir":
        return fs.mkdir(CRED, directory, name, {}, kept);
      case "remove":
        return fs.remove(CRED, directory, name, kept);
      case "rmdir":
        return fs.rmdir(CRED, directory, name, kept);
      case "rename":
        return fs.rename(CRED, directory, name, directory, to, kept);
      case "link":
        return fs.link(CRED, this.#lookup(directory, name), directory, to, kept);
      case "write":
        return fs.write(CRED, this.#lookup(directory, name), 0, call.data, "stable", kept);
      case "read":
        throw new Error("a read changes nothing");
    }
  }

  directory(client: number): FileId {
    return this.#lookup(this.fs.root, directoryName(client));
  }

  #lookup(directory: FileId, name: Buffer): FileId {
    return idOf(this.fs.lookup(CRED, directory, name));
  }

  async #read(call: Call): Promise<Buffer> {
    try {
      const id = this.#lookup(this.directory(call.client), Buffer.from(call.name));
      return encode("OK", (await this.content(id)).toString("latin1"));
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      return encode(error.code, error.message);
    }
  }

  async content(id: FileId): Promise<Buffer> {
    const target = Buffer.alloc(this.fs.getattr(id).sizeBytes);
    const { count } = await this.fs.read(CRED, id, 0, target);
    return target.subarray(0, count);
  }

  /** Whether a client's directory is as the model says, but for contents. */
  agrees(client: number, state: State): boolean {
    const directory = this.directory(client);
    const { entries } = this.fs.readdir(CRED, directory, 0, 1000, true);
    const found = entries.filter(({ name }) => name.toString() !== "." && name.toString() !== "..");
    if (found.length !== state.size) return false;
    return found.every(({ name, attributes }) => {
      const entry = state.get(name.toString());
      if (entry === undefined || attributes === undefined) return false;
      if (entry.kind === "directory") return attributes.kind === 2;
      const names = [...state.values()].filter((other) => other.kind === "file" && other.file === entry.file).length;
      return attributes.kind === 1 && attributes.nlink === names && attributes.sizeBytes === entry.file.content.length;
    });
  }

  async contentsAgree(client: number, state: State): Promise<boolean> {
    for (const [name, entry] of state) {
      if (entry.kind !== "file") continue;
      const found = await this.content(this.#lookup(this.directory(client), Buffer.from(name)));
      if (!found.equals(entry.file.content)) return false;
    }
    return true;
  }

  names(client: number): string {
    const { entries } = this.fs.readdir(CRED, this.directory(client), 0, 1000, true);
    return entries.map(({ name, attributes }) => `${name}:${attributes?.nlink}:${attributes?.sizeBytes}`).join(" ");
  }
}

/** With attributes and times: two answers of one request are equal byte for byte only if one was kept. */
function encode(status: string, result: unknown): Buffer {
  return Buffer.from(JSON.stringify([status, result], (_, value) => (typeof value === "bigint" ? `${value}` : value)));
}

export function statusOf(reply: Buffer): string {
  return (JSON.parse(reply.toString()) as [string, unknown])[0];
}

export function readResult(reply: Buffer): Buffer {
  return Buffer.from((JSON.parse(reply.toString()) as [string, string])[1], "latin1");
}
