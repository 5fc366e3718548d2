import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import type { ServiceAddress } from "../ha/record.js";
import type { CancelTimer, Clock } from "../lib/clock.js";
import { messageOf } from "../lib/errors.js";

export interface AddressWatchParts {
  readonly clock: Clock;
  /** Addresses that are served, by home node. */
  readonly served: () => ReadonlyMap<string, ServiceAddress>;
  /** Makes an address this machine's again; null: nobody can. */
  readonly restore: ((address: ServiceAddress) => Promise<void>) | null;
  /** An address is gone and did not come back. @param why for people */
  readonly onLost: (home: string, why: string) => void;
  /** As os.networkInterfaces(). */
  readonly interfaces?: () => Readonly<Record<string, NetworkInterfaceInfo[] | undefined>>;
}

const LOOK_MS = 1000;

/** Looks whether this machine still has the addresses at which it serves: one that was taken away would leave clients without an answer, and the partner idle. */
export class AddressWatch {
  #cancel: CancelTimer = () => {};
  #ended = false;

  constructor(private readonly parts: AddressWatchParts) {}

  start(): void {
    this.#cancel = this.parts.clock.after(LOOK_MS, () => {
      void this.look().finally(() => {
        if (!this.#ended) this.start();
      });
    });
  }

  end(): void {
    this.#ended = true;
    this.#cancel();
  }

  async look(): Promise<void> {
    for (const [home, address] of this.parts.served()) {
      if (this.#isHere(address)) continue;
      const trouble = await this.#restore(address);
      if (this.#isHere(address) || this.#ended) continue;
      this.parts.onLost(home, `this machine has lost the address ${address.host}${trouble}`);
    }
  }

  /** @returns what to add to the sentence */
  async #restore(address: ServiceAddress): Promise<string> {
    if (this.parts.restore === null) return "";
    try {
      await this.parts.restore(address);
      return "";
    } catch (error) {
      return ` (${messageOf(error)})`;
    }
  }

  #isHere({ host }: ServiceAddress): boolean {
    // Any of 127/8 is there as long as the machine is; a wildcard needs no address of its own.
    if (host.startsWith("127.") || host === "::1" || host === "0.0.0.0" || host === "::") return true;
    const interfaces = this.parts.interfaces ?? networkInterfaces;
    return Object.values(interfaces()).some((list) => list?.some(({ address }) => address === host) === true);
  }
}
