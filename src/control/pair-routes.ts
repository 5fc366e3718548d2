import type { FastifyInstance } from "fastify";
import type { PairAgent } from "../ha/pair-agent.js";
import { StorageError } from "../lib/errors.js";
import { type DrillBook, drillSchema } from "./drill/drill-book.js";
import { pairRow } from "./pair-rows.js";
import type { PairRow } from "./types.js";

export interface PairRouteOptions {
  /** null: this node has no partner. */
  readonly pair?: PairAgent | null | undefined;
  readonly drills?: DrillBook | undefined;
}

/** Who serves what, and moving it. */
export function pairRoutes(app: FastifyInstance, { pair = null, drills }: PairRouteOptions): void {
  app.get("/v1/pair", () => wholeRow(must(pair)));
  app.post("/v1/pair/takeover", ({ body }) => takeover(must(pair), (body as { to?: unknown } | null)?.to));
  app.post("/v1/pair/giveback", () => giveback(must(pair)));
  app.get("/v1/pair/drills", () => drills?.rows() ?? []);
  app.post("/v1/pair/drills", ({ body }) => {
    const row = drillSchema.safeParse(body);
    if (!row.success) throw new StorageError("EINVAL", "not the report of a drill");
    return drills?.add(row.data) ?? row.data;
  });
}

function must(pair: PairAgent | null): PairAgent {
  if (pair === null)
    throw new StorageError("EINVAL", "this node has no partner: its configuration names none (pair.partner)");
  return pair;
}

async function wholeRow(pair: PairAgent): Promise<PairRow> {
  return pairRow(pair, await pair.leaseEpochs());
}

/** Everything to one node. @param to  its name; absent: the one that serves less now */
async function takeover(pair: PairAgent, to: unknown): Promise<PairRow> {
  const target =
    typeof to === "string" ? to : pair.groups().some(({ role }) => role === "owned") ? pair.partnerName : pair.name;
  if (target !== pair.name && target !== pair.partnerName) {
    throw new StorageError("ENOENT", `${target} is not a node of this pair (${pair.name}, ${pair.partnerName})`);
  }
  for (const { name, role } of pair.groups()) {
    if (target === pair.name && role !== "owned") await pair.takeover(name);
    if (target === pair.partnerName && role === "owned") await pair.giveback(name);
  }
  return await wholeRow(pair);
}

/** Every group to its home. */
async function giveback(pair: PairAgent): Promise<PairRow> {
  for (const { name, home, role } of pair.groups()) {
    if (home === pair.name && role !== "owned") await pair.takeover(name);
    if (home === pair.partnerName && role === "owned") await pair.giveback(name);
  }
  return await wholeRow(pair);
}
