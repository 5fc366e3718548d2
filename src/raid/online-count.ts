import type { Member } from "./member.js";

/** When it has fallen while something failed, a disk has gone: no place on a disk is to blame. */
export function onlineCount(members: readonly Member[]): number {
  let count = 0;
  for (const member of members) if (member.online) count++;
  return count;
}
