import { BLOCK_BYTES } from "../lib/units.js";
import type { Member } from "./member.js";

/** Two blocks side by side that are written in turns: in one call, or, when that fails, each by itself. @returns those that can be read */
export async function readTwin(member: Member, position: number): Promise<Buffer[]> {
  try {
    const both = await member.fetch(2 * BLOCK_BYTES, position);
    return [both.subarray(0, BLOCK_BYTES), both.subarray(BLOCK_BYTES)];
  } catch {
    const each = [position, position + BLOCK_BYTES].map((at) => member.fetch(BLOCK_BYTES, at).catch(() => null));
    return (await Promise.all(each)).filter((block) => block !== null);
  }
}
