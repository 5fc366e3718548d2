import { BlockList, isIP, isIPv4 } from "node:net";
import { StorageError } from "../lib/errors.js";
import { normalAddress, type Peer } from "./rpc/peer.js";

/** Which clients a rule is for. */
export type ClientMatcher = (peer: Pick<Peer, "address" | "family">) => boolean;

/**
 * `*`, an address, or a network in CIDR notation, IPv4 or IPv6. An IPv4-mapped client is an IPv4 client.
 * @throws StorageError EINVAL naming the text
 */
export function parseClients(text: string): ClientMatcher {
  if (text === "*") return () => true;
  const [written = "", prefixText, ...more] = text.split("/");
  const address = normalAddress(written);
  const bitsMax = isIPv4(address) ? 32 : 128;
  const prefix = prefixText === undefined ? bitsMax : Number(prefixText);
  const valid = isIP(address) !== 0 && more.length === 0 && /^\d{1,3}$/.test(prefixText ?? "0") && prefix <= bitsMax;
  if (!valid) {
    throw new StorageError("EINVAL", `not a client list: "${text}" (examples: *, 10.0.0.7, 10.1.0.0/16, fd00::/8)`);
  }
  const family = isIPv4(address) ? "ipv4" : "ipv6";
  const list = new BlockList();
  list.addSubnet(address, prefix, family);
  // The families are compared first: BlockList would take ::/0 for IPv4 as well.
  return (peer) => peer.family === family && list.check(peer.address, peer.family);
}
