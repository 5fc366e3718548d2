import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** What `make` leaves in memory as long as its result is kept, in bytes: of V8's heap, and of Buffers. */
export function keptBytes<T>(make: () => T): { readonly kept: T; readonly bytes: number } {
  const before = liveBytes();
  const kept = make();
  return { kept, bytes: liveBytes() - before };
}

function liveBytes(): number {
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
