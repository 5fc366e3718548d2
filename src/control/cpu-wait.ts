import fs from "node:fs";

/** Room for three numbers of 20 digits. */
const LINE_BYTES = 64;

/**
 * How long the thread of the event loop was ready to run and had no CPU, since it began, ms (proc_pid_schedstat: the second number, in ns). On a busy machine a timer comes
 * late because of others; that is not work of ours. Always 0 where the kernel does not say.
 */
export function cpuWait(path = `/proc/self/task/${process.pid}/schedstat`): () => number {
  let fd: number;
  try {
    fd = fs.openSync(path, "r");
  } catch {
    return () => 0;
  }
  const line = Buffer.alloc(LINE_BYTES);
  let last = 0;
  return () => {
    try {
      const byteCount = fs.readSync(fd, line, 0, LINE_BYTES, 0);
      const ns = Number(line.toString("latin1", 0, byteCount).split(" ", 2)[1]);
      if (ns >= 0) last = ns / 1e6;
    } catch {
      // What was known stays.
    }
    return last;
  };
}
