import { plural } from "../lib/plural.js";
import type { NfsStatistics } from "../protocol/server.js";
import type { Refusal, RefusalKind } from "../protocol/streams/refusals.js";
import type { NewEvent } from "./event-log.js";
import type { Sample } from "./metrics.js";
import type { ClientsRow } from "./types.js";

/** Who is connected, and what is held for them. */
export function clientsRow({ clients, receivedBytes }: NfsStatistics): ClientsRow {
  const { admitted, strangers, addresses, requestBytes, replyBytes, refusals } = clients;
  return {
    ...{ admitted, strangers, addresses, receivedBytes, queuedBytes: requestBytes - receivedBytes },
    lentBytes: replyBytes,
    refused: Object.values(refusals).reduce((sum, count) => sum + count, 0),
  };
}

export function clientSamples(nfs: NfsStatistics): Sample[] {
  const { admitted, strangers, addresses, receivedBytes, queuedBytes, lentBytes } = clientsRow(nfs);
  const bytes = { received: receivedBytes, queued: queuedBytes, lent: lentBytes };
  return [
    { name: "client_addresses", value: addresses },
    ...Object.entries({ admitted, stranger: strangers }).map(([kind, value]) => {
      return { name: "client_connections", value, labels: { kind } };
    }),
    ...Object.entries(bytes).map(([kind, value]) => ({ name: "client_bytes", value, labels: { kind } })),
    ...Object.entries(nfs.clients.refusals).map(([kind, value]) => {
      return { name: "client_refusals_total", value, labels: { kind } };
    }),
  ];
}

const WHY: Readonly<Record<RefusalKind, (address: string) => string>> = {
  connections: (address) =>
    `${address} has as many connections as one address may have, all busy: a new one was refused`,
  strangers: (address) => `a connection of ${address}, which no export admits, had to leave or was not taken`,
  idle: (address) => `an idle connection of ${address} made room for another client`,
  record: (address) => `${address}, which no export admits, sent something larger than a mount request`,
  incomplete: (address) => `${address} began a request and did not end it: its connection was closed`,
  unread: (address) => `${address} did not take its replies: its connection was closed`,
};

/** Once a minute for each kind and address at most: see streams/refusals.ts. */
export function refusalEvent({ kind, address, count }: Refusal): NewEvent {
  const times = count > 1 ? ` (${plural(count, "time")})` : "";
  const what = `${WHY[kind](address)}${times}`;
  return { severity: "warning", kind: "client-refused", what, detail: { why: kind, address, count } };
}
