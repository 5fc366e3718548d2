import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { arriving } from "../backup/failure.js";
import { StorageError } from "../lib/errors.js";
import type { BackupAdmin } from "./backup/backup-admin.js";
import { flagQuery, nameSchema, type Valid } from "./requests.js";
import type { BackupReport, BackupScheduleRow } from "./types.js";

const idSchema = z.string().regex(/^[0-9a-f]{32}$/, "wants the 32 digits of a backup");
const whole = z
  .string()
  .regex(/^\d{1,15}$/, "wants a whole number")
  .transform(Number);
const streamQuery = z.strictObject({
  /** Absent: the shared LU. */
  fileSystem: nameSchema.optional(),
  full: flagQuery,
  target: z.string().max(4096),
  /** A backup that was broken off, and its last group that is whole. */
  resume: idSchema.optional(),
  ino: whole.default(0),
  group: whole.default(0),
});
const finishedSchema = z.strictObject({ target: z.string().max(4096), bytes: z.int().min(0) });
const backupParams = z.strictObject({ backup: idSchema });
const restoreQuery = z.strictObject({ fileSystem: nameSchema.optional(), parts: whole.default(1) });

/** Backups as streams: whoever asks writes them to their target, and says so. */
export function backupRoutes(
  app: FastifyInstance,
  backups: BackupAdmin,
  schedules: () => readonly BackupScheduleRow[],
  valid: Valid,
): void {
  app.addContentTypeParser("application/octet-stream", (_request, payload, done) => done(null, payload));
  app.get("/v1/backups", (): BackupReport => ({ backups: backups.rows(), schedules: schedules() }));
  app.get("/v1/backups/stream", ({ query }, reply) => {
    const { fileSystem = null, full, target, resume, ino, group } = valid(streamQuery, query);
    const goOn = resume === undefined ? undefined : { backup: resume, ino, group };
    const { pieces } = backups.begin({ fileSystem, full, target, series: "", resume: goOn });
    return reply.type("application/octet-stream").send(Readable.from(pieces));
  });
  app.post("/v1/backups/:backup/finished", ({ params, body }) => {
    const { target, bytes } = valid(finishedSchema, body);
    return backups.finished(valid(backupParams, params).backup, target, bytes);
  });
  app.post("/v1/backups/:backup/verified", ({ params }) => backups.verified(valid(backupParams, params).backup));
  // Asked before anything is sent: a refusal in the middle of a large body would be lost with the connection.
  app.post("/v1/backups/restore/check", ({ query }) => {
    const { fileSystem } = valid(restoreQuery, query);
    if (fileSystem !== undefined) backups.requireRestorable(fileSystem);
    return {};
  });
  app.post("/v1/backups/restore", async ({ query, body }) => {
    const { fileSystem, parts } = valid(restoreQuery, query);
    // The parser above hands it on as it comes; what is no stream was meant for another call.
    if (!(body instanceof Readable)) throw new StorageError("EINVAL", "a backup is sent as application/octet-stream");
    const source = body;
    try {
      const pieces = arriving(source.iterator({ destroyOnReturn: false }));
      return fileSystem === undefined
        ? await backups.restoreShared(pieces)
        : await backups.restore(fileSystem, pieces, parts);
    } finally {
      await drain(source);
    }
  });
}

/** What nobody wants any more is taken all the same: else the answer would not arrive. */
async function drain(source: Readable): Promise<void> {
  if (source.destroyed || source.readableEnded) return;
  source.resume();
  await finished(source).catch(() => {});
}
