import type { Clock } from "../lib/clock.js";
import { plural } from "../lib/plural.js";
import { Seldom } from "../lib/seldom.js";
import type { RefusedMount } from "../protocol/mount3/program.js";
import type { EventLog } from "./event-log.js";

/** A client that may not mount tries again every few seconds, and anybody can try. */
const BOUNDS = { everyMs: 60_000, subjectsMax: 16 };

/** @returns what tells of a mount that was refused, as an event: each address and path once a minute, and so many in all */
export function tellRefusedMounts(clock: Clock, events: EventLog): (refused: RefusedMount) => void {
  const seldom = new Seldom(clock, BOUNDS);
  return ({ address, path, why }) => {
    const untold = seldom.may(`${address} ${path}`);
    if (untold === null) return;
    const more = untold === 0 ? "" : ` (and ${plural(untold, "other refusal")} before it)`;
    const what = `a mount of ${path} by ${address} was refused: ${why}${more}`;
    events.add({ severity: "warning", kind: "mount-refused", what, detail: { address, path } });
  };
}
