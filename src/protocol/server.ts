import type { Clock } from "../lib/clock.js";
import { operatingError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { ExportTable } from "./exports.js";
import { HandleCodec } from "./handle.js";
import { DEFAULT_LIMITS, type ProtocolLimits } from "./limits.js";
import { MountList } from "./mount3/mount-list.js";
import { Mount3Program, type RefusedMount } from "./mount3/program.js";
import { Nfs3Program } from "./nfs3/program.js";
import { ScratchPool } from "./nfs3/scratch.js";
import { GrantSender } from "./nlm4/grant-sender.js";
import { Nlm4Program } from "./nlm4/program.js";
import { NsmProgram } from "./nsm/program.js";
import { PORTMAP_PROGRAM, PortmapProgram, type Service, type ServiceDirectory } from "./portmap/program.js";
import { RpcClient } from "./rpc/client.js";
import type { ConnectionState } from "./rpc/connection.js";
import type { DatagramStatistics } from "./rpc/datagram.js";
import { DualServer, type DualServerOptions, type Place } from "./rpc/dual-server.js";
import type { Peer } from "./rpc/peer.js";
import type { RpcProgram } from "./rpc/program.js";
import { MemoryReplyCache, type ReplyCache } from "./rpc/reply-cache.js";
import type { ProcedureStatistics } from "./rpc/statistics.js";
import { type ClientStatistics, ClientTable } from "./streams/client-table.js";
import type { Refusal } from "./streams/refusals.js";

export interface NfsServerOptions {
  readonly exports: ExportTable;
  readonly clock: Clock;
  readonly log: Logger;
  /** A stream was refused or ended for what it held; told now and then. */
  readonly onRefused?: (refusal: Refusal) => void;
  /** By default in memory. */
  readonly replyCache?: ReplyCache;
  readonly limits?: Partial<ProtocolLimits>;
  /**
   * Be the port mapper on this port too, at each address: a lock manager that looks for NLM asks port 111 and no other. Default: not.
   */
  readonly portmapPort?: number;
  /** Calls clients back that wait for a lock. By default over the network, by way of port 111 of the client. */
  readonly callback?: RpcClient;
  /** Our name in those calls. Default: "stripeward". */
  readonly hostName?: string;
  /** How UDP sockets are made; tests put their own in place. */
  readonly datagrams?: DualServerOptions["network"];
  readonly onMountRefused?: (refused: RefusedMount) => void;
  /** More programs on the same port. */
  readonly programs?: readonly RpcProgram[];
  /**
   * An error that is neither bad input nor one of the outside world (operatingError) reached a handler. It has been logged, and answered with
   * SERVERFAULT; whoever wants a failed assertion to end the process does it here.
   */
  readonly onUnexpected?: (error: unknown) => void;
}

export interface NfsStatistics {
  readonly procedures: readonly ProcedureStatistics[];
  readonly connections: number;
  readonly datagrams: DatagramStatistics;
  /** Bytes of requests that are not complete; those of `clients` hold them too. */
  readonly receivedBytes: number;
  readonly clients: ClientStatistics;
}

/** One for all servers of a node: a request may be repeated at another address. */
export function newReplyCache(clock: Clock, limits: ProtocolLimits = DEFAULT_LIMITS): ReplyCache {
  return new MemoryReplyCache(clock, {
    entriesMax: limits.replyCacheEntriesMax,
    bytesMax: limits.replyCacheBytesMax,
    ageMsMax: limits.replyCacheMsMax,
  });
}

const LISTEN_ATTEMPTS = 8;

/** NFSv3, MOUNT v3, NLM v4, NSM and the port mapper on one port: TCP, and for all but NFS UDP too. */
export class NfsServer {
  readonly #service: DualServer;
  /** The port mapper alone. */
  readonly #portmap: DualServer;
  readonly #portmapPort: number | null;
  readonly #grants: GrantSender;
  readonly #mounts: MountList;
  readonly #clients: ClientTable;
  /** Where it listens; the newest is the last. */
  #places: Place[] = [];

  constructor(options: NfsServerOptions) {
    const { exports, clock, log } = options;
    const onUnexpected = (error: unknown) => {
      if (operatingError(error) === null) options.onUnexpected?.(error);
    };
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const handles = new HandleCodec((id) => exports.findById(id), exports);
    const admits = (peer: Pick<Peer, "address" | "family">) => exports.knows(peer);
    this.#clients = new ClientTable({
      ...{ limits: limits.clients, clock, log, admits },
      ...(options.onRefused && { onRefused: options.onRefused }),
    });
    this.#mounts = new MountList({
      entriesMax: limits.mountListMax,
      entriesOfHostMax: limits.mountListOfHostMax,
      bytesMax: limits.mountListBytesMax,
    });
    const callback = options.callback ?? new RpcClient({ clock });
    this.#grants = new GrantSender({ client: callback, clock, log, serverName: options.hostName ?? "stripeward" });
    exports.watch({
      added: (fileSystem) => {
        this.#grants.watch(fileSystem);
        this.#clients.reconsider();
      },
      removed: (fileSystem) => this.#grants.unwatch(fileSystem),
    });
    const directory: ServiceDirectory = {
      services: () => this.services(),
      port: (address, program) => this.#portAt(address, program),
    };
    const programs = [
      new Nfs3Program({ exports, handles, scratch: new ScratchPool(), log, onUnexpected }),
      new Mount3Program({ exports, handles, mounts: this.#mounts, log, onRefused: options.onMountRefused }),
      new Nlm4Program({ exports, handles, grants: this.#grants, log, onUnexpected }),
      new NsmProgram({ exports, log }),
      new PortmapProgram(directory),
      ...(options.programs ?? []),
    ];
    const replyCache = options.replyCache ?? newReplyCache(clock, limits);
    const shared = {
      limits,
      clock,
      log,
      replyCache,
      onUnexpected,
      admits,
      network: options.datagrams,
      clients: this.#clients,
    };
    this.#service = new DualServer({ programs, ...shared });
    this.#portmap = new DualServer({ programs: [new PortmapProgram(directory)], ...shared });
    this.#portmapPort = options.portmapPort ?? null;
  }

  /**
   * On one more address, and the port mapper on its own port there. With port 0 the system chooses one for TCP, which somebody else may have
   * for UDP: then another one.
   * @throws the socket's error (EADDRINUSE, EACCES), and nothing more listens than before
   */
  async listen(place: Place): Promise<Place> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#listen(place);
      } catch (error) {
        if (place.port !== 0 || attempt === LISTEN_ATTEMPTS || this.#portmapPort !== null) throw error;
      }
    }
  }

  async #listen(place: Place): Promise<Place> {
    const bound = await this.#service.listen(place);
    try {
      const isFirst = !this.#places.some(({ host }) => host === bound.host);
      if (this.#portmapPort !== null && isFirst)
        await this.#portmap.listen({ host: bound.host, port: this.#portmapPort });
    } catch (error) {
      await this.#service.unlisten(bound, { drainMs: 0 });
      throw error;
    }
    this.#places.push(bound);
    return bound;
  }

  /** As close, on one address. */
  async unlisten(place: Place, options: { drainMs: number }): Promise<void> {
    this.#places = this.#places.filter(({ host, port }) => host !== place.host || port !== place.port);
    const port = this.#portmapPort;
    const isLast = !this.#places.some(({ host }) => host === place.host);
    const ended = this.#service.unlisten(place, options);
    if (port !== null && isLast) await this.#portmap.unlisten({ host: place.host, port }, { drainMs: 0 });
    await ended;
  }

  /** Stop accepting, let requests in flight finish for at most `drainMs`, close. */
  async close(options: { drainMs: number }): Promise<void> {
    this.#grants.close();
    await Promise.all([this.#portmap.close({ drainMs: 0 }), this.#service.close(options)]);
  }

  statistics(): NfsStatistics {
    const [service, portmap] = [this.#service.rpc.statistics(), this.#portmap.rpc.statistics()];
    return {
      procedures: service.procedures,
      connections: service.connections + portmap.connections,
      receivedBytes: service.receivedBytes + portmap.receivedBytes,
      datagrams: this.#service.datagramStatistics(),
      clients: this.#clients.statistics(),
    };
  }

  connections(): ConnectionState[] {
    return this.#service.rpc.connections();
  }

  /** Admitted clients over TCP, and when each was last heard (monotonic clock): who is connected, and the last that were. */
  clientsHeard(): Iterable<readonly [address: string, heardMs: number]> {
    return this.#clients.heard();
  }

  /** Who said that they mounted what. */
  mounts(): { readonly host: string; readonly path: string }[] {
    return this.#mounts.rows();
  }

  /** Every program and version that the port answers: what to register with rpcbind. */
  services(): Service[] {
    const all = this.#service.rpc.programs.entries().flatMap(({ versions }) => versions);
    return all.map(({ program, version }) => ({
      ...{ program: program.number, version, name: program.name },
      datagrams: program.datagrams === true,
    }));
  }

  /** Where a client that reached us at this address can call a program. The port mapper is where everybody looks for it, when it is there, too. */
  #portAt(address: string, program: number): number {
    if (program === PORTMAP_PROGRAM && this.#portmapPort !== null) return this.#portmapPort;
    const here = this.#places.filter(({ host }) => host === address);
    return (here.at(-1) ?? this.#places.at(-1))?.port ?? 0;
  }
}
