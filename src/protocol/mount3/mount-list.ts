import { printable } from "../../lib/printable.js";

export interface MountEntry {
  readonly host: string;
  /** As bytes: what was mounted, spelled in the one way that findByPath has for it. */
  readonly path: Buffer;
}

export interface MountListBounds {
  readonly entriesMax: number;
  readonly entriesOfHostMax: number;
  /** Of all hosts and paths together: what DUMP answers with. */
  readonly bytesMax: number;
}

/**
 * Who has mounted what (RFC 1813 section 5.2.2): a report for people, no promise. Clients vanish without a word, so it is bounded, for one
 * client and for all, and the oldest entry leaves first.
 */
export class MountList {
  /** The oldest first, of all and of each host. */
  readonly #entries = new Map<string, MountEntry>();
  readonly #ofHost = new Map<string, Set<string>>();
  #bytes = 0;

  constructor(private readonly bounds: MountListBounds) {}

  add(host: string, path: Buffer): void {
    this.remove(host, path);
    const key = keyOf(host, path);
    const keys = this.#ofHost.get(host) ?? new Set();
    this.#ofHost.set(host, keys.add(key));
    this.#entries.set(key, { host, path });
    this.#bytes += key.length;
    if (keys.size > this.bounds.entriesOfHostMax) this.#dropFirst(keys);
    while (this.#entries.size > this.bounds.entriesMax || this.#bytes > this.bounds.bytesMax)
      this.#dropFirst(this.#entries);
  }

  remove(host: string, path: Buffer): void {
    this.#drop(keyOf(host, path));
  }

  removeAll(host: string): void {
    for (const key of [...(this.#ofHost.get(host) ?? [])]) this.#drop(key);
  }

  list(): MountEntry[] {
    return [...this.#entries.values()];
  }

  /** For people. */
  rows(): { readonly host: string; readonly path: string }[] {
    return this.list().map(({ host, path }) => ({ host, path: printable(path) }));
  }

  #dropFirst(keys: { keys(): Iterable<string> }): void {
    for (const key of keys.keys()) {
      this.#drop(key);
      return;
    }
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= key.length;
    const keys = this.#ofHost.get(entry.host);
    keys?.delete(key);
    if (keys?.size === 0) this.#ofHost.delete(entry.host);
  }
}

function keyOf(host: string, path: Buffer): string {
  return `${host} ${path.toString("latin1")}`;
}
