import { isIPv6, type Socket } from "node:net";

/** The other end of a connection. */
export interface Peer {
  /** An IPv4-mapped address (::ffff:a.b.c.d) is written as IPv4; a zone (%eth0) is cut off. */
  readonly address: string;
  readonly family: "ipv4" | "ipv6";
  readonly port: number;
  /** Our own end, as the client reached it. */
  readonly localAddress: string;
}

export function normalAddress(address: string): string {
  const bare = address.split("%")[0] ?? "";
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare);
  return mapped?.[1] ?? bare;
}

export function peerOf(socket: Socket): Peer {
  const address = normalAddress(socket.remoteAddress ?? "");
  return {
    address,
    family: isIPv6(address) ? "ipv6" : "ipv4",
    port: socket.remotePort ?? 0,
    localAddress: normalAddress(socket.localAddress ?? ""),
  };
}
