import { lstatSync, unlinkSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { StorageError } from "../lib/errors.js";
import { makeFolder } from "../lib/make-folder.js";

/**
 * Make way for a listener on a Unix socket: create its folder, remove a socket that nobody listens on any more.
 * @throws StorageError EBUSY when another daemon answers there, EEXIST when something else than a socket is in the way
 */
export async function claimSocket(socket: string): Promise<void> {
  makeFolder(path.dirname(socket));
  const found = lstatSync(socket, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new StorageError("EEXIST", `${socket} is in the way: it is not a socket`);
  if (await someoneAnswers(socket)) {
    throw new StorageError("EBUSY", `another daemon is serving the management socket ${socket}`);
  }
  unlinkSync(socket);
}

/** Whether a process accepts connections on the socket. */
export function someoneAnswers(socket: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const connection = net.connect(socket);
    connection.once("connect", () => {
      connection.destroy();
      resolve(true);
    });
    connection.on("error", (error: NodeJS.ErrnoException) => {
      // EAGAIN: its queue is full, so somebody is there. EACCES: not ours to take away.
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
      else if (error.code === "EAGAIN") resolve(true);
      else reject(new StorageError("EACCES", `cannot try the management socket ${socket}: ${error.message}`));
    });
  });
}
