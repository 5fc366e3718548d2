import { createSocket, type RemoteInfo, type Socket, type SocketType } from "node:dgram";
import { isIPv6 } from "node:net";
import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import type { CancelTimer, Clock } from "../../lib/clock.js";
import { messageOf, operatingError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import { Seldom } from "../../lib/seldom.js";

export interface DatagramPlace {
  readonly host: string;
  readonly port: number;
}

/** Where a datagram came from and how it is answered: from the address that it was sent to. */
export interface DatagramSource {
  readonly from: RemoteInfo;
  /** Our own end. */
  readonly local: string;
  /** Never throws; what cannot be sent is counted. */
  send(message: Buffer): void;
}

export interface DatagramSocketsParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly onMessage: (message: Buffer, source: DatagramSource) => void;
  /** As os.networkInterfaces(). */
  readonly interfaces?: (() => Readonly<Record<string, NetworkInterfaceInfo[] | undefined>>) | undefined;
  readonly openSocket?: ((type: SocketType) => Socket) | undefined;
}

/** An address that comes is served over UDP so much later at most. */
const LOOK_MS = 2_000;
/** A host of many containers has hundreds of addresses; clients call at a few. */
const ADDRESSES_MAX = 256;
const TROUBLE = { everyMs: 60_000, subjectsMax: 16 };

const ANY_IPV4 = "0.0.0.0";
const ANY = "::";

interface Bound {
  readonly host: string;
  readonly port: number;
  /** By our own address, with its zone. */
  readonly sockets: Map<string, Socket>;
}

/**
 * The UDP sockets of a server. Node tells neither which of our addresses a datagram was sent to, nor lets us choose the one that the answer comes from
 * (IP_PKTINFO), and a client takes no answer from elsewhere: so "any address" is one socket for each address of this machine, looked through every
 * other second. What is not served over UDP this way: an address that is not configured on an interface, though the kernel would take it (all of
 * 127/8 but 127.0.0.1, AnyIP routes), and broadcasts.
 */
export class DatagramSockets {
  readonly #bound = new Map<string, Bound>();
  readonly #seldom: Seldom;
  #cancelLook: CancelTimer | null = null;
  /** Answers that the system did not take. */
  unsent = 0;

  constructor(private readonly parts: DatagramSocketsParts) {
    this.#seldom = new Seldom(parts.clock, TROUBLE);
  }

  /** @throws the socket's error (EADDRINUSE, EACCES), and nothing more listens than before */
  async listen(place: DatagramPlace): Promise<DatagramPlace> {
    const sockets = new Map<string, Socket>();
    const bound = isAny(place.host) ? await this.#bindAll(place, sockets) : await this.#bindOne(place, sockets);
    this.#bound.set(keyOf(bound), { ...bound, sockets });
    if (isAny(bound.host)) this.#lookLater();
    return bound;
  }

  async close(place: DatagramPlace): Promise<void> {
    const bound = this.#bound.get(keyOf(place));
    this.#bound.delete(keyOf(place));
    if (bound !== undefined) await closeAll(bound.sockets);
  }

  async closeAll(): Promise<void> {
    this.#cancelLook?.();
    this.#cancelLook = null;
    const all = [...this.#bound.values()];
    this.#bound.clear();
    for (const { sockets } of all) await closeAll(sockets);
  }

  async #bindOne(place: DatagramPlace, sockets: Map<string, Socket>): Promise<DatagramPlace> {
    const { address, port } = await this.#bind(place, sockets);
    return { host: address, port };
  }

  /** One that another program has is refused; one that goes away just now, or cannot be had for want of descriptors, is tried again. */
  async #bindAll({ host, port }: DatagramPlace, sockets: Map<string, Socket>): Promise<DatagramPlace> {
    let chosen = port;
    for (const address of this.#addresses(host) ?? []) {
      try {
        chosen = (await this.#bind({ host: address, port: chosen }, sockets)).port;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "EADDRINUSE" || code === "EACCES") {
          await closeAll(sockets);
          throw error;
        }
        this.#complain(address, error);
      }
    }
    return { host, port: chosen };
  }

  #bind({ host, port }: DatagramPlace, sockets: Map<string, Socket>): Promise<{ address: string; port: number }> {
    const { openSocket = createSocket, log, onMessage } = this.parts;
    const socket = openSocket(isIPv6(host) ? "udp6" : "udp4");
    return new Promise((resolve, reject) => {
      const refused = (error: Error) => {
        socket.close();
        reject(error);
      };
      socket.once("error", refused);
      socket.bind({ address: host, port }, () => {
        socket.off("error", refused);
        socket.on("error", (error) => log.debug({ error: messageOf(error) }, "rpc: datagram socket"));
        const bound = socket.address();
        const local = host.includes("%") ? host : bound.address;
        socket.on("message", (message, from) => {
          onMessage(message, { from, local, send: (reply) => this.#send(socket, reply, from) });
        });
        sockets.set(host, socket);
        resolve(bound);
      });
    });
  }

  /** To where it came from, in the socket's own words: a mapped address or a zone belongs to it. */
  #send(socket: Socket, reply: Buffer, { address, port }: RemoteInfo): void {
    const unsent = (error: unknown) => {
      this.unsent++;
      this.parts.log.debug({ address, port, error: messageOf(error) }, "rpc: datagram not sent");
    };
    try {
      socket.send(reply, port, address, (error) => {
        if (error !== null) unsent(error);
      });
    } catch (error) {
      // What Node does not even try: a port or address that is none, a socket that is closed.
      unsent(error);
    }
  }

  #lookLater(): void {
    this.#cancelLook ??= this.parts.clock.after(LOOK_MS, () => {
      this.#cancelLook = null;
      const any = [...this.#bound.values()].filter(({ host }) => isAny(host));
      if (any.length === 0) return;
      for (const bound of any) this.#look(bound);
      this.#lookLater();
    });
  }

  #look(bound: Bound): void {
    const { host, port, sockets } = bound;
    const found = this.#addresses(host);
    if (found === null) return;
    const wanted = new Set(found);
    for (const [address, socket] of sockets) {
      if (wanted.has(address)) continue;
      sockets.delete(address);
      socket.close();
    }
    for (const address of wanted) {
      if (sockets.has(address)) continue;
      // Closed meanwhile: the socket that has just come goes, too.
      this.#bind({ host: address, port }, sockets).then(
        async () => {
          if (this.#bound.get(keyOf(bound)) !== bound) await closeAll(sockets);
        },
        (error: unknown) => this.#complain(address, error),
      );
    }
  }

  /** Of this machine, as "any address" of a family names them: :: is both. null: the system does not say just now. */
  #addresses(host: string): string[] | null {
    const { interfaces = networkInterfaces } = this.parts;
    try {
      const found = Object.entries(interfaces()).flatMap(([name, list]) =>
        (list ?? [])
          .filter(({ family }) => host === ANY || family === "IPv4")
          .map(({ address }) => (address.startsWith("fe80:") ? `${address}%${name}` : address)),
      );
      return [...new Set(found)].slice(0, ADDRESSES_MAX);
    } catch (error) {
      if (operatingError(error) === null) throw error;
      this.#complain("the machine's addresses", error);
      return null;
    }
  }

  #complain(address: string, error: unknown): void {
    if (this.#seldom.may(address) === null) return;
    this.parts.log.warn({ address, error: messageOf(error) }, "rpc: no UDP socket at an address: it is tried again");
  }
}

function isAny(host: string): boolean {
  return host === ANY || host === ANY_IPV4;
}

function keyOf({ host, port }: DatagramPlace): string {
  return `${host} ${port}`;
}

async function closeAll(sockets: Map<string, Socket>): Promise<void> {
  const open = [...sockets.values()];
  sockets.clear();
  await Promise.all(open.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))));
}
