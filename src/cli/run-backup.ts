import type { BackupHeader } from "../backup/format.js";
import { inspectTarget, STANDARD_STREAM, type TargetState, TargetWriter } from "../backup/target.js";
import { transferBackup } from "../backup/transfer.js";
import type { BackupRow } from "../control/types.js";
import { messageOf } from "../lib/errors.js";
import { ByteProgress } from "./byte-progress.js";
import type { ApiClient, Query } from "./client.js";
import { CliError } from "./errors.js";

export interface RunOrder {
  /** null: the shared LU. */
  readonly fileSystem: string | null;
  /** A path, or "-". */
  readonly to: string;
  readonly full: boolean;
  /** Whatever stands there. */
  readonly overwrite: boolean;
}

/** One that was made, with what it read. */
export interface MadeBackup extends BackupRow {
  readonly dataBytes: number;
  /** It goes on from one that was broken off. */
  readonly resumed: boolean;
}

/**
 * Have a daemon make a backup and write it to its target: this process writes, with its own rights.
 * @throws CliError, StorageError: one sentence that names what failed
 */
export async function runBackup(api: ApiClient, order: RunOrder): Promise<MadeBackup> {
  const { fileSystem, to, full } = order;
  const start = startOf(order, order.overwrite ? { kind: "empty" } : await inspectTarget(to));
  const query = { fileSystem: fileSystem ?? undefined, full: String(full), target: to, ...start.query };
  const { header, dataBytes, bytes } = await transfer(api, query, order, start.at);
  const row = await api.post<BackupRow>(`/v1/backups/${header.backup}/finished`, { target: to, bytes });
  return { ...row, dataBytes, resumed: header.continues !== null };
}

/** Where writing begins, and what is asked of the daemon for it. @throws CliError when something stands there */
function startOf({ to }: RunOrder, state: TargetState): { at: number; query: Query } {
  if (state.kind === "foreign")
    throw new CliError(`${to} holds something that is no backup: name another target, or give --overwrite`);
  if (state.kind === "finished") {
    const { name, time } = state.header;
    throw new CliError(`${to} holds a finished backup of ${name} of ${time}: name another target, or give --overwrite`);
  }
  if (state.kind !== "unfinished") return { at: 0, query: {} };
  const { ino = 0, group = 0 } = state.part.last ?? {};
  return { at: state.at, query: { resume: state.part.header.backup, ino, group } };
}

async function transfer(
  api: ApiClient,
  query: Query,
  { to }: RunOrder,
  from: number,
): Promise<{ header: BackupHeader; dataBytes: number; bytes: number }> {
  const pieces = api.stream("/v1/backups/stream", query);
  // The daemon's first word comes before the target is touched: it may refuse.
  const first = await pieces.next().catch((error: unknown) => {
    throw explainRefusal(error, to, query);
  });
  const writer = await TargetWriter.open(to, from);
  const progress = new ByteProgress("backup");
  try {
    const all = startingWith(first, pieces);
    const { header, dataBytes } = await transferBackup(all, writer, (done, total) => progress.show(done, total));
    return { header, dataBytes, bytes: writer.byteCount };
  } catch (error) {
    throw explainBreak(error, await isThere(to));
  } finally {
    progress.end();
    await pieces.return(undefined);
    await writer.close();
  }
}

async function* startingWith(first: IteratorResult<Buffer>, rest: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  if (first.done !== true) yield first.value;
  yield* rest;
}

function explainRefusal(error: unknown, to: string, { resume }: Query): unknown {
  if (!(error instanceof CliError) || resume === undefined) return error;
  return new CliError(`${to} cannot be gone on with: ${error.message}; --overwrite begins anew`, error.code);
}

/** What is there may be gone on from. */
async function isThere(to: string): Promise<boolean> {
  if (to === STANDARD_STREAM) return false;
  const state = await inspectTarget(to).catch(() => null);
  return state?.kind === "unfinished";
}

function explainBreak(error: unknown, there: boolean): CliError {
  const code = error instanceof CliError ? error.code : undefined;
  const hint = there ? "; the same command again goes on from what is there" : "";
  return new CliError(`the backup was broken off: ${messageOf(error)}${hint}`, code);
}
