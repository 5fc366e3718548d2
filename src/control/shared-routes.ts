import type { FastifyInstance } from "fastify";
import type { z } from "zod";
import { createSharedSchema, nodeParams, replaceSharedSchema } from "./requests.js";
import type { SharedAdmin } from "./shared-admin.js";

type Valid = <T extends z.ZodType>(schema: T, value: unknown) => z.infer<T>;

/** Shared groups, and what the nodes have written on them. */
export function sharedRoutes(app: FastifyInstance, shared: SharedAdmin, valid: Valid): void {
  app.get("/v1/shared", () => shared.rows());
  app.post("/v1/shared", ({ body }) => shared.create(valid(createSharedSchema, body)));
  app.post("/v1/shared/replace", ({ body }) => {
    const wanted = valid(replaceSharedSchema, body);
    return shared.replace(wanted.disk, wanted.with);
  });
  app.get("/v1/nodes/:node/records", ({ params }) => shared.records(valid(nodeParams, params).node));
}
