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
import { GrantSender } from "./nlm4/grant-sender.js";
import { Nlm4Program } from "./nlm4/program.js";
import { NsmProgram } from "./nsm/program.js";
import { PortmapProgram, type Service } from "./portmap/program.js";
import { RpcClient } from "./rpc/client.js";
import type { ConnectionState } from "./rpc/connection.js";
import { DatagramServer } from "./rpc/datagram.js";
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
  /** Calls clients back that wait for a lock. By default over the network, by way of port 111 of the client. */
  readonly callback?: RpcClient;
  /** Our name in those calls. Default: "stripeward". */
  readonly hostName?: string;
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

interface Place {
  readonly host: string;
  readonly port: number;
}

/** With port 0 the system chooses one for TCP, and somebody may have that number for UDP. */
const LISTEN_ATTEMPTS = 8;

/** NFSv3, MOUNT v3, NLM v4, NSM and the port mapper on one port: TCP, and for all but NFS UDP too. */
export class NfsServer {
  readonly #rpc: RpcServer;
  readonly #datagrams: DatagramServer;
  readonly #portmap: { readonly rpc: RpcServer; readonly datagrams: DatagramServer };
  readonly #grants: GrantSender;
  readonly #mounts: MountList;
  #port = 0;

  constructor(options: NfsServerOptions) {
    const { exports, clock, log, onUnexpected = () => {} } = options;
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const handles = new HandleCodec((id) => exports.findById(id));
    const readBuffers = options.readBuffers ?? new PlainReadBuffers(limits.readBufferBytesMax);
    this.#mounts = new MountList(limits.mountListMax);
    const callback = options.callback ?? new RpcClient({ clock });
    this.#grants = new GrantSender({ client: callback, clock, log, serverName: options.hostName ?? "stripeward" });
    exports.watch({
      added: (fileSystem) => this.#grants.watch(fileSystem),
      removed: (fileSystem) => this.#grants.unwatch(fileSystem),
    });
    const portmap = () => new PortmapProgram({ services: () => this.services(), port: () => this.#port });
    const programs = [
      new Nfs3Program({ exports, handles, readBuffers, scratch: new ScratchPool(), log, onUnexpected }),
      new Mount3Program({ exports, handles, mounts: this.#mounts, log }),
      new Nlm4Program({ exports, handles, grants: this.#grants, log, onUnexpected }),
      new NsmProgram({ exports, log }),
      portmap(),
      ...(options.programs ?? []),
    ];
    const replyCache = options.replyCache ?? newReplyCache(clock, limits);
    const shared = { limits, clock, log, replyCache, onUnexpected };
    const both = (served: readonly RpcProgram[]) => {
      const rpc = new RpcServer({ programs: served, ...shared });
      return { rpc, datagrams: new DatagramServer({ programs: rpc.programs, ...shared }) };
    };
    const { rpc, datagrams } = both(programs);
    this.#rpc = rpc;
    this.#datagrams = datagrams;
    this.#portmap = both([portmap()]);
  }

  /** @throws the socket's error (EADDRINUSE, EACCES) */
  async listen(place: Place): Promise<Place> {
    for (let attempt = 1; ; attempt++) {
      try {
        const bound = await listenOnBoth(this.#rpc, this.#datagrams, place);
        this.#port = bound.port;
        return bound;
      } catch (error) {
        if (place.port !== 0 || attempt === LISTEN_ATTEMPTS) throw error;
      }
    }
  }

  /**
   * Answer the port mapper's calls on a port of its own too: a lock manager that looks for NLM asks port 111 and no other.
   * @throws the socket's error (EADDRINUSE: an rpcbind runs, EACCES: the port is privileged)
   */
  listenAsPortmap(place: Place): Promise<Place> {
    return listenOnBoth(this.#portmap.rpc, this.#portmap.datagrams, place);
  }

  /** Stop accepting, let requests in flight finish for at most `drainMs`, close. */
  async close(options: { drainMs: number }): Promise<void> {
    const { rpc, datagrams } = this.#portmap;
    this.#grants.close();
    await Promise.all([
      this.#datagrams.close(),
      datagrams.close(),
      rpc.close({ drainMs: 0 }),
      this.#rpc.close(options),
    ]);
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
    return all.map(({ program, version }) => ({
      ...{ program: program.number, version, name: program.name },
      datagrams: program.datagrams === true,
    }));
  }
}

/** One port number for both. @throws the socket's error, and nothing listens then */
async function listenOnBoth(rpc: RpcServer, datagrams: DatagramServer, place: Place): Promise<Place> {
  const bound = await rpc.listen(place);
  try {
    await datagrams.listen({ host: place.host, port: bound.port });
    return bound;
  } catch (error) {
    await rpc.close({ drainMs: 0 });
    throw error;
  }
}
