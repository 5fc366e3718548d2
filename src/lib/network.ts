import { isIP, isIPv4, SocketAddress } from "node:net";

/** An address or a network in CIDR notation (RFC 4632, RFC 4291 section 2.3), as somebody has written it. */
export interface Network {
  /** As the system writes it (RFC 5952 for IPv6); an IPv4-mapped address is an IPv4 address. */
  readonly address: string;
  readonly family: "ipv4" | "ipv6";
  /** Bits; all of them for a single address. */
  readonly prefix: number;
}

/** @returns null for what is none: also a zone (fe80::1%eth0), and a prefix with a zero in front, which others read as octal */
export function parseNetwork(text: string): Network | null {
  const [written = "", prefixText, ...more] = text.split("/");
  if (isIP(written) === 0 || written.includes("%") || more.length > 0) return null;
  const address = withoutMapping(
    new SocketAddress({ address: written, family: isIPv4(written) ? "ipv4" : "ipv6" }).address,
  );
  const family = isIPv4(address) ? "ipv4" : "ipv6";
  const bits = family === "ipv4" ? 32 : 128;
  if (prefixText === undefined) return { address, family, prefix: bits };
  const prefix = Number(prefixText);
  return /^(0|[1-9]\d{0,2})$/.test(prefixText) && prefix <= bits ? { address, family, prefix } : null;
}

/** One spelling of a network, so that two that are the same compare equal; null for what is none. */
export function canonicalNetwork(text: string): string | null {
  const network = parseNetwork(text);
  if (network === null) return null;
  return text.includes("/") ? `${network.address}/${network.prefix}` : network.address;
}

function withoutMapping(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}
