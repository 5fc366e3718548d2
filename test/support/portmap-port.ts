import { createServer, type Server } from "node:net";

/** A kernel asks this port for a lock manager, and no other. */
export const PORTMAP_PORT = 111;

/** The port on 127.0.0.1, for as long as the server is open; or a reason to skip a test that needs it. */
export async function takePortmap(): Promise<Server | string> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once("error", ({ code }: NodeJS.ErrnoException) => {
      resolve(`LEFT OUT: port ${PORTMAP_PORT} of 127.0.0.1 is needed (${code})`);
    });
    server.listen({ host: "127.0.0.1", port: PORTMAP_PORT }, () => resolve(server));
  });
}

/** A reason to skip, or false: the port is free. */
export async function portmapTaken(): Promise<string | false> {
  const taken = await takePortmap();
  if (typeof taken === "string") return taken;
  await new Promise((resolve) => taken.close(resolve));
  return false;
}
