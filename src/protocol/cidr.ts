import { BlockList } from "node:net";
import { StorageError } from "../lib/errors.js";
import { parseNetwork } from "../lib/network.js";
import type { Peer } from "./rpc/peer.js";

/** Which clients a rule is for. */
export type ClientMatcher = (peer: Pick<Peer, "address" | "family">) => boolean;

/**
 * `*`, an address, or a network in CIDR notation, IPv4 or IPv6. An IPv4-mapped client is an IPv4 client.
 * @throws StorageError EINVAL naming the text
 */
export function parseClients(text: string): ClientMatcher {
  if (text === "*") return () => true;
  const network = parseNetwork(text);
  if (network === null) {
    throw new StorageError("EINVAL", `not a client list: "${text}" (examples: *, 10.0.0.7, 10.1.0.0/16, fd00::/8)`);
  }
  const { address, family, prefix } = network;
  const list = new BlockList();
  list.addSubnet(address, prefix, family);
  // The families are compared first: BlockList would take ::/0 for IPv4 as well.
  return (peer) => peer.family === family && list.check(peer.address, peer.family);
}
