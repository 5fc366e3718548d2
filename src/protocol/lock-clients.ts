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
function fileSystemsFor(exports: ExportTable, peer: Peer): FileSystem[] {
  const admitted = exports.list().filter((entry) => entry.ruleFor(peer) !== null);
  return [...new Set(admitted.map(({ fileSystem }) => fileSystem))];
}

/**
 * Free the locks of a client that says under `name` that it has lost them. The name that its lock manager locks with (caller_name) and the one
 * that its status monitor reports with (mon_name) may differ, a short one and one with its domain for instance; rpc.statd then compares
 * addresses. So here: when nothing is locked under this name, in small or capital letters, everything goes that was locked from the
 * address that the news comes from.
 */
export async function freeClient(
  { exports, log }: { readonly exports: ExportTable; readonly log: Logger },
  peer: Peer,
  name: string,
): Promise<ClientFreed> {
  const total = { held: 0, waiting: 0, shares: 0, complete: true };
  for (const fileSystem of fileSystemsFor(exports, peer)) {
    for (const host of hostsOf(fileSystem, name, peer.address)) {
      try {
        const { held, waiting, shares } = await fileSystem.locks.freeHost(host);
        total.held += held;
        total.waiting += waiting;
        total.shares += shares;
      } catch (error) {
        if (!isStorageError(error)) throw error;
        log.warn(
          { fileSystem: fileSystem.name, host, error: messageOf(error) },
          "locks of a client could not be freed",
        );
        total.complete = false;
      }
    }
  }
  return total;
}

function hostsOf({ locks }: FileSystem, name: string, address: string): Set<string> {
  const rows = locks.list();
  const wanted = name.toLowerCase();
  const named = rows.filter(({ owner }) => owner.host.toLowerCase() === wanted);
  const found = named.length > 0 ? named : rows.filter((row) => row.address === address);
  return new Set(found.map(({ owner }) => owner.host));
}
