import { spawn } from "node:child_process";
import { constants } from "node:os";
import { Command } from "commander";
import { loadConfig } from "../../config/load.js";
import { jsonOption } from "../context.js";
import { daemonEnvironment } from "../daemon-environment.js";
import { Output } from "../output.js";

interface ServeOptions {
  readonly config: string;
  readonly check?: true;
  readonly json?: true;
}

export function serveCommand(): Command {
  return new Command("serve")
    .description("run the daemon in the foreground (SIGTERM: clean stop, SIGHUP: reload)")
    .requiredOption("--config <file>", "configuration (YAML)")
    .option("--check", "only validate the configuration")
    .addOption(jsonOption())
    .action(async ({ config: file, check, json }: ServeOptions) => {
      const config = loadConfig(file);
      if (check === true) {
        const out = new Output(json === true);
        out.result(config, () => out.line(`${file}: the configuration is valid`));
      } else if (process.env.UV_THREADPOOL_SIZE === undefined) {
        process.exitCode = await runWithThreads(config.pair !== null);
      } else {
        const { runDaemon } = await import("../../main.js");
        endWithLauncher();
        process.exitCode = await runDaemon(config);
      }
    });
}

/** Set for a daemon that was started by runWithThreads. */
const LAUNCHED = "STRIPEWARD_LAUNCHED";

/**
 * The daemon runs as a child with its environment; systemd/stripeward.service and the rig set it themselves. The channel between the two says nothing: its
 * end tells the child that this process is gone.
 */
function runWithThreads(hasPartner: boolean): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...daemonEnvironment({ hasPartner }), [LAUNCHED]: "1" },
  });
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  });
}

/** Whoever kills the process that he started (kill -9) means the daemon: it ends as abruptly, and the next one finds nothing in its way. */
function endWithLauncher(): void {
  if (process.env[LAUNCHED] === undefined) return;
  delete process.env[LAUNCHED];
  const end = () => {
    process.stderr.write("stripeward: the process that started this daemon is gone: ending at once\n");
    process.kill(process.pid, "SIGKILL");
  };
  if (!process.connected) end();
  process.once("disconnect", end);
  process.channel?.unref();
}
