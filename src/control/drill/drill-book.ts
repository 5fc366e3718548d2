import { z } from "zod";
import type { EventLog } from "../event-log.js";
import type { StateFiles } from "../state-files.js";

const KEPT_MAX = 100;

/** What a client of the drill saw. Times in milliseconds. */
export const drillSchema = z.strictObject({
  /** RFC 3339, UTC. */
  at: z.iso.datetime(),
  from: z.string().max(16),
  to: z.string().max(16),
  /** The longest that a call took while the service moved there, and back. */
  thereMs: z.number().min(0),
  backMs: z.number().min(0).nullable(),
  calls: z.int().min(0),
  /** It also created, wrote, renamed and removed files. */
  wrote: z.boolean(),
  wrong: z.array(z.string().max(200)).max(20),
});

export type DrillRow = z.infer<typeof drillSchema>;

/** The drills of this node, the newest last, in its state directory. */
export class DrillBook {
  constructor(
    private readonly file: string,
    private readonly events: EventLog,
    private readonly stateFiles: StateFiles,
  ) {}

  rows(): DrillRow[] {
    // History only: what cannot be read is begun anew.
    return z.array(drillSchema).safeParse(this.stateFiles.readJson(this.file)).data ?? [];
  }

  add(row: DrillRow): DrillRow {
    const rows = [...this.rows(), row].slice(-KEPT_MAX);
    this.stateFiles.writeJson(this.file, "the list of drills", rows);
    const good = row.wrong.length === 0;
    const back = row.backMs === null ? "" : ` and ${Math.round(row.backMs)} ms back`;
    this.events.add({
      severity: good ? "info" : "error",
      kind: "drill",
      what: `drill: clients waited ${Math.round(row.thereMs)} ms for the move from ${row.from} to ${row.to}${back}${good ? "" : `; ${row.wrong.length} wrong answers`}`,
      detail: { ...row },
    });
    return row;
  }
}
