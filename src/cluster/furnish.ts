import { realpathSync } from "node:fs";
import type { DiskRow, ExportRow, FileSystemRow, GroupRow, SharedGroupRow } from "../control/types.js";
import type { SharedRole } from "../ha/shared/group.js";
import { StorageError } from "../lib/errors.js";
import type { Notice } from "./installer.js";
import type { PlannedData } from "./plan.js";
import { FURNISH_STEPS } from "./steps.js";

/** A node's management API. */
export interface NodeApi {
  get<T>(path: string): Promise<T>;
  post<T>(path: string, body: object): Promise<T>;
}

/** What the node that is installed first does before its partner comes. */
export interface FurnishOrders {
  readonly nodes: readonly string[];
  readonly data: PlannedData | null;
}

/**
 * Partitions and page stores for all nodes on the shared LU and its backup, then the group, file system and exports of the plan. Each part looks first at what
 * is there, and reports its begin and its end.
 * @throws what the management API refuses
 */
export async function furnishNode(
  api: NodeApi,
  orders: FurnishOrders,
  report: (notice: Notice) => void,
): Promise<void> {
  const step = async (id: string, action: () => Promise<string>) => {
    report({ kind: "step", step: id, state: "begun", what: "" });
    report({ kind: "step", step: id, state: "done", what: await action() });
  };
  const { nodes, data } = orders;
  const whose = nodes.join(" and ");
  const onShared = (role: SharedRole, what: "partitions" | "stores", named: string) => async () => {
    const { name } = await api.post<SharedGroupRow>(`/v1/shared/${what}`, { role, nodes });
    return `${named} of ${whose} on group ${name}`;
  };
  await step(FURNISH_STEPS.partitionsShared, onShared("primary", "partitions", "partitions"));
  await step(FURNISH_STEPS.partitionsBackup, onShared("backup", "partitions", "partitions"));
  await step(FURNISH_STEPS.storesShared, onShared("primary", "stores", "file systems"));
  await step(FURNISH_STEPS.storesBackup, onShared("backup", "stores", "file systems"));
  if (data === null) return;
  await step(FURNISH_STEPS.disks, () => addDisks(api, data));
  await step(FURNISH_STEPS.group, () => createGroup(api, data));
  await step(FURNISH_STEPS.fileSystem, () => createFileSystem(api, data));
  await step(FURNISH_STEPS.exports, () => addExports(api, data));
}

async function addDisks(api: NodeApi, { disks }: PlannedData): Promise<string> {
  const rows = await api.get<DiskRow[]>("/v1/disks");
  for (const place of disks) if (rowOf(rows, place)?.number == null) await api.post("/v1/disks", { path: place });
  return `disks ${(await numbersOf(api, disks)).map((number) => `#${String(number).padStart(3, "0")}`).join(" ")}`;
}

async function createGroup(api: NodeApi, { group: name, disks }: PlannedData): Promise<string> {
  const wanted = await numbersOf(api, disks);
  const found = (await api.get<GroupRow[]>("/v1/groups")).find((group) => group.name === name);
  if (found === undefined) {
    await api.post("/v1/groups", { name, disks: wanted });
    return `group ${name} created`;
  }
  if ([...found.disks].sort().join() === [...wanted].sort().join()) return `group ${name} was there already`;
  throw new StorageError("EEXIST", `there is a group ${name} already, on other disks than the plan names`);
}

async function createFileSystem(
  api: NodeApi,
  { group, fileSystem: name, level, rootMode }: PlannedData,
): Promise<string> {
  const found = (await api.get<FileSystemRow[]>("/v1/file-systems")).find((one) => one.name === name);
  if (found !== undefined) return `file system ${name} was there already`;
  await api.post("/v1/file-systems", { name, group, level, root: { mode: rootMode } });
  return `file system ${name} created`;
}

async function addExports(api: NodeApi, { fileSystem, exports }: PlannedData): Promise<string> {
  const path = `/${fileSystem}`;
  const rows = await api.get<ExportRow[]>("/v1/exports");
  for (const { client, squash, privilegedPort } of exports) {
    if (rows.some((row) => row.path === path && row.client === client)) continue;
    await api.post("/v1/exports", { path, client, squash, privilegedPort });
  }
  return exports.length === 0
    ? `nothing is exported`
    : `${path} exported to ${exports.map(({ client }) => client).join(", ")}`;
}

async function numbersOf(api: NodeApi, disks: readonly string[]): Promise<number[]> {
  const rows = await api.get<DiskRow[]>("/v1/disks");
  return disks.map((place) => {
    const number = rowOf(rows, place)?.number;
    if (number == null) throw new StorageError("ENOENT", `the node does not see disk ${place}`);
    return number;
  });
}

function rowOf(rows: readonly DiskRow[], place: string): DiskRow | undefined {
  let real = place;
  try {
    real = realpathSync(place);
  } catch {
    // It is not there: the management API will say so.
  }
  return rows.find(({ path }) => path === real || path === place);
}
