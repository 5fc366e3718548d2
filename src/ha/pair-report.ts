import { messageOf } from "../lib/errors.js";
import type { PairEvent } from "./contract.js";
import type { Tracked } from "./pair-parts.js";

/** What is told of groups. */
export class PairReport {
  constructor(private readonly onEvent: (event: PairEvent) => void) {}

  /** Once, as long as it stays the same. */
  complain(group: Tracked, error: unknown): void {
    const complaint = messageOf(error);
    if (group.complaint === complaint) return;
    group.complaint = complaint;
    this.tell("error", "takeover-trouble", `group ${group.seen.name}: ${complaint}`, group);
  }

  tell(severity: PairEvent["severity"], kind: string, what: string, group: Tracked, more: object = {}): void {
    this.onEvent({ severity, kind, what, detail: { group: group.seen.name, epoch: group.epoch, ...more } });
  }
}
