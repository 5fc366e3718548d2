import { Command } from "commander";
import { version } from "../control/version.js";
import { backupCommand } from "./commands/backup.js";
import { clusterCommand } from "./commands/cluster.js";
import { diskCommand } from "./commands/disk.js";
import { eventsCommand } from "./commands/events.js";
import { exportCommand } from "./commands/export.js";
import { fsCommand } from "./commands/fs.js";
import { groupCommand } from "./commands/group.js";
import { lockCommand } from "./commands/lock.js";
import { luCommand } from "./commands/lu.js";
import { nodeCommand } from "./commands/node.js";
import { rigCommand } from "./commands/rig.js";
import { serveCommand } from "./commands/serve.js";
import { sharedCommand } from "./commands/shared.js";
import { statusCommand } from "./commands/status.js";

const EPILOGUE = `
Which daemon: --dir DIR (a rig), --socket PATH, or STRIPEWARD_SOCKET; by default /run/stripeward/stripeward.sock.
Every command takes --json: one JSON document on stdout and nothing else there.
Errors are one line on stderr; exit status 1, or 2 when the command was called wrongly.

To try it, without root and without disks of your own:
  stripeward rig up --dir rig --foreground
`;

/** The whole command line. Misuse is thrown as a CommanderError, not printed. */
export function program(): Command {
  const root = new Command("stripeward")
    .description("Redundant LUs over disks, files or loop devices, a checksummed file system on them, served over NFS.")
    .version(version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print help for a command")
    .addHelpText("after", EPILOGUE);
  const commands = [
    serveCommand(),
    statusCommand(),
    diskCommand(),
    groupCommand(),
    luCommand(),
    fsCommand(),
    exportCommand(),
    lockCommand(),
    backupCommand(),
    sharedCommand(),
    nodeCommand(),
    clusterCommand(),
    eventsCommand(),
    rigCommand(),
  ];
  for (const command of commands) root.addCommand(command);
  for (const command of everyCommand(root)) quieten(command);
  return root;
}

/** A command and all below it. */
function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap((child) => everyCommand(child))];
}

/** Commander's errors become exceptions, so that main() alone prints and exits. */
function quieten(command: Command): void {
  command.exitOverride().configureOutput({ outputError: () => {} });
}
