import type { Clock } from "../../lib/clock.js";
import type { Logger } from "../../lib/log.js";
import { ByteLedger, type ByteShare, type LedgerBounds } from "./byte-ledger.js";
import { type Refusal, type RefusalKind, Refusals } from "./refusals.js";

/** Of so many clients that are connected no more it is known when they were heard. */
const LATELY_MAX = 64;

/** Who is at the other end, as far as the table cares. */
export interface StreamPeer {
  readonly address: string;
  readonly family: "ipv4" | "ipv6";
}

/** A connection, whatever is spoken on it. */
export interface Stream {
  /** A request or a reply is under way. */
  readonly busy: boolean;
  /** When it last sent something; clock of the table. */
  readonly heardMs: number;
  /** A share of its client is used up: it reads nothing more of what it has not begun, before anything is there to be read. */
  holdBack(): void;
  destroy(): void;
}

/** Every maximum over all streams, with its reason in protocol/limits.ts. */
export interface ClientLimits {
  readonly connectionsMax: number;
  readonly connectionsPerAddressMax: number;
  readonly strangersMax: number;
  readonly strangersPerAddressMax: number;
  /** What is held for a stranger's requests, and for its replies. */
  readonly strangerBytesMax: number;
  readonly requests: LedgerBounds;
  readonly replies: LedgerBounds;
}

export interface ClientTableOptions {
  readonly limits: ClientLimits;
  readonly clock: Clock;
  readonly log: Logger;
  /** Whether anything is exported to the address. All others are strangers. */
  readonly admits: (peer: StreamPeer) => boolean;
  /** Told now and then, for people. */
  readonly onRefused?: (refusal: Refusal) => void;
}

export interface ClientStatistics {
  /** Connections of admitted clients, and of strangers. */
  readonly admitted: number;
  readonly strangers: number;
  /** Different addresses that are connected. */
  readonly addresses: number;
  /** Held for requests and for replies. */
  readonly requestBytes: number;
  readonly replyBytes: number;
  readonly refusals: Readonly<Record<RefusalKind, number>>;
}

/** One source address: what all its streams hold together. */
export class Client {
  admitted = false;
  readonly streams = new Set<Stream>();
  readonly requests: ByteShare;
  readonly replies: ByteShare;
  #holdingBack = false;

  constructor(
    readonly peer: StreamPeer,
    readonly table: ClientTable,
  ) {
    const { strangerBytesMax } = table.limits;
    this.requests = table.requests.share(strangerBytesMax);
    this.replies = table.replies.share(strangerBytesMax);
  }

  get address(): string {
    return this.peer.address;
  }

  /** From here on it counts as a client, until its last stream has ended: what an export that is being moved takes away comes back. */
  admit(): void {
    this.admitted = true;
    this.requests.bytesMax = Number.POSITIVE_INFINITY;
    this.replies.bytesMax = Number.POSITIVE_INFINITY;
  }

  refuse(kind: RefusalKind): void {
    this.table.refusals.note(kind, this.address);
  }

  /**
   * What has come in at a socket is counted, whether there is room or not. So whoever finds a share used up has all streams of the address wait with it:
   * each of hundreds would take a buffer full otherwise before it sees that.
   */
  holdBack(): void {
    if (this.#holdingBack) return;
    this.#holdingBack = true;
    for (const stream of this.streams) stream.holdBack();
    this.#holdingBack = false;
  }

  /** Nothing depends on it any more. */
  get gone(): boolean {
    const { streams, requests, replies } = this;
    return streams.size + requests.held + replies.held + requests.waitingCount + replies.waitingCount === 0;
  }
}

/**
 * Who is connected over all servers of a node, and what they hold: two ledgers, requests (received and being worked on) and replies (lent until
 * the kernel has taken them), with a share for each source address. It knows no protocol.
 *
 * Places: a stranger has few, and when they are taken the one that was heard longest ago leaves (as svc_xprt of the Linux server does it). An admitted
 * client always gets one: strangers leave for it, then what is idle longest at the address that has most.
 */
export class ClientTable {
  readonly requests: ByteLedger;
  readonly replies: ByteLedger;
  readonly refusals: Refusals;
  readonly limits: ClientLimits;
  readonly #clients = new Map<string, Client>();
  /** Admitted clients whose last stream has ended, and when they were heard; the one that ended last is last. */
  readonly #lately = new Map<string, number>();

  constructor(private readonly options: ClientTableOptions) {
    const { limits, clock, log, onRefused = () => {} } = options;
    this.limits = limits;
    this.requests = new ByteLedger(limits.requests);
    this.replies = new ByteLedger(limits.replies);
    this.refusals = new Refusals(clock, log, onRefused);
  }

  /**
   * A stream has come. Others may be destroyed to make room.
   * @returns whose it is: `enter` and `leave` follow. null: refused
   */
  welcome(peer: StreamPeer): Client | null {
    const client = this.#clients.get(peer.address) ?? new Client(peer, this);
    if (!client.admitted && this.options.admits(peer)) client.admit();
    const admitted = client.admitted ? this.#placeForClient(client) : this.#placeForStranger(client);
    if (!admitted) return null;
    this.#clients.set(peer.address, client);
    return client;
  }

  enter(client: Client, stream: Stream): void {
    client.streams.add(stream);
  }

  leave(client: Client, stream: Stream): void {
    client.streams.delete(stream);
    if (client.admitted && client.streams.size === 0) this.#noteHeard(client.address, stream.heardMs);
    this.#forget(client);
  }

  /** Admitted clients, and when each was last heard: those that are connected, and the last that were. */
  *heard(): Generator<readonly [address: string, heardMs: number]> {
    yield* this.#lately;
    for (const { address, admitted, streams } of this.#clients.values()) {
      if (admitted && streams.size > 0) yield [address, Math.max(...[...streams].map(({ heardMs }) => heardMs))];
    }
  }

  /** Exports have changed: strangers may be none any more. */
  reconsider(): void {
    for (const client of this.#clients.values()) {
      if (!client.admitted && this.options.admits(client.peer)) client.admit();
    }
  }

  /** Called now and then: addresses that held something when their last stream ended. */
  sweep(): void {
    for (const client of this.#clients.values()) this.#forget(client);
  }

  statistics(): ClientStatistics {
    return {
      admitted: this.#count(true),
      strangers: this.#count(false),
      addresses: [...this.#clients.values()].filter(({ streams }) => streams.size > 0).length,
      requestBytes: this.requests.used,
      replyBytes: this.replies.used,
      refusals: { ...this.refusals.counts },
    };
  }

  #noteHeard(address: string, heardMs: number): void {
    this.#lately.delete(address);
    this.#lately.set(address, heardMs);
    const [oldest] = this.#lately.keys();
    if (this.#lately.size > LATELY_MAX && oldest !== undefined) this.#lately.delete(oldest);
  }

  #forget(client: Client): void {
    // Another one may have the address by now.
    if (client.gone && this.#clients.get(client.address) === client) this.#clients.delete(client.address);
  }

  #count(admitted: boolean): number {
    let count = 0;
    for (const client of this.#clients.values()) if (client.admitted === admitted) count += client.streams.size;
    return count;
  }

  #placeForStranger(client: Client): boolean {
    const { strangersMax, strangersPerAddressMax, connectionsMax } = this.limits;
    if (client.streams.size >= strangersPerAddressMax) return this.#end([client], "strangers", false);
    const strangers = this.#count(false);
    if (strangers >= strangersMax) return this.#end(this.#strangers(), "strangers", false);
    // Strangers make room for clients, not the other way round.
    if (strangers + this.#count(true) < connectionsMax) return true;
    if (strangers > 0) return this.#end(this.#strangers(), "strangers", false);
    client.refuse("strangers");
    return false;
  }

  #placeForClient(client: Client): boolean {
    const { connectionsMax, connectionsPerAddressMax } = this.limits;
    if (client.streams.size >= connectionsPerAddressMax) {
      if (this.#end([client], "idle", true)) return true;
      client.refuse("connections");
      return false;
    }
    if (this.#count(true) + this.#count(false) < connectionsMax) return true;
    if (this.#end(this.#strangers(), "strangers", false)) return true;
    const most = Math.max(...[...this.#clients.values()].map(({ streams }) => streams.size));
    // An address that has fewer always gets in; others take turns with what is idle.
    return this.#end(this.#withStreams(most), "idle", client.streams.size + 1 >= most && client.streams.size > 0);
  }

  #strangers(): Client[] {
    return [...this.#clients.values()].filter(({ admitted, streams }) => !admitted && streams.size > 0);
  }

  #withStreams(count: number): Client[] {
    return [...this.#clients.values()].filter(({ streams }) => streams.size === count);
  }

  /**
   * End one stream of these, the one that was heard longest ago; of those that are not busy if there are such.
   * @returns false when there is none, or with `onlyIdle` all are busy
   */
  #end(clients: readonly Client[], kind: RefusalKind, onlyIdle: boolean): boolean {
    let chosen: { client: Client; stream: Stream } | null = null;
    for (const client of clients) {
      for (const stream of client.streams) {
        if (onlyIdle && stream.busy) continue;
        if (chosen === null || leavesBefore(stream, chosen.stream)) chosen = { client, stream };
      }
    }
    if (chosen === null) return false;
    const { client, stream } = chosen;
    client.refuse(kind);
    // At once: its place is taken before its socket says that it is closed.
    client.streams.delete(stream);
    stream.destroy();
    return true;
  }
}

function leavesBefore(a: Stream, b: Stream): boolean {
  return a.busy === b.busy ? a.heardMs < b.heardMs : b.busy;
}
