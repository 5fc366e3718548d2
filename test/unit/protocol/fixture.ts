import type { TestContext } from "node:test";
import { SystemClock } from "../../../src/lib/clock.js";
import type { Logger } from "../../../src/lib/log.js";
import { type ExportRule, ExportTable } from "../../../src/protocol/exports.js";
import { DEFAULT_LIMITS, type ProtocolLimits } from "../../../src/protocol/limits.js";
import { NfsServer, type NfsServerOptions } from "../../../src/protocol/server.js";
import { MemoryFileSystem } from "../../support/memory-fs.js";
import { NfsClient } from "../../support/nfs-client.js";

export const RW: ExportRule = {
  clients: "*",
  access: "rw",
  squash: "none",
  anonUid: 65534,
  anonGid: 65534,
  secure: false,
};

/** Keeps what the server says, so that a test can see that it said nothing. */
export class LogRecorder implements Logger {
  readonly errors: object[] = [];
  error(fields: object, what: string): void {
    this.errors.push({ ...fields, what });
  }
  warn(): void {}
  info(): void {}
  debug(): void {}
}

export interface Rig {
  readonly fs: MemoryFileSystem;
  readonly exports: ExportTable;
  readonly server: NfsServer;
  readonly log: LogRecorder;
  readonly port: number;
  readonly client: NfsClient;
  /** Handle of the root of /data. */
  readonly root: Buffer;
  /** @param from  the address of the client, in 127.0.0.0/8 */
  connect(from?: string): Promise<NfsClient>;
}

/** A server with the export /data over a file system in memory, and a client as root. All of it ends with the test. */
export async function openRig(t: TestContext, options: Partial<NfsServerOptions> = {}): Promise<Rig> {
  const fs = new MemoryFileSystem();
  const exports = new ExportTable();
  exports.add({ path: "/data", fileSystem: fs, rules: [RW] });
  const log = new LogRecorder();
  const server = new NfsServer({ exports, clock: new SystemClock(), log, ...options });
  const { port } = await server.listen({ host: "127.0.0.1", port: 0 });
  const clients: NfsClient[] = [];
  t.after(async () => {
    for (const client of clients) await client.close();
    await server.close({ drainMs: 200 });
  });
  const connect = async (from?: string) => {
    const client = await NfsClient.connect(port, "127.0.0.1", from);
    clients.push(client);
    return client;
  };
  const client = await connect();
  const { handle: root } = await client.mount("/data");
  return { fs, exports, server, log, port, client, root, connect };
}

export function pattern(byteCount: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(byteCount);
  for (let i = 0; i < byteCount; i++) bytes[i] = (i * 31 + (i >> 8) * 7 + seed) & 0xff;
  return bytes;
}

/** The usual limits, but for some of those that count over all connections. */
export function clientLimits(change: Partial<ProtocolLimits["clients"]>): Partial<ProtocolLimits> {
  return { clients: { ...DEFAULT_LIMITS.clients, ...change } };
}

/** Resolves when it is so; a test that waits for ever fails by its time limit. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
}
