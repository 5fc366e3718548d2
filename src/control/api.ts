import { chmodSync, unlinkSync } from "node:fs";
import fastify, { type FastifyInstance, type FastifyReply } from "fastify";
import type { z } from "zod";
import { isStorageError, messageOf, operatingError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { LIMITS } from "../limits.js";
import type { BackupAdmin } from "./backup/backup-admin.js";
import { backupRoutes } from "./backup-routes.js";
import type { Cabinet } from "./cabinet.js";
import { claimSocket } from "./claim-socket.js";
import type { EventLog } from "./event-log.js";
import { followEvents } from "./event-stream.js";
import { exportSchema } from "./export-book.js";
import { type FaultRouteOptions, faultRoutes } from "./fault-routes.js";
import { type PairRouteOptions, pairRoutes } from "./pair-routes.js";
import {
  addDiskSchema,
  assembleSchema,
  checkSchema,
  createFileSystemSchema,
  createGroupSchema,
  createLuSchema,
  deleteLuQuery,
  diskParams,
  eventsQuery,
  fileSystemParams,
  filesQuery,
  groupParams,
  growSchema,
  locksQuery,
  luParams,
  rebuildSchema,
  releaseLocksSchema,
  remountSchema,
  removeDiskQuery,
  removeExportQuery,
  replaceDiskSchema,
  resizeLuSchema,
  scrubSchema,
  spareSchema,
} from "./requests.js";
import { sharedRoutes } from "./shared-routes.js";
import type { BackupScheduleRow, ErrorBody, StatusReport } from "./types.js";

export interface ApiOptions extends PairRouteOptions, Pick<FaultRouteOptions, "faults" | "endProcess"> {
  readonly cabinet: Cabinet;
  readonly events: EventLog;
  readonly log: Logger;
  readonly status: () => StatusReport;
  /** Prometheus text. */
  readonly metrics: () => string;
  readonly backups?:
    | { readonly admin: BackupAdmin; readonly schedules: () => readonly BackupScheduleRow[] }
    | undefined;
}

/** A request is refused before it reaches the cabinet. */
class RequestError extends Error {}

/** HTTP statuses of operating errors; what is not listed is the server's fault. */
const HTTP_STATUS: Readonly<Record<string, number>> = {
  EINVAL: 400,
  ENAMETOOLONG: 400,
  EACCES: 403,
  EPERM: 403,
  ENOENT: 404,
  ENXIO: 404,
  ENODEV: 404,
  EEXIST: 409,
  EBUSY: 409,
  EROFS: 409,
  ENOTSUP: 501,
  ENOSPC: 507,
};

/**
 * The management API: JSON over HTTP on a Unix socket. Who may open the socket may do everything; there is no other
 * authentication. Every error is `{"error":{"code","message"}}`.
 */
export class ManagementApi {
  readonly #app: FastifyInstance;
  #socket: string | undefined;
  readonly #routes: string[] = [];

  constructor(private readonly options: ApiOptions) {
    this.#app = fastify({
      ...{ logger: false, bodyLimit: LIMITS.requestBytesMax, forceCloseConnections: true },
      http: { headersTimeout: LIMITS.requestHeadMsMax, connectionsCheckingInterval: LIMITS.requestCheckMs },
    });
    this.#app.server.maxConnections = LIMITS.managementConnectionsMax;
    this.#app.addHook("onRoute", ({ method, url }) => {
      for (const one of [method].flat()) if (one !== "HEAD") this.#routes.push(`${one} ${url}`);
    });
    this.#app.setErrorHandler((error, _request, reply) => this.#answerError(error, reply));
    this.#app.setNotFoundHandler((request, reply) => {
      return reply.code(404).send(errorBody("ENOENT", `no such call: ${request.method} ${request.url.split("?")[0]}`));
    });
    this.#readRoutes();
    this.#diskRoutes();
    this.#groupRoutes();
    this.#luRoutes();
    this.#fileSystemRoutes();
    this.#lockRoutes();
    this.#exportRoutes();
    sharedRoutes(this.#app, options.cabinet.shared, valid);
    faultRoutes(this.#app, options);
    pairRoutes(this.#app, options);
    const { backups } = options;
    if (backups !== undefined) backupRoutes(this.#app, backups.admin, backups.schedules, valid);
  }

  /** Every call that is answered, `GET /v1/status`: for a test that none is forgotten. */
  get routes(): readonly string[] {
    return this.#routes;
  }

  /** @throws StorageError EBUSY when another daemon has the socket */
  async listen(socket: string, mode: number): Promise<void> {
    await claimSocket(socket);
    // The process runs under umask 077, so nobody else can slip in between bind and chmod.
    await this.#app.listen({ path: socket });
    // A caller that cannot be taken (EMFILE) is none of the daemon's end.
    this.#app.server.on("error", (error) => this.options.log.error({ error: messageOf(error) }, "management socket"));
    this.#socket = socket;
    chmodSync(socket, mode);
  }

  async close(): Promise<void> {
    await this.#app.close();
    if (this.#socket === undefined) return;
    try {
      unlinkSync(this.#socket);
    } catch {
      // Node removes the socket of a listener that it closes; only its absence matters.
    }
  }

  #readRoutes(): void {
    const { cabinet, events, status, metrics } = this.options;
    // Answers as long as the process runs: whoever waits for a long call asks whether it is worth waiting.
    this.#app.get("/v1/alive", () => ({ pid: process.pid }));
    this.#app.get("/v1/status", () => status());
    this.#app.get("/v1/disks", () => cabinet.disks());
    this.#app.get("/v1/groups", () => cabinet.groups());
    this.#app.get("/v1/lus", () => cabinet.lus());
    this.#app.get("/v1/file-systems", () => cabinet.fileSystems.rows());
    this.#app.get("/v1/exports", () => cabinet.fileSystems.exports.rows());
    this.#app.get("/v1/events", ({ query }) => events.last(valid(eventsQuery, query).last));
    this.#app.get("/v1/events/follow", (request, reply) => {
      followEvents(events, valid(eventsQuery, request.query).last, reply);
    });
    this.#app.get("/metrics", (_request, reply) => reply.type("text/plain; version=0.0.4").send(metrics()));
  }

  #diskRoutes(): void {
    const { diskAdmin } = this.options.cabinet;
    this.#app.post("/v1/disks", ({ body }) => diskAdmin.add(valid(addDiskSchema, body)));
    this.#app.post("/v1/disks/:disk/spare", ({ params, body }) => {
      return diskAdmin.setSpare(valid(diskParams, params).disk, valid(spareSchema, body).spare);
    });
    this.#app.post("/v1/disks/:disk/fail", ({ params }) => diskAdmin.fail(valid(diskParams, params).disk));
    this.#app.post("/v1/disks/:disk/replace", ({ params, body }) => {
      return diskAdmin.replace(valid(diskParams, params).disk, valid(replaceDiskSchema, body));
    });
    this.#app.delete("/v1/disks/:disk", ({ params, query }) => {
      return diskAdmin.remove(valid(diskParams, params).disk, valid(removeDiskQuery, query).force);
    });
  }

  #groupRoutes(): void {
    const { groupAdmin, taskAdmin } = this.options.cabinet;
    this.#app.post("/v1/groups", ({ body }) => groupAdmin.create(valid(createGroupSchema, body)));
    this.#app.post("/v1/groups/:group/assemble", ({ params, body }) => {
      return groupAdmin.assemble(valid(groupParams, params).group, valid(assembleSchema, body).force);
    });
    this.#app.post("/v1/tasks/scrub", ({ body }) => taskAdmin.scrub(valid(scrubSchema, body)));
    this.#app.post("/v1/tasks/rebuild", ({ body }) => taskAdmin.rebuild(valid(rebuildSchema, body)));
    this.#app.post("/v1/tasks/grow", ({ body }) => taskAdmin.grow(valid(growSchema, body)));
  }

  #luRoutes(): void {
    const { luAdmin } = this.options.cabinet;
    this.#app.post("/v1/lus", ({ body }) => luAdmin.create(valid(createLuSchema, body)));
    this.#app.post("/v1/lus/:lu/resize", ({ params, body }) => {
      return luAdmin.resize(valid(luParams, params).lu, valid(resizeLuSchema, body));
    });
    this.#app.delete("/v1/lus/:lu", ({ params, query }) => {
      return luAdmin.delete(valid(deleteLuQuery, query).group, valid(luParams, params).lu);
    });
  }

  #fileSystemRoutes(): void {
    const { fileSystems } = this.options.cabinet;
    this.#app.post("/v1/file-systems", ({ body }) => fileSystems.create(valid(createFileSystemSchema, body)));
    this.#app.post("/v1/file-systems/:name/check", ({ params, body }) => {
      return fileSystems.check(valid(fileSystemParams, params).name, valid(checkSchema, body));
    });
    this.#app.post("/v1/file-systems/:name/remount", ({ params, body }) => {
      return fileSystems.remount(valid(fileSystemParams, params).name, valid(remountSchema, body));
    });
    this.#app.get("/v1/file-systems/:name/files", ({ params, query }) => {
      const { after, limit } = valid(filesQuery, query);
      return fileSystems.files(valid(fileSystemParams, params).name, after ?? null, limit);
    });
  }

  #lockRoutes(): void {
    const { lockAdmin } = this.options.cabinet;
    this.#app.get("/v1/locks", ({ query }) => {
      const { after, limit } = valid(locksQuery, query);
      return lockAdmin.files(after ?? null, limit);
    });
    this.#app.get("/v1/lu-locks", () => lockAdmin.lus());
    this.#app.post("/v1/locks/release", ({ body }) => lockAdmin.release(valid(releaseLocksSchema, body)));
  }

  #exportRoutes(): void {
    const { exports } = this.options.cabinet.fileSystems;
    this.#app.post("/v1/exports", ({ body }) => exports.add(valid(exportSchema, body)));
    this.#app.delete("/v1/exports", ({ query }) => {
      const { path, client } = valid(removeExportQuery, query);
      return exports.remove(path, client);
    });
  }

  #answerError(error: unknown, reply: FastifyReply): FastifyReply {
    if (error instanceof RequestError) return reply.code(400).send(errorBody("EINVAL", error.message));
    if (isStorageError(error)) {
      this.options.log.debug({ code: error.code, ...error.detail }, "a management request was refused");
      return reply.code(HTTP_STATUS[error.code] ?? 500).send(errorBody(error.code, error.message));
    }
    const status = (error as { statusCode?: unknown }).statusCode;
    if (typeof status === "number" && status < 500)
      return reply.code(status).send(errorBody("EINVAL", messageOf(error)));
    const outside = operatingError(error);
    if (outside !== null) {
      this.options.log.error({ error: outside.message }, "a management request failed");
      return reply.code(HTTP_STATUS[outside.code] ?? 500).send(errorBody(outside.code, outside.message));
    }
    // Our own mistake: it ends the process like any other failed assertion.
    setImmediate(() => {
      throw error;
    });
    return reply.code(500).send(errorBody("EIO", `internal error: ${messageOf(error)}`));
  }
}

function errorBody(code: string, message: string): ErrorBody {
  return { error: { code, message } };
}

/** @throws RequestError naming the first thing that is wrong */
function valid<T extends z.ZodType>(schema: T, value: unknown): z.infer<T> {
  const result = schema.safeParse(value ?? {});
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const name = issue?.path.join(".") ?? "";
  throw new RequestError(`${name === "" ? "" : `${name}: `}${issue?.message ?? "not understood"}`);
}
