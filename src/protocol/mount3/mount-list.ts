export interface MountEntry {
  readonly host: string;
  readonly path: string;
}

/**
 * Who has mounted what (RFC 1813 section 5.2.2): a report for people, no promise. Clients vanish without a word, so it is bounded and the
 * oldest entry leaves first.
 */
export class MountList {
  readonly #entries = new Map<string, MountEntry>();

  constructor(private readonly entriesMax: number) {}

  add(host: string, path: string): void {
    const key = `${host} ${path}`;
    this.#entries.delete(key);
    this.#entries.set(key, { host, path });
    if (this.#entries.size <= this.entriesMax) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }

  remove(host: string, path: string): void {
    this.#entries.delete(`${host} ${path}`);
  }

  removeAll(host: string): void {
    for (const [key, entry] of this.#entries) if (entry.host === host) this.#entries.delete(key);
  }

  list(): MountEntry[] {
    return [...this.#entries.values()];
  }
}
