import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import type { ServiceAddress } from "../ha/record.js";
import type { CancelTimer, Clock } from "../lib/clock.js";
import { messageOf } from "../lib/errors.js";
import type { AddressCheck } from "./address-command.js";
import type { NewEvent } from "./event-log.js";

export interface AddressWatchParts {
  readonly clock: Clock;
  /** Addresses that are served, by home node. */
  readonly served: () => ReadonlyMap<string, ServiceAddress>;
  /** Service addresses of the pair, served here or not, by home node; empty while nobody knows whether this machine is to have one. */
  readonly known: () => ReadonlyMap<string, ServiceAddress>;
  /** null: nobody can change what addresses this machine has. */
  readonly command: AddressChanges | null;
  /** An address is gone and did not come back. @param why for people */
  readonly onLost: (home: string, why: string) => void;
  readonly onEvent: (event: NewEvent) => void;
  /** As os.networkInterfaces(). */
  readonly interfaces?: () => Readonly<Record<string, NetworkInterfaceInfo[] | undefined>>;
}

export interface AddressChanges {
  /** Make it this machine's again, when it is to be. */
  restore(address: ServiceAddress): Promise<void>;
  /** Give it up, unless it is served here by now. */
  clear(host: string): Promise<void>;
  check(host: string): Promise<AddressCheck>;
}

const LOOK_MS = 1000;
/** Another machine that answers for one of our addresses is looked for this often. */
const CHECK_MS = 5000;

/**
 * Looks whether this machine has the addresses at which it serves, and no others of the pair. One that was taken away would leave clients without an answer,
 * and the partner idle; one that it has and does not serve sends clients to a machine that does not answer.
 */
export class AddressWatch {
  #cancel: CancelTimer = () => {};
  #cancelCheck: CancelTimer = () => {};
  #ended = false;
  /** By address, for people: served here, and another machine answers for it, too. */
  readonly #conflicts = new Map<string, string>();
  /** By address, for people: another node serves there, and this machine cannot give it up. */
  readonly #stuck = new Map<string, string>();

  constructor(private readonly parts: AddressWatchParts) {}

  start(): void {
    this.#lookLater();
    this.#checkLater();
  }

  end(): void {
    this.#ended = true;
    this.#cancel();
    this.#cancelCheck();
  }

  /** Another machine has what is served here; a sentence each. */
  get conflicts(): readonly string[] {
    return [...this.#conflicts.values()];
  }

  /** This machine has what it does not serve; a sentence each. */
  get stuck(): readonly string[] {
    return [...this.#stuck.values()];
  }

  async look(): Promise<void> {
    for (const [home, address] of this.parts.served()) {
      if (this.#isHere(address)) continue;
      const trouble = await this.#restore(address);
      if (this.#isHere(address) || this.#ended) continue;
      this.parts.onLost(home, `this machine has lost the address ${address.host}${trouble}`);
    }
    if (this.#addresses() === null) return;
    for (const address of this.#foreign()) {
      if (this.#isHere(address)) await this.#clear(address);
      else this.#stuck.delete(address.host);
    }
  }

  /** What a process before this one has left behind: an interface without a carrier does not show it. */
  async clearAll(): Promise<void> {
    for (const address of this.#foreign()) await this.#clear(address);
  }

  async checkAll(): Promise<void> {
    for (const host of this.#conflicts.keys()) if (!this.#isServed(host)) this.#conflicts.delete(host);
    for (const address of [...this.parts.served().values()]) if (canMove(address)) await this.#check(address);
  }

  #lookLater(): void {
    this.#cancel = this.parts.clock.after(LOOK_MS, () => {
      void this.look().finally(() => {
        if (!this.#ended) this.#lookLater();
      });
    });
  }

  #checkLater(): void {
    this.#cancelCheck = this.parts.clock.after(CHECK_MS, () => {
      void this.checkAll().finally(() => {
        if (!this.#ended) this.#checkLater();
      });
    });
  }

  #foreign(): ServiceAddress[] {
    return [...this.parts.known().values()].filter((address) => canMove(address) && !this.#isServed(address.host));
  }

  #isServed(host: string): boolean {
    return [...this.parts.served().values()].some((address) => address.host === host);
  }

  /** @returns what to add to the sentence */
  async #restore(address: ServiceAddress): Promise<string> {
    try {
      await this.parts.command?.restore(address);
      return "";
    } catch (error) {
      return ` (${messageOf(error)})`;
    }
  }

  async #clear(address: ServiceAddress): Promise<void> {
    const { host } = address;
    const { command, onEvent } = this.parts;
    if (command === null) return;
    const wasHere = this.#isHere(address);
    try {
      await command.clear(host);
      this.#stuck.delete(host);
      if (!wasHere || this.#isHere(address)) return;
      const what = `this machine had the service address ${host}, and does not serve there: it was given up`;
      onEvent({ severity: "warning", kind: "address-cleared", what, detail: { address: host } });
    } catch (error) {
      const what = `this machine may have the service address ${host}, does not serve there, and cannot give it up: ${messageOf(error)}`;
      if (!this.#stuck.has(host))
        onEvent({ severity: "error", kind: "address-stuck", what, detail: { address: host } });
      this.#stuck.set(host, what);
    }
  }

  async #check(address: ServiceAddress): Promise<void> {
    const { host } = address;
    const { command, onEvent } = this.parts;
    const found = (await command?.check(host)) ?? null;
    if (found === null || this.#ended || found.kind === "unknown" || found.kind === "failed") return;
    // Meanwhile it has moved: the other machine is the one that is to have it.
    if (!this.#isServed(host)) return;
    if (found.kind === "held") {
      const what = `another machine (${found.by}) has the service address ${host}, too: clients may find that one`;
      if (!this.#conflicts.has(host))
        onEvent({ severity: "error", kind: "address-conflict", what, detail: { address: host, by: found.by } });
      this.#conflicts.set(host, what);
      // Said again on the network, it draws clients back here.
      await this.#restore(address);
    } else if (this.#conflicts.delete(host)) {
      const what = `no other machine has the service address ${host} any more`;
      onEvent({ severity: "info", kind: "address-alone", what, detail: { address: host } });
    }
  }

  #isHere({ host }: ServiceAddress): boolean {
    // Any of 127/8 is there as long as the machine is; a wildcard needs no address of its own.
    if (!canMove({ host })) return true;
    const here = this.#addresses();
    return here === null || here.has(host);
  }

  /** null: they cannot be seen (a unit without AF_NETLINK); nothing is done about what nobody sees. */
  #addresses(): Set<string> | null {
    const interfaces = this.parts.interfaces ?? networkInterfaces;
    try {
      return new Set(Object.values(interfaces()).flatMap((list) => (list ?? []).map(({ address }) => address)));
    } catch {
      return null;
    }
  }
}

function canMove({ host }: Pick<ServiceAddress, "host">): boolean {
  return !host.startsWith("127.") && host !== "::1" && host !== "0.0.0.0" && host !== "::";
}
