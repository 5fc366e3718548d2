import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { test } from "node:test";
import fastify, { type FastifyInstance } from "fastify";
import { pairRoutes } from "../../../src/control/pair-routes.js";
import { pairRow, pairWarnings, worstOf } from "../../../src/control/pair-rows.js";
import type { PairGroupRow } from "../../../src/control/types.js";
import { isStorageError } from "../../../src/lib/errors.js";
import { type BenchNode, PairBench } from "../../support/pair-bench.js";

/** chn1 serves g, chn2 stands by. */
async function served(): Promise<{ bench: PairBench; one: BenchNode; two: BenchNode }> {
  const bench = new PairBench();
  const { one, two } = await bench.pair([bench.group("g")]);
  await bench.clock.advance(1000);
  return { bench, one, two };
}

const groupOf = ({ agent }: BenchNode): PairGroupRow => pairRow(agent).groups[0]!;

test("pair: the node that stands by says how the group is at its partner", async () => {
  const { bench, one, two } = await served();
  deepEqual([groupOf(two).state, worstOf(two.agent), pairWarnings(two.agent)], ["clean", "clean", []]);
  one.host.stateNow = "degraded";
  await bench.clock.advance(1000);
  for (const node of [one, two]) equal(groupOf(node).state, "degraded");
  equal(worstOf(two.agent), "degraded");
  deepEqual(pairWarnings(two.agent), ["group g is degraded at chn1"]);
  deepEqual(pairWarnings(one.agent), [], "the node that serves it shows its disks");
});

test("pair: what is served by nobody has failed, and is told", async () => {
  const { bench, one, two } = await served();
  two.host.refusal = "too few disks";
  for (const disk of bench.disks) disk.hiddenFrom.add("chn1");
  await bench.clock.advance(30_000);
  equal(one.ends.length > 0, true);
  deepEqual([groupOf(two).servedBy, groupOf(two).state, worstOf(two.agent)], [null, null, "failed"]);
  match(pairWarnings(two.agent).join("\n"), /group g is served by nobody now/);
});

/** A call of the management API, with the clock going on meanwhile. */
async function call(bench: PairBench, { agent }: BenchNode, path: string, body: object): Promise<void> {
  const app: FastifyInstance = fastify({ logger: false });
  let failure: unknown = null;
  app.setErrorHandler((error, _request, reply) => {
    failure = error;
    return reply.code(409).send({});
  });
  pairRoutes(app, { pair: agent });
  let done = false;
  const answered = app.inject({ method: "POST", url: path, payload: body }).then(() => {
    done = true;
  });
  while (!done) await bench.clock.advance(10);
  await answered;
  await app.close();
  if (failure !== null) throw failure;
}

test("pair: a planned takeover to a node that says what stands in its way is refused, but for --force", async () => {
  const { bench, one, two } = await served();
  two.agent.trouble = ["this node can use 2 of the 3 disks of group g"];
  await bench.clock.advance(1000);
  const refused = (error: unknown): boolean =>
    isStorageError(error, "EBUSY") &&
    /^chn2 could not take over now: this node can use 2 of the 3 .*--force/.test(error.message);
  await rejects(call(bench, one, "/v1/pair/takeover", {}), refused);
  await rejects(call(bench, two, "/v1/pair/takeover", { to: "chn2" }), refused);
  equal(groupOf(one).servedBy, "chn1");
  await call(bench, one, "/v1/pair/takeover", { to: "chn1" });
  await call(bench, one, "/v1/pair/giveback", {});
  equal(groupOf(one).servedBy, "chn1", "what stays where it is asks nobody");
  await call(bench, one, "/v1/pair/takeover", { force: true });
  await bench.clock.advance(1000);
  equal(groupOf(one).servedBy, "chn2");
  one.agent.trouble = ["this node reaches nobody on its network"];
  await bench.clock.advance(1000);
  await rejects(call(bench, two, "/v1/pair/giveback", {}), /chn1 could not take over now/);
  await call(bench, two, "/v1/pair/giveback", { force: true });
  await bench.clock.advance(1000);
  equal(groupOf(two).servedBy, "chn1");
});
