import { setTimeout } from "node:timers/promises";
import type { ServiceHost } from "../ha/contract.js";
import type { ServiceAddress } from "../ha/record.js";
import type { Clock } from "../lib/clock.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { Mutex } from "../lib/mutex.js";
import { PORTMAP_PORT } from "../protocol/portmap/program.js";
import type { NfsServer } from "../protocol/server.js";
import type { AddressCommand } from "./address-command.js";

/** After the end of a process its address is free at once; one that shuts down may hold it for a moment. */
const WAIT_MS_MAX = 3000;
const WAIT_STEP_MS = 5;

export interface ServiceAddressParts {
  readonly nfs: Pick<NfsServer, "listen" | "unlisten">;
  readonly clock: Clock;
  readonly drainMs: number;
  readonly log: Logger;
  /** Makes an address one of this machine's, or takes it away; null: this machine has them all. */
  readonly command: Pick<AddressCommand, "change"> | null;
  /** What this machine is to have has changed. */
  readonly onChange?: () => void;
}

interface Leaving {
  readonly host: string;
  readonly done: Promise<void>;
}

/** The addresses at which this node serves: its own, and its partner's while it stands in for it. */
export class ServiceAddresses implements ServiceHost {
  /** By home node. */
  readonly #brought = new Map<string, ServiceAddress>();
  /** What this machine is to have, brought already or about to be; by home node. */
  readonly #wanted = new Map<string, ServiceAddress>();
  /** One thing at a time with this machine's addresses: what removes one must not come after what adds it. */
  readonly #changes = new Mutex();
  /** By home node: what is under way there is answered, or connections are ended already; the address is about to be gone. */
  readonly #leaving = new Map<string, Leaving>();

  constructor(private readonly parts: ServiceAddressParts) {}

  /** With the ports that were really bound. */
  get brought(): ReadonlyMap<string, ServiceAddress> {
    return this.#brought;
  }

  /** Addresses that this machine is to have. */
  wantedHosts(): string[] {
    return [...new Set([...this.#wanted.values()].map(({ host }) => host))];
  }

  wants(host: string): boolean {
    return [...this.#wanted.values()].some((address) => address.host === host);
  }

  async bring(home: string, address: ServiceAddress): Promise<void> {
    if (this.#brought.has(home)) return;
    this.#wanted.set(home, address);
    try {
      await this.restore(address);
      this.parts.onChange?.();
      this.#brought.set(home, await this.#listen(address));
    } catch (error) {
      this.#wanted.delete(home);
      await this.#giveUp(home, address);
      throw error;
    }
  }

  /** Make an address this machine's, again perhaps. @throws StorageError as the command */
  async restore({ host }: ServiceAddress): Promise<void> {
    await this.#changes.run(async () => {
      if (this.wants(host)) await this.parts.command?.change("add", host);
    });
  }

  async withdraw(home: string): Promise<void> {
    await this.#leaving.get(home)?.done;
    const address = this.#unbring(home);
    if (address === undefined) return;
    await this.#leave(home, address, this.parts.nfs.unlisten(address, { drainMs: this.parts.drainMs }));
  }

  /** Whoever then withdraws the same waits until it is done: the partner comes next. */
  hangUp(home: string): void {
    const address = this.#unbring(home);
    if (address === undefined) return;
    const { nfs, log } = this.parts;
    const hungUp = nfs.unlisten(address, { drainMs: 0 }).catch((error: unknown) => {
      log.warn({ home, error: messageOf(error) }, "connections at a service address were not ended in order");
    });
    void this.#leave(home, address, hungUp);
  }

  #leave(home: string, address: ServiceAddress, unlistened: Promise<void>): Promise<void> {
    const done = unlistened.then(() => this.#giveUp(home, address)).finally(() => this.#leaving.delete(home));
    this.#leaving.set(home, { host: address.host, done });
    return done;
  }

  async withdrawAll(): Promise<void> {
    for (const home of [...this.#brought.keys()]) await this.withdraw(home);
  }

  /** This machine does not have an address unless it serves there, or is just about to give it up by itself. @throws StorageError as the command */
  async clear(host: string): Promise<void> {
    const isLeaving = [...this.#leaving.values()].some((leaving) => leaving.host === host);
    if (!isLeaving) await this.#remove(host);
  }

  async #remove(host: string): Promise<void> {
    await this.#changes.run(async () => {
      if (this.wants(host)) return;
      await this.parts.command?.change("remove", host);
    });
    this.parts.onChange?.();
  }

  #unbring(home: string): ServiceAddress | undefined {
    const address = this.#brought.get(home);
    if (address === undefined) return undefined;
    this.#brought.delete(home);
    this.#wanted.delete(home);
    return address;
  }

  /** What could not be removed is tried again by the address watch, which tells it, too: the group is let go all the same. */
  async #giveUp(home: string, { host }: ServiceAddress): Promise<void> {
    await this.#remove(host).catch((error: unknown) =>
      this.parts.log.warn({ home, error: messageOf(error) }, "a service address was not given up in order"),
    );
  }

  async #listen(address: ServiceAddress): Promise<ServiceAddress> {
    const { nfs, clock } = this.parts;
    const endMs = clock.monotonicMs() + WAIT_MS_MAX;
    for (;;) {
      try {
        return await nfs.listen(address);
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code;
        const wait = code === "EADDRINUSE" && address.port !== 0 && clock.monotonicMs() < endMs;
        if (!wait) throw listenError(address, error);
        // Not the clock's timer, which keeps no process alive: there may be nothing else yet, and the daemon would end without a word.
        await setTimeout(WAIT_STEP_MS);
      }
    }
  }
}

export function listenError({ host, port }: ServiceAddress, error: unknown): StorageError {
  const failed = (error as { readonly port?: number }).port ?? port;
  const isPortmap = failed === PORTMAP_PORT && port !== PORTMAP_PORT;
  const who = isPortmap ? "the port mapper" : "NFS";
  const instead = isPortmap ? " (is it an rpcbind? Then set nfs: { rpcbind: true } instead of portmap)" : "";
  const what = `${who} cannot listen on ${host} port ${failed}: ${listenReason(error)}${instead}`;
  return new StorageError("EBUSY", what, {}, error);
}

function listenReason(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "EADDRINUSE") return "another program has the port";
  if (code === "EACCES") return "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE)";
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") return "this machine does not have the address";
  return messageOf(error);
}
