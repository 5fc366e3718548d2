import type { FastifyReply } from "fastify";
import { LIMITS } from "../limits.js";
import type { EventLog } from "./event-log.js";
import type { EventRow } from "./types.js";

/** Some 300 bytes an event; see LIMITS.eventsUnsentMax. */
const UNSENT_BYTES_MAX = LIMITS.eventsUnsentMax * 300;

/** Answer with the last events and then each new one, a JSON document a line, until the caller hangs up or stops reading. */
export function followEvents(events: EventLog, last: number, reply: FastifyReply): void {
  reply.hijack();
  const stream = reply.raw;
  stream.writeHead(200, { "content-type": "application/x-ndjson" });
  stream.flushHeaders();
  // Whoever hangs up while something is being sent is no trouble of ours.
  stream.on("error", () => {});
  const send = (event: EventRow): void => {
    if (stream.destroyed) return;
    stream.write(`${JSON.stringify(event)}\n`);
    if (stream.writableLength > UNSENT_BYTES_MAX) stream.destroy();
  };
  for (const event of events.last(last)) send(event);
  if (stream.destroyed) return;
  const stop = events.follow(send);
  stream.once("close", stop);
}
