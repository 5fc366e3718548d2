import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { Clock } from "../../lib/clock.js";
import type { Logger } from "../../lib/log.js";
import { KIB, MIB } from "../../lib/units.js";
import type { ProtocolLimits } from "../limits.js";
import { ClientTable } from "../streams/client-table.js";
import { XdrReader } from "../xdr/reader.js";
import { BufferPool, OUTPUT_CHUNK_BYTES } from "./buffer-pool.js";
import { Connection, type ConnectionServices, type ConnectionState } from "./connection.js";
import { peerOf } from "./peer.js";
import type { RpcProgram } from "./program.js";
import { ProgramTable } from "./program-table.js";
import type { ReplyCache } from "./reply-cache.js";
import type { ProcedureStatistics } from "./statistics.js";
import { Turns } from "./turns.js";

/** Small record, output chunk, the first step of a large record, the largest record. */
const POOL_CLASSES = [4 * KIB, OUTPUT_CHUNK_BYTES, 320 * KIB, 1 * MIB + 64 * KIB];

export interface RpcServerOptions {
  readonly programs: readonly RpcProgram[];
  readonly limits: ProtocolLimits;
  readonly clock: Clock;
  readonly log: Logger;
  readonly replyCache: ReplyCache;
  /** Of the node: all its servers share places and memory. Default: a table of its own, which admits everybody. */
  readonly clients?: ClientTable;
  /** An error that is neither bad input nor a StorageError; it has been logged and answered. */
  readonly onUnexpected?: (error: unknown) => void;
}

interface Listener {
  readonly server: Server;
  readonly connections: Set<Connection>;
}

function keyOf({ host, port }: { host: string; port: number }): string {
  return `${host} ${port}`;
}

/** Serves RPC programs over TCP, all of them on each address. */
export class RpcServer {
  readonly #connections = new Set<Connection>();
  readonly #services: ConnectionServices;
  readonly #dirty: Connection[] = [];
  readonly #clients: ClientTable;
  /** By address. */
  readonly #listeners = new Map<string, Listener>();
  #cancelSweep: () => void = () => {};

  constructor(private readonly options: RpcServerOptions) {
    const { limits, clock, log, replyCache } = options;
    const clients = options.clients ?? new ClientTable({ limits: limits.clients, clock, log, admits: () => true });
    this.#clients = clients;
    this.#services = {
      limits,
      clock,
      log,
      replyCache,
      turns: new Turns(),
      pool: new BufferPool(POOL_CLASSES, limits.clients.requests.bytesMax),
      reader: new XdrReader(),
      programs: new ProgramTable(options.programs),
      scheduleFlush: (connection) => this.#scheduleFlush(connection),
      onUnexpected: options.onUnexpected ?? (() => {}),
      onClosed: (connection) => {
        this.#connections.delete(connection);
        clients.leave(connection.client, connection);
        connection.siblings.delete(connection);
      },
    };
  }

  get programs(): ProgramTable {
    return this.#services.programs;
  }

  /** On one more address. @throws the socket's error (address in use, no permission) */
  listen(place: { host: string; port: number }): Promise<{ host: string; port: number }> {
    const connections = new Set<Connection>();
    const server = createServer({ noDelay: true, allowHalfOpen: true, pauseOnConnect: true }, (socket) =>
      this.#accept(socket, server, connections),
    );
    if (this.#listeners.size === 0) this.#sweepLater();
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host: place.host, port: place.port, backlog: 512 }, () => {
        server.off("error", reject);
        server.on("error", (error) => this.options.log.error({ error: error.message }, "rpc: listener"));
        const { address, port } = server.address() as AddressInfo;
        this.#listeners.set(keyOf({ host: address, port }), { server, connections });
        resolve({ host: address, port });
      });
    });
  }

  /** Stop accepting on one address, let the requests that came in there finish for at most `drainMs`, close its connections. */
  async unlisten(place: { host: string; port: number }, { drainMs }: { drainMs: number }): Promise<void> {
    const key = keyOf(place);
    const listener = this.#listeners.get(key);
    if (listener === undefined) return;
    this.#listeners.delete(key);
    if (this.#listeners.size === 0) this.#cancelSweep();
    const { server, connections } = listener;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    // Without time to answer, nothing is answered from this moment on.
    for (const connection of connections) {
      if (drainMs === 0) connection.destroy();
      else connection.drain();
    }
    const cancel = this.options.clock.after(drainMs, () => {
      for (const connection of connections) connection.destroy();
    });
    await closed;
    cancel();
  }

  /** All addresses. */
  async close(options: { drainMs: number }): Promise<void> {
    const places = [...this.#listeners.values()].map(({ server }) => server.address() as AddressInfo);
    await Promise.all(places.map(({ address, port }) => this.unlisten({ host: address, port }, options)));
  }

  connections(): ConnectionState[] {
    return [...this.#connections].map((connection) => connection.state);
  }

  statistics(): { procedures: ProcedureStatistics[]; connections: number; receivedBytes: number } {
    let receivedBytes = 0;
    for (const connection of this.#connections) receivedBytes += connection.receivedBytes;
    return {
      procedures: this.#services.programs.statistics(),
      connections: this.#connections.size,
      receivedBytes,
    };
  }

  #accept(socket: Socket, server: Server, ofListener: Set<Connection>): void {
    // Without an address it was reset before it was taken: there is nobody to answer, and nobody to judge.
    const isGone = socket.remoteAddress === undefined;
    const peer = peerOf(socket);
    const client = isGone || !server.listening ? null : this.#clients.welcome(peer);
    if (client === null) {
      socket.on("error", () => {});
      socket.destroy();
      return;
    }
    socket.setKeepAlive(true, this.options.limits.keepAliveMs);
    const connection = new Connection(this.#services, socket, peer, client, ofListener);
    this.#clients.enter(client, connection);
    this.#connections.add(connection);
    ofListener.add(connection);
  }

  /**
   * Behind everything that this turn of the event loop finishes: the replies of a group commit, and of all reads whose data came, leave in
   * one write for each connection. (A tick would run after each single read: as many writes as replies.)
   */
  #scheduleFlush(connection: Connection): void {
    if (this.#dirty.push(connection) === 1) setImmediate(this.#flushDirty);
  }

  readonly #flushDirty = (): void => {
    for (const connection of this.#dirty.splice(0)) connection.flush();
  };

  #sweepLater(): void {
    const { clock, limits } = this.options;
    this.#cancelSweep = clock.after(limits.sweepMs, () => {
      const nowMs = clock.monotonicMs();
      for (const connection of this.#connections) connection.sweep(nowMs);
      this.#clients.sweep();
      this.#sweepLater();
    });
  }
}
