import path from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { messageOf } from "../lib/errors.js";
import { parseSize } from "../lib/size.js";
import { ApiClient, type SocketChoice } from "./client.js";
import { UsageError } from "./errors.js";
import { Output } from "./output.js";
import { rigSocket } from "./rig/choose.js";

export interface CommonOptions {
  readonly json?: true;
  readonly dir?: string;
  readonly socket?: string;
  readonly node?: string;
}

export interface Context {
  readonly api: ApiClient;
  readonly out: Output;
}

const DEFAULT_SOCKET = "/run/stripeward/stripeward.sock";

export function jsonOption(): Option {
  return new Option("--json", "one JSON document on stdout, nothing else there");
}

/** A command that speaks to a daemon. */
export function withDaemonOptions(command: Command): Command {
  return command
    .addOption(jsonOption())
    .addOption(new Option("--dir <dir>", "the daemon of this rig").conflicts("socket"))
    .addOption(
      new Option("--node <name>", "of a rig with two: chn1 or chn5 (default: the one that serves)").conflicts("socket"),
    )
    .addOption(new Option("--socket <path>", `management socket (or STRIPEWARD_SOCKET; default ${DEFAULT_SOCKET})`));
}

export function contextOf(options: CommonOptions): Context {
  return { api: new ApiClient(socketOf(options)), out: new Output(options.json === true) };
}

/** A person looks on: progress is redrawn in place, and shown without being asked for. */
export function isInteractive(out: Output): boolean {
  return out.terminal && process.env.TERM !== "dumb";
}

function socketOf({ dir, socket, node }: CommonOptions): string | SocketChoice {
  if (dir !== undefined) return rigSocket(path.resolve(dir), node);
  if (node !== undefined) throw new UsageError("--node picks a daemon of a rig: it wants --dir, too");
  return socket ?? process.env.STRIPEWARD_SOCKET ?? DEFAULT_SOCKET;
}

/** Argument parsers for commander: what they throw is wrong usage. */
export function sizeArgument(text: string): number {
  try {
    return parseSize(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

export function sizeOrMaxArgument(text: string): number | "max" {
  return text === "max" ? "max" : sizeArgument(text);
}

export function countArgument(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`wants a whole number from ${min} to ${max}`);
  };
}

export function levelArgument(text: string): 1 | 5 {
  if (text === "1") return 1;
  if (text === "5") return 5;
  throw new InvalidArgumentError("wants 5 or 1");
}

export function octalArgument(text: string): number {
  if (/^[0-7]{3,4}$/.test(text)) return Number.parseInt(text, 8);
  throw new InvalidArgumentError("wants an octal mode such as 0755");
}

/** `3` or `#003`. */
export function diskNumberArgument(text: string): number {
  const match = /^#?(\d{1,3})$/.exec(text);
  if (match !== null && Number(match[1]) > 0) return Number(match[1]);
  throw new InvalidArgumentError(`"${text}" is no disk number (examples: 3, #003)`);
}

/** A disk number, or else a path. */
export function diskOrPathArgument(text: string): number | string {
  return /^#?\d{1,3}$/.test(text) ? diskNumberArgument(text) : path.resolve(text);
}

/** `1`, `#001`, `1-5`, `1,2,5`: gathered over several arguments. */
export function diskNumbersArgument(text: string, previous: readonly number[] | undefined): number[] {
  const numbers = [...(previous ?? [])];
  for (const part of text.split(",")) {
    const match = /^#?(\d{1,3})(?:-#?(\d{1,3}))?$/.exec(part);
    if (match === null) throw new InvalidArgumentError(`"${part}" is no disk number (examples: 1, #001, 1-5)`);
    const first = Number(match[1]);
    for (let number = first; number <= Number(match[2] ?? first); number++) numbers.push(number);
  }
  return numbers;
}
