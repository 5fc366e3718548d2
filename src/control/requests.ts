import { isIP } from "node:net";
import { z } from "zod";
import { KIB, MIB } from "../lib/units.js";
import { LIMITS } from "../limits.js";
import { clientSchema } from "./export-book.js";

/** What callers may send to the management API. */

/** Checks a request against its schema: the content as it may be used. Throws what the API answers with. */
export type Valid = <T extends z.ZodType>(schema: T, value: unknown) => z.infer<T>;

/** A name that is safe in a path, a table and a log; no dot, so that `data.meta` is never taken for a file system. */
export const nameSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, "wants a name of letters, digits, - and _, 63 at most");
/** An LU made by hand may carry a dot, to become half of a file system later. */
const luNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, "wants a name of letters, digits, . - and _");
const levelSchema = z.union([z.literal(1), z.literal(5)], { error: "wants RAID level 1 or 5" });
const wantsSize = 'wants a size in bytes, or "max"';
const sizeSchema = z.union([z.literal("max"), z.int(wantsSize).positive(wantsSize)], wantsSize);
const idSchema = z.int().min(0).max(0xffffffff);

const pathSchema = z.string().startsWith("/", "wants an absolute path").max(4096);
const diskNumberSchema = z.int().positive().max(LIMITS.diskNumberMax);

export const addDiskSchema = z.strictObject({
  path: pathSchema,
  spare: z.boolean().default(false),
  force: z.boolean().default(false),
});

/** `3` or `#003`. */
export const diskParams = z.strictObject({
  disk: z
    .string()
    .regex(/^#?\d{1,3}$/, "wants a disk number")
    .transform((text) => Number(text.replace("#", ""))),
});
export const spareSchema = z.strictObject({ spare: z.boolean() });
export const replaceDiskSchema = z.strictObject({
  with: z.union([diskNumberSchema, pathSchema], { error: "wants a disk number or an absolute path" }).optional(),
  force: z.boolean().default(false),
});
/** In a query everything is text. */
export const flagQuery = z
  .enum(["true", "false"], "wants true or false")
  .default("false")
  .transform((text) => text === "true");
export const removeDiskQuery = z.strictObject({ force: flagQuery });

export const createGroupSchema = z.strictObject({
  name: nameSchema,
  disks: z.array(diskNumberSchema).min(2, "wants at least two disks").max(64),
  chunkBytes: z
    .int()
    .min(16 * KIB)
    .max(1 * MIB)
    .optional(),
  rowBytes: z.int().positive().optional(),
});

/** chn1 to chn8. */
const nodeSchema = z.string().regex(/^chn[1-8]$/, "wants a node name, chn1 to chn8");
export const createSharedSchema = z.strictObject({
  disks: z.array(diskNumberSchema).min(1, "wants at least one disk").max(4, "wants at most four disks"),
  backup: z.boolean().default(false),
  nodes: z.array(nodeSchema).max(8).optional(),
});
export const replaceSharedSchema = z.strictObject({ disk: diskNumberSchema, with: diskNumberSchema });
export const sharedPlaceSchema = z.strictObject({
  role: z.enum(["primary", "backup"], "wants primary or backup"),
  nodes: z.array(nodeSchema).min(1, "wants at least one node").max(8),
});
export const nodeParams = z.strictObject({ node: nodeSchema });

export const groupParams = z.strictObject({ group: z.string().max(64) });
export const assembleSchema = z.strictObject({ force: z.boolean().default(false) });

const taskShape = { group: nameSchema.optional(), action: z.enum(["pause", "resume"]).optional() };
export const scrubSchema = z.strictObject({
  ...taskShape,
  action: z.enum(["pause", "resume", "cancel"]).optional(),
  heal: z.boolean().default(true),
  everySeconds: z.int().min(0).max(LIMITS.scrubEverySecondsMax).optional(),
});
export const rebuildSchema = z.strictObject({
  ...taskShape,
  disk: diskNumberSchema.optional(),
  force: z.boolean().default(false),
  giveUp: z.boolean().default(false),
});
export const growSchema = z.strictObject({ ...taskShape, disk: diskNumberSchema.optional() });

export const createLuSchema = z.strictObject({
  name: luNameSchema,
  group: nameSchema.optional(),
  level: levelSchema.default(5),
  sizeBytes: sizeSchema.default("max"),
});

export const luParams = z.strictObject({ lu: z.string().max(64) });
export const resizeLuSchema = z.strictObject({
  group: nameSchema.optional(),
  sizeBytes: sizeSchema,
  force: z.boolean().default(false),
});
export const deleteLuQuery = z.strictObject({ group: nameSchema.optional() });

export const createFileSystemSchema = z.strictObject({
  name: nameSchema,
  group: nameSchema.optional(),
  level: levelSchema.default(5),
  sizeBytes: sizeSchema.default("max"),
  metadataBytes: z.int().positive().optional(),
  root: z
    .strictObject({
      mode: z.int().min(0).max(0o7777).default(0o755),
      uid: idSchema.default(0),
      gid: idSchema.default(0),
    })
    .prefault({}),
});

export const fileSystemParams = z.strictObject({ name: z.string().max(64) });

export const remountSchema = z.strictObject({ readOnly: z.boolean().default(false) });

export const checkSchema = z.strictObject({ data: z.boolean().default(false) });

/** A host is called what it calls itself (LM_MAXSTRLEN of X/Open XNFS). */
export const releaseLocksSchema = z
  .strictObject({
    host: z.string("wants the name of a client").min(1).max(1024).optional(),
    address: z
      .string("wants the address of a client")
      .refine((text) => isIP(text) !== 0, "wants an IPv4 or IPv6 address")
      .optional(),
  })
  .refine(({ host, address }) => host !== undefined || address !== undefined, "wants the name or address of a client")
  .transform(({ host = null, address = null }) => ({ host, address }));

/** `after` is what a page before said. */
export const locksQuery = z.strictObject({
  after: z.string().max(1024).optional(),
  limit: z.coerce.number().int().min(1).max(LIMITS.locksPageMax).default(LIMITS.locksPageMax),
});

export const filesQuery = z.strictObject({
  after: z.string().max(8192).optional(),
  limit: z.coerce.number().int().min(1).max(LIMITS.filesPageMax).default(LIMITS.filesPageMax),
});

export const removeExportQuery = z.strictObject({
  path: z.string().max(1024),
  client: clientSchema.optional(),
});

export const eventsQuery = z.strictObject({
  last: z.coerce.number().int().min(0).max(LIMITS.eventsMax).default(LIMITS.eventsMax),
});
