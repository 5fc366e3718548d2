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
  app.post("/v1/pair/takeover", ({ body }) => takeover(must(pair), orders(body)));
  app.post("/v1/pair/giveback", ({ body }) => giveback(must(pair), orders(body)));
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

interface Orders {
  /** A node's name; absent: the one that serves less now. */
  readonly to?: unknown;
  /** Although the node that is to serve says why it could not. */
  readonly force?: unknown;
}

function orders(body: unknown): Orders {
  return typeof body === "object" && body !== null ? body : {};
}

/**
 * Everything to one node.
 * @throws StorageError ENOENT: there is no such node; EBUSY: it says why it could not serve; as PairAgent.takeover and giveback
 */
async function takeover(pair: PairAgent, { to, force }: Orders): Promise<PairRow> {
  const target =
    typeof to === "string" ? to : pair.groups().some(({ role }) => role === "owned") ? pair.partnerName : pair.name;
  if (target !== pair.name && target !== pair.partnerName) {
    throw new StorageError("ENOENT", `${target} is not a node of this pair (${pair.name}, ${pair.partnerName})`);
  }
  const moves = pair.groups().some(({ role }) => (role === "owned") === (target === pair.partnerName));
  if (moves && force !== true) refuseTroubled(pair, target);
  for (const { name, role } of pair.groups()) {
    if (target === pair.name && role !== "owned") await pair.takeover(name);
    if (target === pair.partnerName && role === "owned") await pair.giveback(name);
  }
  return await wholeRow(pair);
}

/** What it says stands in its way: the other serves well meanwhile. */
function refuseTroubled(pair: PairAgent, target: string): void {
  const trouble = target === pair.name ? pair.trouble : (pair.partner().heartbeat?.trouble ?? null);
  if (trouble === null || trouble.length === 0) return;
  throw new StorageError(
    "EBUSY",
    `${target} could not take over now: ${trouble.join("; ")} (--force tries all the same)`,
  );
}

/** Every group to its home. @throws StorageError as takeover */
async function giveback(pair: PairAgent, { force }: Orders): Promise<PairRow> {
  for (const { home, role } of pair.groups()) {
    const isAway = (home === pair.name) !== (role === "owned");
    if (isAway && force !== true) refuseTroubled(pair, home);
  }
  for (const { name, home, role } of pair.groups()) {
    if (home === pair.name && role !== "owned") await pair.takeover(name);
    if (home === pair.partnerName && role === "owned") await pair.giveback(name);
  }
  return await wholeRow(pair);
}
