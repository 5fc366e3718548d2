import { Command } from "commander";
import type { FileLockRow, LocksPage, LuLockRow, ReleasedLocks } from "../../control/types.js";
import type { ApiClient } from "../client.js";
import { type CommonOptions, contextOf, withDaemonOptions } from "../context.js";
import type { Output } from "../output.js";

export function lockCommand(): Command {
  return new Command("lock")
    .description("locks of clients on files, and of this node on LUs")
    .addCommand(list())
    .addCommand(release());
}

function list(): Command {
  return withDaemonOptions(new Command("list"))
    .description("print the file-lock table: file name, locking state, kind, range, owner")
    .option("--lu", "the LU-lock table instead: LU name, locking state")
    .addHelpText(
      "after",
      "\nWAITING: it is next in the queue of the file. OFFERED: granted, the client has not confirmed it yet.",
    )
    .action(async (options: CommonOptions & { readonly lu?: true }) => {
      const { api, out } = contextOf(options);
      if (options.lu === true) {
        const rows = await api.get<LuLockRow[]>("/v1/lu-locks");
        out.result(rows, () => printLuLocks(out, rows));
      } else {
        const rows = await allLocks(api);
        out.result(rows, () => printFileLocks(out, rows));
      }
    });
}

function release(): Command {
  return withDaemonOptions(new Command("release"))
    .description("free all locks of a client that is dead; who waits for them gets them")
    .option("--host <name>", "the client, as lock list shows it")
    .option("--address <address>", "where it calls from: of several clients with one name, only this one")
    .addHelpText(
      "after",
      "\nWithout --address it is every client of that name. A client that is alive does not learn of it, and goes on writing as if it held them.",
    )
    .action(
      async ({ host, address, ...options }: CommonOptions & { readonly host?: string; readonly address?: string }) => {
        const { api, out } = contextOf(options);
        const released = await api.post<ReleasedLocks>("/v1/locks/release", { host, address });
        out.result(released, () => printReleased(out, released));
      },
    );
}

/** Page by page: the daemon goes on with its work between two of them. */
async function allLocks(api: ApiClient): Promise<FileLockRow[]> {
  const rows: FileLockRow[] = [];
  for (let after: string | null | undefined; after !== null; ) {
    const page: LocksPage = await api.get<LocksPage>("/v1/locks", { after });
    rows.push(...page.locks);
    after = page.next;
  }
  return rows;
}

const STATES: Readonly<Record<FileLockRow["state"], string>> = {
  held: "LOCKED",
  waiting: "WAITING",
  offered: "OFFERED",
  share: "SHARE",
};

function printFileLocks(out: Output, rows: readonly FileLockRow[]): void {
  out.table(
    ["FILE NAME", "LOCKING STATE", "KIND", "RANGE", "HOST", "ADDRESS", "PID", "FILE SYSTEM"],
    rows.map((row) => [
      ...[row.name, STATES[row.state], row.kind ?? "–", rangeCell(row), row.host, row.address],
      ...[row.pid === null ? "–" : String(row.pid), row.fileSystem],
    ]),
  );
}

function rangeCell({ first, last }: FileLockRow): string {
  if (first === null) return "–";
  return `${first}–${last ?? "end"}`;
}

function printLuLocks(out: Output, rows: readonly LuLockRow[]): void {
  out.table(
    ["LU NAME", "LOCKING STATE", "GROUP"],
    rows.map(({ name, node, group }) => [name, node === null ? "NOT LOCKED" : `LOCKED BY ${node}`, group]),
  );
}

function printReleased(out: Output, { host, address, held, waiting, shares }: ReleasedLocks): void {
  const client = [host, address].filter((part) => part !== null).join(" at ");
  if (held + waiting + shares === 0) out.line(`client ${client} has no locks`);
  else
    out.line(`client ${client}: ${held} locks, ${waiting} waiting requests and ${shares} share reservations released`);
}
