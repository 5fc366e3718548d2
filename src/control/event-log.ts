import { must } from "../lib/assert.js";
import { type Clock, wallMs } from "../lib/clock.js";
import type { Logger } from "../lib/log.js";
import { LIMITS } from "../limits.js";
import type { EventRow, Severity } from "./types.js";

export interface NewEvent {
  readonly severity: Severity;
  /** A short constant word, such as `disk-missing`. */
  readonly kind: string;
  /** One sentence for people. */
  readonly what: string;
  readonly detail?: Readonly<Record<string, unknown>>;
}

type Listener = (event: EventRow) => void;

/** What an event takes beside its detail. */
const EVENT_BYTES = 200;

/** The last events, bounded in number and bytes; each also goes to the log and to whoever follows. */
export class EventLog {
  readonly #ring: EventRow[] = [];
  #bytes = 0;
  readonly #listeners = new Set<Listener>();
  #next = 1;

  constructor(
    private readonly clock: Clock,
    private readonly log: Logger,
    private readonly capacity: number = LIMITS.eventsMax,
  ) {}

  add(event: NewEvent): EventRow {
    const row: EventRow = {
      number: this.#next++,
      time: new Date(wallMs(this.clock)).toISOString(),
      severity: event.severity,
      kind: event.kind,
      what: event.what,
      detail: event.detail ?? {},
    };
    this.#ring.push(row);
    this.#bytes += bytesOf(row);
    while (this.#ring.length > this.capacity || this.#bytes > LIMITS.eventsBytesMax) this.#dropOldest();
    this.#write(row);
    for (const listener of this.#listeners) listener(row);
    return row;
  }

  /** The last `limit` events, oldest first. */
  last(limit: number): readonly EventRow[] {
    return limit <= 0 ? [] : this.#ring.slice(-limit);
  }

  /** @returns what ends the subscription */
  follow(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #dropOldest(): void {
    const oldest = must(this.#ring.shift(), "an event is dropped for those behind it");
    this.#bytes -= bytesOf(oldest);
  }

  #write(row: EventRow): void {
    const fields = { kind: row.kind, ...row.detail };
    if (row.severity === "error") this.log.error(fields, row.what);
    else if (row.severity === "warning") this.log.warn(fields, row.what);
    else this.log.info(fields, row.what);
  }
}

function bytesOf({ what, detail }: EventRow): number {
  return EVENT_BYTES + what.length + JSON.stringify(detail).length;
}
