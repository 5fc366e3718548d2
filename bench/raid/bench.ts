/** What every part of the RAID benchmark gets, and the plain I/O that ours is compared with. */
import fs from "node:fs";
import type { Undo } from "../undo.js";
import type { Outcome } from "./contest.js";

export interface Bench {
  readonly folder: string;
  readonly undo: Undo;
  readonly rounds: number;
  /** Of the LUs. */
  readonly luBytes: number;
  /** Throws after Ctrl-C. */
  goOn(): void;
}

export type Part = (bench: Bench) => Promise<Outcome[]>;

/** Keep `depth` calls in flight until there are no more. */
export async function inFlight(count: number, depth: number, call: (index: number, lane: number) => Promise<void>) {
  let next = 0;
  const lane = async (number: number): Promise<void> => {
    while (next < count) await call(next++, number);
  };
  await Promise.all(Array.from({ length: depth }, (_, number) => lane(number)));
}

/** @returns `amount` a second of the time that `work` takes */
export async function timed(amount: number, work: () => Promise<void>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (amount * 1000) / (performance.now() - startedMs);
}

/** A file, read and written without further ado. */
export class PlainFile {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = fs.openSync(path, "r+");
  }

  write(source: Buffer, position: number): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.write(this.#fd, source, 0, source.length, position, (error, count) =>
        settle(error, count === source.length, resolve, reject),
      );
    });
  }

  read(target: Buffer, position: number): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.read(this.#fd, target, 0, target.length, position, (error, count) =>
        settle(error, count === target.length, resolve, reject),
      );
    });
  }

  flush(): Promise<void> {
    return new Promise((resolve, reject) => fs.fdatasync(this.#fd, (error) => (error ? reject(error) : resolve())));
  }

  close(): void {
    fs.closeSync(this.#fd);
  }
}

function settle(error: Error | null, whole: boolean, resolve: () => void, reject: (error: Error) => void): void {
  if (error !== null) reject(error);
  else if (whole) resolve();
  else reject(new Error("a plain file moved fewer bytes than asked for"));
}
