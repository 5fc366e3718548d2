import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { Fault } from "../device/fault.js";
import { StorageError } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import type { EventLog } from "./event-log.js";
import type { DiskPlace, FaultBench } from "./fault-bench.js";
import { SystemRandom } from "./system-random.js";
import type { DiskRow } from "./types.js";

export interface FaultRouteOptions {
  readonly cabinet: { disks(): readonly DiskRow[]; diskMoved(number: number): Promise<void> };
  readonly events: EventLog;
  /** Absent unless the configuration says `fault-injection: true`. */
  readonly faults?: FaultBench | undefined;
  /** Ends the process without any clean-up; by default SIGKILL. */
  readonly endProcess?: (() => void) | undefined;
}

const KINDS = ["gone", "eio", "slow", "bitrot", "torn", "lost", "misdirected"] as const;

const diskNumber = z.coerce.number().int().positive().max(LIMITS.diskNumberMax);
const kind = z.enum(KINDS, { error: `wants one of ${KINDS.join(", ")}` });
const seed = z.int().nonnegative().optional();

const injectSchema = z.strictObject({
  disk: diskNumber,
  kind,
  /** Bytes. */
  position: z.int().nonnegative().optional(),
  byteCount: z.int().positive().optional(),
  hits: z.int().positive().max(1_000_000).optional(),
  delayMs: z.int().positive().max(600_000).optional(),
  on: z.enum(["read", "write"]).optional(),
  seed,
});

const clearQuery = z.strictObject({ disk: diskNumber.optional(), kind: kind.optional() });

const crashSchema = z.strictObject({ seed, mode: z.enum(["drop", "torn", "keep"]).default("torn") });

/**
 * The rig's part of the management API: `/v1/faults` and `/v1/crash`. Without fault injection each answers ENOTSUP, for these calls can
 * destroy data.
 */
export function faultRoutes(app: FastifyInstance, options: FaultRouteOptions): void {
  const bench = (): FaultBench => benchOf(options);
  app.get("/v1/faults", () => bench().list());
  app.post("/v1/faults", async ({ body }) => {
    const faults = bench();
    const request = parsed(injectSchema, body);
    const place = placeOf(options, request.disk);
    const injected = await faults.inject(place, faultOf(request), request.seed ?? someSeed());
    if (request.kind === "gone") await options.cabinet.diskMoved(request.disk);
    report(options, `fault ${request.kind} injected`, place, { ...request, seed: injected.seed });
    return injected;
  });
  app.delete("/v1/faults", async ({ query }) => {
    const { disk, kind } = parsed(clearQuery, query);
    const faults = bench();
    const cleared = faults.clear(disk === undefined ? undefined : placeToClear(options, faults, disk), kind);
    for (const row of cleared) {
      report(options, `fault ${row.kind} cleared`, row, {});
      if (row.kind === "gone") await options.cabinet.diskMoved(row.disk);
    }
    return cleared;
  });
  app.post("/v1/crash", async ({ body }, reply) => {
    const faults = bench();
    const { seed, mode } = parsed(crashSchema, body);
    // Whatever becomes of the answer, the process ends.
    reply.raw.once("close", options.endProcess ?? killed);
    return faults.crash(seed ?? someSeed(), mode);
  });
}

function benchOf({ faults }: FaultRouteOptions): FaultBench {
  if (faults !== undefined) return faults;
  const what = 'fault injection is off ("fault-injection: true" in the configuration; "rig up" without --no-faults)';
  throw new StorageError("ENOTSUP", what);
}

/** Where a disk is, or was last. */
function placeOf({ cabinet }: FaultRouteOptions, disk: number): DiskPlace {
  const row = cabinet.disks().find(({ number }) => number === disk);
  if (row === undefined) throw new StorageError("ENOENT", `there is no disk #${String(disk).padStart(3, "0")}`);
  return { disk, path: row.path };
}

/** A disk that was pulled out, and then left the list, can still be put back. */
function placeToClear(options: FaultRouteOptions, faults: FaultBench, disk: number): { disk: number; path?: string } {
  const listed = options.cabinet.disks().some(({ number }) => number === disk);
  return listed || !faults.knows(disk) ? placeOf(options, disk) : { disk };
}

function faultOf(request: z.infer<typeof injectSchema>): Fault {
  const { kind, position, byteCount, hits, delayMs, on } = request;
  const refuse = (what: string): never => {
    throw new StorageError("EINVAL", what);
  };
  if (on !== undefined && kind !== "eio") refuse("only eio can be on reads or on writes alone");
  if (delayMs !== undefined && kind !== "slow") refuse("only slow has a delay");
  if (kind === "gone") {
    if ([position, byteCount, hits].some((value) => value !== undefined))
      refuse("gone is the whole disk, until it is cleared");
    return { kind };
  }
  const common = { position, byteCount, hits };
  if (kind === "eio") return { kind, on, ...common };
  if (kind === "slow") return { kind, delayMs: delayMs ?? refuse("slow wants a delay in milliseconds"), ...common };
  return { kind, ...common };
}

function report({ events }: FaultRouteOptions, what: string, { disk, path }: DiskPlace, detail: object): void {
  const place = `disk #${String(disk).padStart(3, "0")}`;
  events.add({
    severity: "warning",
    kind: "fault-injection",
    what: `${what}: ${place}`,
    detail: { ...detail, disk, path },
  });
}

/** @throws StorageError EINVAL naming the first thing that is wrong */
function parsed<T extends z.ZodType>(schema: T, value: unknown): z.infer<T> {
  const result = schema.safeParse(value ?? {});
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const name = issue?.path.join(".") ?? "";
  throw new StorageError("EINVAL", `${name === "" ? "" : `${name}: `}${issue?.message ?? "not understood"}`);
}

function someSeed(): number {
  return new SystemRandom().next();
}

function killed(): void {
  process.kill(process.pid, "SIGKILL");
}
