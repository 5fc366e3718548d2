import { assert } from "../../lib/assert.js";
import type { RpcProcedure, RpcProgram } from "./program.js";
import { ProcedureCounter, type ProcedureStatistics } from "./statistics.js";

/** One version of a program, with what is counted of it. */
export interface VersionTable {
  readonly program: RpcProgram;
  readonly version: number;
  readonly procedures: readonly (RpcProcedure | undefined)[];
  readonly counters: readonly ProcedureCounter[];
}

export interface ProgramEntry {
  readonly program: RpcProgram;
  /** Index 0 is `program.versionLow`. */
  readonly versions: readonly VersionTable[];
}

/** The programs that answer on one port. */
export class ProgramTable {
  readonly #entries = new Map<number, ProgramEntry>();

  constructor(programs: readonly RpcProgram[]) {
    for (const program of programs) this.#add(program);
  }

  find(number: number): ProgramEntry | undefined {
    return this.#entries.get(number);
  }

  entries(): ProgramEntry[] {
    return [...this.#entries.values()];
  }

  /** Every procedure that was called at least once. */
  statistics(): ProcedureStatistics[] {
    const all: ProcedureStatistics[] = [];
    for (const { versions } of this.#entries.values()) for (const table of versions) all.push(...describe(table));
    return all;
  }

  #add(program: RpcProgram): void {
    assert(!this.#entries.has(program.number), "a program is served once");
    const versions: VersionTable[] = [];
    for (let version = program.versionLow; version <= program.versionHigh; version++) {
      const procedures = program.procedures(version);
      versions.push({ program, version, procedures, counters: procedures.map(() => new ProcedureCounter()) });
    }
    this.#entries.set(program.number, { program, versions });
  }
}

function* describe(table: VersionTable): Generator<ProcedureStatistics> {
  for (const [index, counter] of table.counters.entries()) {
    if (counter.calls === 0) continue;
    yield {
      program: `${table.program.name}v${table.version}`,
      procedure: table.procedures[index]?.name ?? "",
      calls: counter.calls,
      errors: counter.errors,
      latencyBuckets: Array.from(counter.latency),
    };
  }
}
