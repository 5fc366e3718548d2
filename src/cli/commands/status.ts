import { Command } from "commander";
import type { StatusReport } from "../../control/types.js";
import { formatSize } from "../../lib/size.js";
import { type CommonOptions, contextOf, withDaemonOptions } from "../context.js";
import type { Output } from "../output.js";
import { printDisks } from "./disk.js";
import { printExports } from "./export.js";
import { printFileSystems } from "./fs.js";
import { printGroups } from "./group.js";
import { printLus } from "./lu.js";

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
  out.line(`node ${status.node} is ${status.state.toUpperCase()}`);
  for (const warning of status.warnings) out.line(`  warning: ${warning}`);
  out.line(
    `process ${status.pid}, version ${status.version}, up ${duration(status.upSeconds)}, ${formatSize(status.residentBytes)} resident`,
  );
  out.line(nfsPort === null ? "NFS is not up" : `NFS on ${host} port ${nfsPort}`);
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

function duration(seconds: number): string {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}
