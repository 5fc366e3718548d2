import type { Clock } from "../lib/clock.js";
import type { Logger } from "../lib/log.js";
import type { ExportTable } from "./exports.js";
import { HandleCodec } from "./handle.js";
import { DEFAULT_LIMITS, type ProtocolLimits } from "./limits.js";
import { type MountEntry, MountList } from "./mount3/mount-list.js";
import { Mount3Program } from "./mount3/program.js";
import { Nfs3Program } from "./nfs3/program.js";
import { PlainReadBuffers, type ReadBuffers } from "./nfs3/read-buffers.js";
import { ScratchPool } from "./nfs3/scratch.js";
import { PortmapProgram, type Service } from "./portmap/program.js";
import type { ConnectionState } from "./rpc/connection.js";
import type { RpcProgram } from "./rpc/program.js";
import { MemoryReplyCache, type ReplyCache } from "./rpc/reply-cache.js";
import { RpcServer } from "./rpc/server.js";
import type { ProcedureStatistics } from "./rpc/statistics.js";

export interface NfsServerOptions {
  readonly exports: ExportTable;
  readonly clock: Clock;
  readonly log: Logger;
  /** Where large READ replies lie; by default plain buffers. */
  readonly readBuffers?: ReadBuffers;
  /** By default in memory. */
  readonly replyCache?: ReplyCache;
  readonly limits?: Partial<ProtocolLimits>;
  /** More programs on the same port. */
  readonly programs?: readonly RpcProgram[];
  /**
   * An error that is neither bad input nor a StorageError reached a handler. It has been logged, and answered with SERVERFAULT; whoever
   * wants a failed assertion to end the process does it here.
   */
  readonly onUnexpected?: (error: unknown) => void;
}

export interface NfsStatistics {
  readonly procedures: readonly ProcedureStatistics[];
  readonly connections: number;
  readonly refusedConnections: number;
}

/** One for all servers of a node: a request may be repeated at another address. */
export function newReplyCache(clock: Clock, limits: ProtocolLimits = DEFAULT_LIMITS): ReplyCache {
  return new MemoryReplyCache(clock, {
    entriesMax: limits.replyCacheEntriesMax,
    bytesMax: limits.replyCacheBytesMax,
    ageMsMax: limits.replyCacheMsMax,
  });
}

/** NFSv3, MOUNT v3 and the port mapper on one TCP port. */
export class NfsServer {
  readonly #rpc: RpcServer;
  readonly #mounts: MountList;
  #port = 0;

  constructor(options: NfsServerOptions) {
    const { exports, clock, log, onUnexpected = () => {} } = options;
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const handles = new HandleCodec((id) => exports.findById(id));
    const readBuffers = options.readBuffers ?? new PlainReadBuffers(limits.readBufferBytesMax);
    this.#mounts = new MountList(limits.mountListMax);
    const programs = [
      new Nfs3Program({ exports, handles, readBuffers, scratch: new ScratchPool(), log, onUnexpected }),
      new Mount3Program({ exports, handles, mounts: this.#mounts, log }),
      new PortmapProgram({ services: () => this.services(), port: () => this.#port }),
      ...(options.programs ?? []),
    ];
    const replyCache = options.replyCache ?? newReplyCache(clock, limits);
    this.#rpc = new RpcServer({ programs, limits, clock, log, replyCache, onUnexpected });
  }

  /** On one more address. @throws the socket's error (EADDRINUSE, EACCES) */
  async listen(place: { host: string; port: number }): Promise<{ host: string; port: number }> {
    const bound = await this.#rpc.listen(place);
    this.#port = bound.port;
    return bound;
  }

  /** As close, on one address. */
  unlisten(place: { host: string; port: number }, options: { drainMs: number }): Promise<void> {
    return this.#rpc.unlisten(place, options);
  }

  /** Stop accepting, let requests in flight finish for at most `drainMs`, close. */
  close(options: { drainMs: number }): Promise<void> {
    return this.#rpc.close(options);
  }

  statistics(): NfsStatistics {
    return this.#rpc.statistics();
  }

  connections(): ConnectionState[] {
    return this.#rpc.connections();
  }

  /** Who said that they mounted what. */
  mounts(): MountEntry[] {
    return this.#mounts.list();
  }

  /** Every program and version that the port answers: what to register with rpcbind. */
  services(): Service[] {
    const all = this.#rpc.programs.entries().flatMap(({ versions }) => versions);
    return all.map(({ program, version }) => ({ program: program.number, version, name: program.name }));
  }
}
