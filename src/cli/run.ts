import { CommanderError } from "commander";
import { ConfigError } from "../config/written.js";
import { messageOf } from "../lib/errors.js";
import { UsageError } from "./errors.js";
import { tell } from "./output.js";
import { program } from "./program.js";

/** The whole command. @returns its exit status */
export async function runCommandLine(): Promise<number> {
  // A reader that goes away early (`| head`) is no error.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
  try {
    await program().parseAsync(process.argv);
    return typeof process.exitCode === "number" ? process.exitCode : 0;
  } catch (error) {
    return report(error);
  }
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return reportUsage(error);
  if (error instanceof ConfigError) for (const line of error.lines) tell(line);
  else tell(`stripeward: ${messageOf(error).replace(/\s*\n\s*/g, " ")}`);
  return error instanceof UsageError ? 2 : 1;
}

function reportUsage(error: CommanderError): number {
  if (error.exitCode === 0) return 0;
  if (error.code !== "commander.help")
    tell(`stripeward: ${error.message.replace(/^error: /, "").replace(/\s*\n\s*/g, " ")}`);
  return 2;
}
