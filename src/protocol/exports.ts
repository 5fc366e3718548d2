import type { Credentials, FileSystem } from "../fs/vfs.js";
import { crc32c } from "../lib/crc32c.js";
import { StorageError } from "../lib/errors.js";
import { type ClientMatcher, parseClients } from "./cidr.js";
import type { Auth } from "./rpc/auth.js";
import { AuthFlavor } from "./rpc/message.js";
import type { Peer } from "./rpc/peer.js";

/** Who may do what with an export. The first rule whose `clients` match is the one that counts. */
export interface ExportRule {
  /** `*`, an address or a CIDR network, IPv4 or IPv6. */
  readonly clients: string;
  readonly access: "ro" | "rw";
  /** root: uid and gid 0 become anonymous; all: everybody does; none: nobody does. A caller without AUTH_SYS is always anonymous. */
  readonly squash: "root" | "all" | "none";
  readonly anonUid: number;
  readonly anonGid: number;
  /** The client must call from a privileged port (below 1024). */
  readonly secure: boolean;
}

export interface Export {
  /** Absolute, without a slash at its end ("/" alone is allowed). */
  readonly path: string;
  readonly fileSystem: FileSystem;
  readonly rules: readonly ExportRule[];
}

/** Addresses whose answer is kept. */
const KNOWN_MAX = 4096;

/** Far more than a node serves; a bound all the same. */
const KNOWN_FILE_SYSTEMS_MAX = 256;

interface CompiledRule {
  readonly matches: ClientMatcher;
  readonly rule: ExportRule;
}

/** An export in service. A changed export is another entry with the same id, so that handles go on. */
export class ExportEntry implements Export {
  readonly path: string;
  readonly fileSystem: FileSystem;
  readonly rules: readonly ExportRule[];
  /** Part of every file handle: made of the path, so it is the same after a restart and on the partner. */
  readonly id: number;
  /** Of the path, a character for each byte. */
  readonly components: readonly string[];
  readonly #compiled: readonly CompiledRule[];

  constructor(source: Export) {
    this.path = source.path;
    this.fileSystem = source.fileSystem;
    this.rules = source.rules;
    const path = Buffer.from(source.path, "utf8");
    this.id = exportId(path);
    this.components = components(path.toString("latin1"));
    this.#compiled = source.rules.map((rule) => ({ matches: parseClients(rule.clients), rule }));
  }

  /** Whether a rule is for the address, whatever it then allows. */
  names(peer: Pick<Peer, "address" | "family">): boolean {
    return this.#compiled.some(({ matches }) => matches(peer));
  }

  /** @returns null when the client may not use this export */
  ruleFor(peer: Pick<Peer, "address" | "family" | "port">): ExportRule | null {
    const found = this.#compiled.find(({ matches }) => matches(peer));
    if (found === undefined) return null;
    return found.rule.secure && peer.port >= 1024 ? null : found.rule;
  }
}

/** What a caller may do with an export, worked out once per credential of a connection and kept on it. */
export class Admission {
  constructor(
    readonly entry: ExportEntry,
    /** null: the caller is not allowed at all. */
    readonly credentials: Credentials | null,
    readonly readOnly: boolean,
  ) {}
}

/** What a path names. */
export interface ExportPlace {
  readonly entry: ExportEntry;
  /** Names of directories, from the root of the export on. */
  readonly below: readonly Buffer[];
  /** The same path in its one spelling: no empty or "." components. */
  readonly path: Buffer;
}

export interface ExportWatcher {
  /** Also for one that is exported already. */
  added(fileSystem: FileSystem): void;
  removed(fileSystem: FileSystem): void;
}

/**
 * The exports in service; they change at run time. An entry is looked up anew for every call, so a removed export stops answering at once
 * and changed rules count from the next call on.
 */
export class ExportTable {
  readonly #byId = new Map<number, ExportEntry>();
  /** File systems that are or were exported, by id: their handles can be told from made-up ones. */
  readonly #fileSystems = new Map<number, Pick<FileSystem, "id" | "handleKey">>();
  /** Ids of exports that are not served now, and may be again. */
  readonly #unserved = new Set<number>();
  /** There may be exports that nobody knows here yet: a group of the pair is with the partner, or on its way here. */
  awaitsMore: () => boolean = () => false;
  readonly #watchers: ExportWatcher[] = [];
  /** Answers of `knows`, by address, until an export changes. */
  readonly #known = new Map<string, boolean>();

  /**
   * Add an export, or replace the one with the same path.
   * @throws StorageError EINVAL for a path or client list that is none, EEXIST when the id collides with another path's
   */
  add(source: Export): ExportEntry {
    if (!isExportPath(source.path)) throw new StorageError("EINVAL", `not an export path: "${source.path}"`);
    const entry = new ExportEntry(source);
    const same = this.#byId.get(entry.id);
    if (same !== undefined && same.path !== entry.path) {
      throw new StorageError(
        "EEXIST",
        `export "${entry.path}" has the same identifier as "${same.path}": choose another path`,
      );
    }
    this.#byId.set(entry.id, entry);
    this.#known.clear();
    this.#know(entry.fileSystem);
    for (const { added } of this.#watchers) added(entry.fileSystem);
    return entry;
  }

  /** @returns false when there was none */
  remove(path: string): boolean {
    const entry = this.list().find((candidate) => candidate.path === path);
    if (entry === undefined) return false;
    this.#byId.delete(entry.id);
    this.#known.clear();
    const { fileSystem } = entry;
    if (!this.list().some((other) => other.fileSystem === fileSystem))
      for (const { removed } of this.#watchers) removed(fileSystem);
    return true;
  }

  /** Be told of every file system that is exported, now and later, and of those that are exported no more. */
  watch(watcher: ExportWatcher): void {
    this.#watchers.push(watcher);
    for (const { fileSystem } of this.list()) watcher.added(fileSystem);
  }

  /** Whether any export names the address. Everybody else is a stranger, for whom little is done. */
  knows(peer: Pick<Peer, "address" | "family">): boolean {
    const kept = this.#known.get(peer.address);
    if (kept !== undefined) return kept;
    let known = false;
    for (const entry of this.#byId.values()) known ||= entry.names(peer);
    if (this.#known.size >= KNOWN_MAX) this.#known.clear();
    this.#known.set(peer.address, known);
    return known;
  }

  #know({ id, handleKey }: FileSystem): void {
    this.#fileSystems.delete(id);
    this.#fileSystems.set(id, { id, handleKey });
    for (const oldest of this.#fileSystems.keys())
      if (this.#fileSystems.size > KNOWN_FILE_SYSTEMS_MAX) this.#fileSystems.delete(oldest);
  }

  knownFileSystem(id: number): Pick<FileSystem, "id" | "handleKey"> | undefined {
    return this.#fileSystems.get(id);
  }

  /** Paths of exports that exist, and whose file systems are not served now. Replaces what was said before. */
  setUnserved(paths: Iterable<string>): void {
    this.#unserved.clear();
    for (const path of paths) this.#unserved.add(exportId(Buffer.from(path, "utf8")));
  }

  /** What names this export, which is none now, is to be tried again later. */
  isAwaited(id: number): boolean {
    return this.#unserved.has(id) || this.awaitsMore();
  }

  /** As `isAwaited`, for a path at or below the export. */
  isPathAwaited(path: Buffer): boolean {
    const [first = ""] = components(path.toString("latin1"));
    return this.isAwaited(exportId(Buffer.from(`/${first}`, "latin1")));
  }

  list(): ExportEntry[] {
    return [...this.#byId.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  findById(id: number): ExportEntry | undefined {
    return this.#byId.get(id);
  }

  /** The export with the longest path that is `path` or above it. A path is bytes: a name below an export need not be UTF-8. */
  findByPath(path: Buffer): ExportPlace | null {
    const wanted = components(path.toString("latin1"));
    let best: ExportEntry | null = null;
    for (const entry of this.#byId.values()) {
      const own = entry.components;
      if (own.length > wanted.length || !own.every((part, i) => part === wanted[i])) continue;
      if (best === null || own.length > best.components.length) best = entry;
    }
    if (best === null) return null;
    const below = wanted.slice(best.components.length).map((part) => Buffer.from(part, "latin1"));
    return { entry: best, below, path: Buffer.from(`/${wanted.join("/")}`, "latin1") };
  }

  /** The caller's rights on an export. The last answer is kept on the credential; another export or a changed rule makes a new one. */
  admit(entry: ExportEntry, peer: Peer, auth: Auth): Admission {
    const kept = auth.memo;
    if (kept instanceof Admission && kept.entry === entry) return kept;
    const rule = entry.ruleFor(peer);
    const credentials = rule === null ? null : { ...squash(rule, auth), client: peer.address };
    const admission = new Admission(entry, credentials, rule?.access !== "rw");
    auth.memo = admission;
    return admission;
  }
}

/** Map what the client says to what the file system sees. */
export function squash(rule: ExportRule, auth: Auth): Credentials {
  const { anonUid, anonGid } = rule;
  if (auth.flavor === AuthFlavor.none || rule.squash === "all") return { uid: anonUid, gid: anonGid, groups: [] };
  if (rule.squash === "none") return { uid: auth.uid, gid: auth.gid, groups: auth.groups };
  const group = (gid: number) => (gid === 0 ? anonGid : gid);
  return { uid: auth.uid === 0 ? anonUid : auth.uid, gid: group(auth.gid), groups: auth.groups.map(group) };
}

function exportId(path: Buffer): number {
  return crc32c(path);
}

function components(path: string): string[] {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}

function isExportPath(path: string): boolean {
  if (!path.startsWith("/") || path.includes("\0") || Buffer.byteLength(path) > 1024) return false;
  return path === "/" || path === `/${components(path).join("/")}`;
}
