import { must } from "../../lib/assert.js";
import { StorageError } from "../../lib/errors.js";
import type { LockClient, LockClientRow, LockOwner } from "./contract.js";
import { keyOf, type LockEntry, type Party } from "./entries.js";
import type { LockLimits } from "./limits.js";

/** What an address, or all of them together, have in the lock table. */
class Share {
  entries = 0;
  waiting = 0;
  bytes = 0;
  /** Names, with the clients that have them. */
  readonly hosts = new Set<string>();

  add(entry: LockEntry, sign: 1 | -1): void {
    this.entries += sign;
    if (entry.kind === "waiting") this.waiting += sign;
    this.bytes += sign * bytesOf(entry.who.owner, entry.kind === "waiting" ? entry.note.length : 0);
  }
}

export interface Growth {
  readonly entries: number;
  /** Of these, requests that wait. */
  readonly waiting?: number;
  readonly noteBytes?: number;
}

/** What of an entry has no fixed size. */
function bytesOf({ address, host, oh }: LockOwner, noteBytes: number): number {
  return address.length + host.length + oh.length + noteBytes;
}

/** One name at one address, with its entries by file. */
class Client {
  readonly files = new Map<number, Set<LockEntry>>();

  constructor(
    readonly address: string,
    readonly host: string,
  ) {}
}

const clientKey = ({ address, host }: { readonly address: string; readonly host: string }) => `${address} ${host}`;

interface KnownParty extends Party {
  readonly client: Client;
  entries: number;
}

/** Who has entries in the lock book, how many, and in which files: so that nothing has to be searched for, and nobody takes all. */
export class Parties {
  readonly #parties = new Map<string, KnownParty>();
  readonly #clients = new Map<string, Client>();
  readonly #addresses = new Map<string, Share>();
  readonly #all = new Share();

  constructor(private readonly limits: LockLimits) {}

  /** The object that stands for an owner. One without entries may be another the next time: it is not kept over a turn. */
  of(owner: LockOwner): Party {
    const key = keyOf(owner);
    const known = this.#parties.get(key);
    if (known !== undefined) return known;
    const { address, host } = owner;
    const client = this.#clients.get(clientKey(owner)) ?? new Client(address, host);
    const fresh: KnownParty = { key, owner, client, entries: 0 };
    return fresh;
  }

  add(entry: LockEntry): void {
    const party = entry.who as KnownParty;
    if (party.entries++ === 0) this.#parties.set(party.key, party);
    const { client } = party;
    let share = this.#addresses.get(client.address);
    if (share === undefined) {
      share = new Share();
      this.#addresses.set(client.address, share);
    }
    if (client.files.size === 0) {
      this.#clients.set(clientKey(client), client);
      share.hosts.add(client.host);
    }
    const inFile = client.files.get(entry.ino);
    if (inFile === undefined) client.files.set(entry.ino, new Set([entry]));
    else inFile.add(entry);
    share.add(entry, 1);
    this.#all.add(entry, 1);
  }

  remove(entry: LockEntry): void {
    const party = entry.who as KnownParty;
    const { client } = party;
    const inFile = must(client.files.get(entry.ino), "what is removed was counted");
    inFile.delete(entry);
    if (inFile.size === 0) client.files.delete(entry.ino);
    const share = must(this.#addresses.get(client.address), "what is removed was counted");
    if (client.files.size === 0) {
      this.#clients.delete(clientKey(client));
      share.hosts.delete(client.host);
    }
    if (--party.entries === 0) this.#parties.delete(party.key);
    share.add(entry, -1);
    if (share.entries === 0) this.#addresses.delete(client.address);
    this.#all.add(entry, -1);
  }

  /**
   * Nobody takes what others need: besides the fixed limits an address may have only as much as is left for everybody else, so that however many
   * come, there is room for one more.
   * @throws StorageError ENOSPC
   */
  requireRoom({ owner }: Party, { entries, waiting = 0, noteBytes = 0 }: Growth): void {
    if (entries <= 0) return;
    const bytes = entries * bytesOf(owner, noteBytes);
    const { address, host } = owner;
    const own = this.#addresses.get(address) ?? new Share();
    const { limits } = this;
    const fits = (has: number, more: number, all: number, addressMax: number, max: number) =>
      has + more <= Math.min(addressMax, max - all);
    const ok =
      (own.hosts.has(host) || own.hosts.size < limits.addressClientsMax) &&
      fits(own.entries, entries, this.#all.entries, limits.addressEntriesMax, limits.entriesMax) &&
      (waiting === 0 || fits(own.waiting, waiting, this.#all.waiting, limits.addressWaitingMax, limits.waitingMax)) &&
      fits(own.bytes, bytes, this.#all.bytes, limits.addressOwnerBytesMax, limits.ownerBytesMax);
    if (!ok) {
      const detail = { address, host, ofAddress: own.entries, all: this.#all.entries };
      throw new StorageError("ENOSPC", "too many locks", detail);
    }
  }

  /** How much there is, for metrics. */
  counts(): { readonly entries: number; readonly waiting: number; readonly addresses: number } {
    return { entries: this.#all.entries, waiting: this.#all.waiting, addresses: this.#addresses.size };
  }

  clients(limit: number): LockClientRow[] {
    const rows: LockClientRow[] = [];
    for (const { address, host, files } of this.#clients.values()) {
      if (rows.length >= limit) break;
      rows.push({ address, host, files: files.size });
    }
    return rows;
  }

  /** The names that an address has locks under. */
  hostsAt(address: string): string[] {
    return [...(this.#addresses.get(address)?.hosts ?? [])];
  }

  /** The files in which a client has something now. */
  filesOf(client: LockClient): number[] {
    const found = new Set<number>();
    for (const { files } of this.#matching(client)) for (const ino of files.keys()) found.add(ino);
    return [...found];
  }

  /** What a client has in a file now. */
  entriesIn(client: LockClient, ino: number): LockEntry[] {
    return this.#matching(client).flatMap(({ files }) => [...(files.get(ino) ?? [])]);
  }

  #matching({ address, host }: LockClient): Client[] {
    if (address !== null && host !== null) {
      const client = this.#clients.get(clientKey({ address, host }));
      return client === undefined ? [] : [client];
    }
    return [...this.#clients.values()].filter(
      (client) => (address === null || client.address === address) && (host === null || client.host === host),
    );
  }
}
