import { setTimeout } from "node:timers/promises";
import type { ServiceHost } from "../ha/contract.js";
import type { ServiceAddress } from "../ha/record.js";
import type { Clock } from "../lib/clock.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { PORTMAP_PORT } from "../protocol/portmap/program.js";
import type { NfsServer } from "../protocol/server.js";

/** After the end of a process its address is free at once; one that shuts down may hold it for a moment. */
const WAIT_MS_MAX = 3000;
const WAIT_STEP_MS = 5;

export interface ServiceAddressParts {
  readonly nfs: NfsServer;
  readonly clock: Clock;
  readonly drainMs: number;
  readonly log: Logger;
  /** Makes the address one of this machine's, or takes it away: ifconfig, ARP. */
  readonly hook: ((action: "add" | "remove", address: ServiceAddress) => Promise<void>) | null;
}

/** The addresses at which this node serves: its own, and its partner's while it stands in for it. */
export class ServiceAddresses implements ServiceHost {
  /** By home node. */
  readonly #brought = new Map<string, ServiceAddress>();

  constructor(private readonly parts: ServiceAddressParts) {}

  /** With the ports that were really bound. */
  get brought(): ReadonlyMap<string, ServiceAddress> {
    return this.#brought;
  }

  async bring(home: string, address: ServiceAddress): Promise<void> {
    if (this.#brought.has(home)) return;
    await this.parts.hook?.("add", address);
    this.#brought.set(home, await this.#listen(address));
  }

  async withdraw(home: string): Promise<void> {
    const address = this.#brought.get(home);
    if (address === undefined) return;
    this.#brought.delete(home);
    await this.parts.nfs.unlisten(address, { drainMs: this.parts.drainMs });
    await this.parts.hook?.("remove", address);
  }

  hangUp(home: string): void {
    const address = this.#brought.get(home);
    if (address === undefined) return;
    this.#brought.delete(home);
    const { nfs, hook, log } = this.parts;
    const ended = nfs.unlisten(address, { drainMs: 0 }).then(() => hook?.("remove", address));
    ended.catch((error: unknown) =>
      log.warn({ home, error: messageOf(error) }, "a service address was not given up in order"),
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
