import { crc32c as native } from "@node-rs/crc32";

/**
 * CRC-32C (Castagnoli, RFC 3720 appendix B.4): reflected polynomial 0x82F63B78, initial and final XOR 0xFFFFFFFF.
 * The native package uses the CPU's CRC instruction. `previous` continues an earlier result over the next bytes.
 * @returns u32
 */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  return native(bytes, previous) >>> 0;
}
