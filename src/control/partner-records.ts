import type { MirroredNodeRecords } from "../ha/shared/mirrored-records.js";
import { type CancelTimer, type Clock, wallMs } from "../lib/clock.js";
import { messageOf, operatingError } from "../lib/errors.js";
import type { EventLog } from "./event-log.js";

export interface PartnerRecordsParts {
  readonly node: string;
  readonly partner: string;
  readonly clock: Clock;
  readonly events: EventLog;
  /** This node serves what the partner served, and the partner is not there. */
  readonly standsIn: () => boolean;
  /** The partner's records, taken from it. null while there is no shared group. */
  readonly take: () => Promise<MirroredNodeRecords | null>;
}

/** So long after a takeover a partner that lives has been heard again: then it writes its records itself. */
const SETTLE_MS = 4_000;

/**
 * A node that dies leaves records on the shared LU which say that it serves. Whoever takes its groups over writes there what has become of them, and lets
 * the partition go at once: the node writes it again when it is back.
 */
export class PartnerRecords {
  readonly #unfollow: () => void;
  #cancel: CancelTimer = () => {};
  #marking: Promise<void> = Promise.resolve();

  constructor(private readonly parts: PartnerRecordsParts) {
    this.#unfollow = parts.events.follow(({ kind }) => {
      if (kind !== "group-taken") return;
      this.#cancel();
      this.#cancel = parts.clock.after(SETTLE_MS, () => {
        this.#marking = this.#marking.then(() => this.#mark());
      });
    });
  }

  async end(): Promise<void> {
    this.#unfollow();
    this.#cancel();
    await this.#marking;
  }

  async #mark(): Promise<void> {
    const { node, partner, events, standsIn, take } = this.parts;
    if (!standsIn()) return;
    try {
      const records = await take();
      if (records === null) return;
      try {
        this.#write(records);
        await records.durable();
      } finally {
        await records.close();
      }
    } catch (error) {
      if (operatingError(error) === null) throw error;
      const what = `that ${node} stands in for ${partner} could not be written to the shared LU: ${messageOf(error)}`;
      events.add({ severity: "warning", kind: "records-not-written", what, detail: { node: partner } });
    }
  }

  #write(records: MirroredNodeRecords): void {
    const { node, clock } = this.parts;
    const at = new Date(wallMs(clock)).toISOString();
    records.delete("service", "address nfs");
    for (const { key, value } of records.list("service")) {
      if (value.what === "service") records.upsert("service", key, { ...value, state: "stopped" });
    }
    for (const { key, value } of records.list("daemon")) {
      if (value.what !== "part") continue;
      const state = key === "part daemon" ? `gone: ${node} took over at ${at}` : `served by ${node}`;
      records.upsert("daemon", key, { ...value, state });
    }
  }
}
