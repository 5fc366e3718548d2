import type { DrillRow } from "../control/drill/drill-book.js";
import { LiveClient } from "../control/drill/live-client.js";
import type { PairRow, StatusReport } from "../control/types.js";
import type { ApiClient } from "./client.js";
import { CliError } from "./errors.js";

/** Calls that must be answered before, between and after the moves. */
const SETTLED_CALLS = 100;

/**
 * A planned takeover and the way back under a client of its own. The order and the record go to one daemon, the one that serves.
 * @param say  called with a sentence for each step
 * @throws CliError when the pair is not whole, or nothing is exported
 */
export async function runDrill(api: ApiClient, say: (what: string) => void): Promise<DrillRow> {
  const status = await api.get<StatusReport>("/v1/status");
  const { from, to } = endsOf(status);
  const { host, nfsPort } = status.service;
  const [first] = status.exports;
  if (first === undefined || nfsPort === null)
    throw new CliError("nothing is exported: there is nothing that a client could see");
  const client = new LiveClient(host, nfsPort);
  await client.start(first.path);
  try {
    say(`A client works on ${host}:${first.path}${client.writes ? "" : " (it may not write there, and only looks)"}.`);
    await client.progress(SETTLED_CALLS);
    const thereMs = await move(api, client, "/v1/pair/takeover", { to });
    say(`${to} serves: the client waited ${Math.round(thereMs)} ms.`);
    await client.progress(SETTLED_CALLS);
    const backMs = await move(api, client, "/v1/pair/takeover", { to: from });
    say(`${from} serves again: the client waited ${Math.round(backMs)} ms.`);
    await client.end();
    const wrong = client.wrong.slice(0, 20);
    const row: DrillRow = {
      ...{ at: new Date().toISOString(), from, to, thereMs, backMs, calls: client.calls, wrote: client.writes, wrong },
    };
    return await api.post<DrillRow>("/v1/pair/drills", row);
  } finally {
    await client.end();
  }
}

function endsOf({ pair }: StatusReport): { from: string; to: string } {
  if (pair === null) throw new CliError("this node has no partner: there is nothing to take over");
  const from = pair.nodes.find(({ serves }) => serves.length > 0);
  const to = pair.nodes.find((node) => node !== from);
  if (from === undefined || to === undefined) throw new CliError("neither node serves anything");
  if (to.role === "away") throw new CliError(`${to.name} is away: a drill needs both nodes`);
  if (to.serves.length > 0)
    throw new CliError("both nodes serve groups: a drill moves everything from one to the other; give back first");
  const [trouble] = to.trouble ?? [];
  if (trouble !== undefined) throw new CliError(`${to.name} could not take over now: ${trouble}`);
  return { from: from.name, to: to.name };
}

async function move(api: ApiClient, client: LiveClient, call: string, body: object): Promise<number> {
  client.takeSlowestMs();
  await api.post<PairRow>(call, body);
  await client.progress(SETTLED_CALLS);
  return client.takeSlowestMs();
}
