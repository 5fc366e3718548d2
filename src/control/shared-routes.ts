import type { FastifyInstance } from "fastify";
import { createSharedSchema, nodeParams, replaceSharedSchema, sharedPlaceSchema, type Valid } from "./requests.js";
import type { SharedAdmin } from "./shared-admin.js";

/** Shared groups, and what the nodes have written on them. */
export function sharedRoutes(app: FastifyInstance, shared: SharedAdmin, valid: Valid): void {
  app.get("/v1/shared", () => shared.rows());
  app.post("/v1/shared", ({ body }) => shared.create(valid(createSharedSchema, body)));
  app.post("/v1/shared/replace", ({ body }) => {
    const wanted = valid(replaceSharedSchema, body);
    return shared.replace(wanted.disk, wanted.with);
  });
  app.post("/v1/shared/partitions", ({ body }) => shared.claimPartitions(valid(sharedPlaceSchema, body)));
  app.post("/v1/shared/stores", ({ body }) => shared.makeStores(valid(sharedPlaceSchema, body)));
  app.get("/v1/nodes/:node/records", ({ params }) => shared.records(valid(nodeParams, params).node));
}
