import type { FileSystem, FreedLocks } from "../fs/vfs.js";
import { isStorageError, messageOf } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import type { ExportTable } from "./exports.js";
import type { Peer } from "./rpc/peer.js";

/** complete: nothing that should go has stayed, because its file system has stopped. */
export interface ClientFreed extends FreedLocks {
  readonly complete: boolean;
}

/** The file systems that a client may use at all, each once: what it says about its locks concerns these. */
function fileSystemsFor(exports: ExportTable, peer: Peer, port: number): FileSystem[] {
  const admitted = exports.list().filter((entry) => entry.ruleFor({ ...peer, port }) !== null);
  return [...new Set(admitted.map(({ fileSystem }) => fileSystem))];
}

/**
 * Free the locks of a client that says under `name` that it has lost them. Only what was locked from the address that the news comes from can
 * go: anybody can say a name. The name that its lock manager locks with (caller_name) and the one that its status monitor reports with
 * (mon_name) may differ. So it is first the one that is equal in small or capital letters, then the one that is equal but for its domain; then the only
 * one that the address locks under. Of several (address translation) nobody could tell which.
 * @param port  that the client calls from, as far as its exports ask for a privileged one
 */
export async function freeClient(
  { exports, log }: { readonly exports: ExportTable; readonly log: Logger },
  peer: Peer,
  name: string,
  port = peer.port,
): Promise<ClientFreed> {
  const total = { held: 0, waiting: 0, shares: 0, complete: true };
  const { address } = peer;
  const fileSystems = fileSystemsFor(exports, peer, port);
  const hosts = hostsOf(fileSystems, name, address);
  for (const fileSystem of fileSystems) {
    for (const host of hosts) {
      try {
        const { held, waiting, shares } = await fileSystem.locks.free({ address, host });
        total.held += held;
        total.waiting += waiting;
        total.shares += shares;
      } catch (error) {
        if (!isStorageError(error)) throw error;
        log.warn(
          { fileSystem: fileSystem.name, address, host, error: messageOf(error) },
          "locks of a client could not be freed",
        );
        total.complete = false;
      }
    }
  }
  return total;
}

function hostsOf(fileSystems: readonly FileSystem[], name: string, address: string): string[] {
  const known = [...new Set(fileSystems.flatMap(({ locks }) => locks.hostsAt(address)))];
  for (const written of [lowerCase, withoutDomain]) {
    const named = known.filter((host) => written(host) === written(name));
    if (named.length > 0) return named;
  }
  return known.length === 1 ? known : [];
}

function lowerCase(name: string): string {
  return name.toLowerCase();
}

function withoutDomain(name: string): string {
  return name.toLowerCase().split(".", 1)[0] ?? "";
}
