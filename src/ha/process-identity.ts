import { readFileSync, readlinkSync } from "node:fs";

/** proc(5): field 22 of stat, counted behind the command in parentheses, which may hold spaces. */
const START_FIELD = 22 - 3;

export interface ProcessIdentity {
  readonly bootId: string;
  readonly pid: number;
  readonly processStart: number;
  /** Processes of one host with the same one have the same addresses (network_namespaces(7)). Absent: not known. */
  readonly network?: string;
}

export function thisProcess(): ProcessIdentity {
  return { bootId: bootId(), pid: process.pid, processStart: processStat(process.pid)?.start ?? 0, network: network() };
}

/** Two processes have the same addresses: what one adds, the other has. */
export function sharesNetwork(one: NetworkPlace, other: NetworkPlace): boolean {
  return one.bootId === other.bootId && (one.network ?? "") === (other.network ?? "");
}

type NetworkPlace = Pick<ProcessIdentity, "bootId" | "network">;

function network(): string {
  try {
    return readlinkSync("/proc/self/ns/net");
  } catch {
    return "";
  }
}

/** random(4): new with every boot, the same in all containers of a host. */
export function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
}

export interface ProcessStat {
  /** One letter: T stopped, Z ended and not waited for, D in a system call that cannot be interrupted, R and S well. */
  readonly state: string;
  readonly start: number;
}

/** null: there is no such process in our PID namespace. */
export function processStat(pid: number): ProcessStat | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0] ?? "?", start: Number(fields[START_FIELD]) };
  } catch {
    return null;
  }
}
