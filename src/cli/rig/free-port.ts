import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import net from "node:net";

/** ip(7): the first and the last port that the system gives to whoever does not name one, as outgoing connections do. */
const GIVEN_AWAY = "/proc/sys/net/ipv4/ip_local_port_range";
const LOWEST = 10_000;
const TRIES = 64;

/**
 * A port of 127.0.0.1 on which nobody listens just now, below those that the system gives away: while a daemon is down, or a partner is about to listen in its
 * place, one of those may go to any connection of this machine, and stays with it, TIME_WAIT included, for a minute at least.
 */
export async function freePort(lowest = LOWEST, end = firstGivenAway()): Promise<number> {
  for (let i = 0; i < TRIES && lowest < end; i++) {
    const port = await tryPort(randomInt(lowest, end));
    if (port !== null) return port;
  }
  return (await tryPort(0)) ?? 0;
}

function firstGivenAway(): number {
  try {
    return Number(readFileSync(GIVEN_AWAY, "latin1").split(/\s+/)[0]);
  } catch {
    return 0;
  }
}

/** @returns null: it is taken */
function tryPort(port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once("error", () => resolve(null));
    server.listen(port, "127.0.0.1", () => {
      const { port: bound } = server.address() as net.AddressInfo;
      server.close(() => resolve(bound));
    });
  });
}
