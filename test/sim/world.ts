import type { Random } from "../../src/lib/prng.js";
import type { FaultBudget } from "./fault-budget.js";
import type { Machine } from "./machine.js";
import type { Simulation } from "./simulation.js";

/** More has gone wrong than redundancy must bear, so that nothing can be asked of the rest of the run. */
export class BeyondFaultModel extends Error {}

/** What steps work on: LUs (lu-world.ts) or files (fs-world.ts), with a model of what they must hold. */
export interface World {
  readonly simulation: Simulation;
  readonly machine: Machine;
  readonly budget: FaultBudget;
  /** Whether what it holds has checksums: then it may be damaged. */
  readonly proves: boolean;
  create(): Promise<void>;
  /** Some requests at the same time; the model knows of each that was answered. */
  burst(random: Random): Promise<unknown>;
  /** So many reads at the same time. */
  readers(count: number, random: Random): Promise<unknown>;
  /** Two disks do not answer: a read may be an error for now. Never so of a world that proves what it reads. */
  patient: boolean;
  /** An LU becomes larger or smaller, as far as it may; a larger one while it is used. */
  resize(random: Random): Promise<unknown>;
  /** Others fill the folder of the scratch copies while it works, and empty it again: it goes on meanwhile, and does everything afterwards. */
  fullScratch(random: Random): Promise<void>;
  /** Nothing has happened for as long as anything may wait: all that waits for its time has had it. @throws Error */
  checkAge(): void;
  /** Clients fill what they can fill, and go on; perhaps it stays full. */
  fillUp(random: Random): Promise<void>;
  /** They remove what filled it: everything is taken again. */
  makeRoom(random: Random): Promise<void>;
  /** The power has failed: what is not durable is not known any more. */
  crashed(): void;
  /**
   * Between two lives: what can be read while this member gives out nothing of its rows is right.
   * @param everything  all can be
   */
  checkSilent(index: number, everything: boolean): Promise<void>;
  /** From what is on the disks to a service again. @throws Error when something is not as the model says */
  recover(): Promise<void>;
  /** A clean stop. */
  stop(): Promise<void>;
  /** A clean stop, and up again: nothing is left in memory. */
  settle(): Promise<void>;
  /** Everything once more, and without any one member. */
  end(): Promise<void>;
}
