import { Command } from "commander";
import { isUnderWay } from "../../control/task-state.js";
import type { ClientsRow, GroupRow, StatusReport } from "../../control/types.js";
import { plural } from "../../lib/plural.js";
import { formatSize } from "../../lib/size.js";
import { type CommonOptions, contextOf, withDaemonOptions } from "../context.js";
import { formatDuration } from "../duration.js";
import type { Output } from "../output.js";
import { progressLine } from "../progress.js";
import { printDisks } from "./disk.js";
import { printExports } from "./export.js";
import { printFileSystems } from "./fs.js";
import { printGroups } from "./group.js";
import { printLus } from "./lu.js";
import { printPair } from "./node.js";

export function statusCommand(): Command {
  return withDaemonOptions(new Command("status"))
    .description("print what the daemon has and how it is")
    .action(async (options: CommonOptions) => {
      const { api, out } = contextOf(options);
      const status = await api.get<StatusReport>("/v1/status");
      out.result(status, () => printStatus(out, status));
    });
}

export function printStatus(out: Output, status: StatusReport): void {
  const { host, nfsPort } = status.service;
  out.line(`node ${status.node} is ${status.state.toUpperCase()}${status.role === "standby" ? ", standing by" : ""}`);
  for (const warning of status.warnings) out.line(`  warning: ${warning}`);
  out.line(
    `process ${status.pid}, version ${status.version}, up ${formatDuration(status.upSeconds)}, ${formatSize(status.residentBytes)} resident`,
  );
  out.line(nfsPort === null ? "NFS is not up" : `NFS on ${host} port ${nfsPort}`);
  printClients(out, status.clients);
  if (status.pair !== null) {
    out.line();
    printPair(out, status.pair);
  }
  printTasks(out, status.groups);
  const sections: [string, readonly unknown[], () => void][] = [
    ["Disks", status.disks, () => printDisks(out, status.disks)],
    ["Groups", status.groups, () => printGroups(out, status.groups)],
    ["LUs", status.lus, () => printLus(out, status.lus)],
    ["File systems", status.fileSystems, () => printFileSystems(out, status.fileSystems)],
    ["Exports", status.exports, () => printExports(out, status.exports)],
  ];
  for (const [title, rows, print] of sections) {
    out.line();
    out.line(rows.length === 0 ? `${title}: none` : `${title}:`);
    if (rows.length > 0) print();
  }
}

function printClients(out: Output, clients: ClientsRow): void {
  const { admitted, strangers, addresses, receivedBytes, queuedBytes, lentBytes, refused } = clients;
  const held = formatSize(receivedBytes + queuedBytes + lentBytes);
  const others = strangers === 0 ? "" : `, ${strangers} of them of strangers`;
  const trouble = refused === 0 ? "" : `, ${refused} refused or ended since the start`;
  const connections = plural(admitted + strangers, "connection");
  out.line(`${plural(addresses, "client")}, ${connections}${others}, ${held} held for them${trouble}`);
}

/** What works in the background, a bar each. */
function printTasks(out: Output, groups: readonly GroupRow[]): void {
  for (const { name, tasks } of groups) {
    const prefix = `group ${name}: `;
    for (const task of tasks.filter(isUnderWay)) {
      out.line(prefix + progressLine(task, out.columns - prefix.length));
    }
  }
}
