import { spawn } from "node:child_process";
import { constants, statSync } from "node:fs";
import { access } from "node:fs/promises";
import net from "node:net";
import type { Writable } from "node:stream";
import { messageOf, StorageError } from "../lib/errors.js";
import { runCommand } from "./run-command.js";

/** A command that hangs holds a takeover up for so long at most. */
const COMMAND_MS_MAX = 10_000;
const ANSWER_BYTES_MAX = 64 * 1024;
/** A process that does not read its signs of life is not given more. */
const UNREAD_BYTES_MAX = 64;

/** Who has an address besides this machine. unknown: that cannot be found out here. failed: the command does not work. */
export type AddressCheck =
  | { readonly kind: "alone" }
  | { readonly kind: "held"; readonly by: string }
  | { readonly kind: "unknown" | "failed"; readonly why: string };

/** Another process that gives an address up when this one ends, or gives no sign of life. */
export interface AddressGuard {
  /** It runs no more: the address may be gone. */
  readonly ended: boolean;
  live(): void;
  /** Its work is over: the address is left alone. */
  release(): void;
}

interface Started {
  readonly input: Writable;
  readonly stop: () => void;
}

/**
 * `pair.address-command`: makes an address this machine's (and tells the network), or gives it up. An executable, `COMMAND VERB ADDRESS`; or, for a daemon
 * without privileges, a socket at which each connection is one such call: the words as a line, then what it says, and in the end `ok` or
 * `error: why` (systemd/stripeward-address, "serve").
 */
export class AddressCommand {
  constructor(readonly path: string) {}

  /** @throws StorageError EIO with what the command said, EINVAL */
  async change(action: "add" | "remove", host: string): Promise<void> {
    await this.#run(action, host);
  }

  /** Does another machine answer for this address? Takes a second. Changes nothing. */
  async check(host: string): Promise<AddressCheck> {
    try {
      const said = (await this.#run("check", host)).trim();
      const by = /^held by (\S{1,40})$/.exec(said)?.[1];
      if (by !== undefined) return { kind: "held", by };
      return said === "alone" ? { kind: "alone" } : { kind: "unknown", why: said.replace(/^unknown: /, "") };
    } catch (error) {
      return { kind: "failed", why: messageOf(error) };
    }
  }

  /** Why it cannot be called; null: it can. */
  async trouble(): Promise<string | null> {
    const isSocket = this.#isSocket();
    const can = await access(this.path, isSocket ? constants.W_OK : constants.X_OK).then(
      () => true,
      () => false,
    );
    return can ? null : `the address command ${this.path} cannot be ${isSocket ? "opened" : "run"}`;
  }

  guard(host: string, seconds: number): AddressGuard {
    const { input } = this.#start(["guard", wantAddress(host), String(seconds)], () => {
      guard.ended = true;
    });
    const guard = {
      ended: false,
      live: () => {
        if (!guard.ended && input.writableLength < UNREAD_BYTES_MAX) input.write(".");
      },
      release: () => {
        if (!guard.ended) input.end("q");
      },
    };
    return guard;
  }

  /**
   * Which of some addresses answer, each second, until the end of what is returned.
   * @param onRound  with those that do
   */
  reach(targets: readonly string[], onRound: (answered: readonly string[]) => void, onEnd: () => void): () => void {
    let rest = "";
    const hear = (text: string): void => {
      const lines = (rest + text).split("\n");
      rest = (lines.pop() ?? "").slice(-ANSWER_BYTES_MAX);
      for (const line of lines) onRound(line.split(" ").filter((word) => word !== ""));
    };
    const started = this.#start(["reach", ...targets], onEnd, hear);
    // It ends when it finds nobody who reads what it says.
    return () => started.stop();
  }

  /** From a process that ends at once: another one does it, and nobody waits for that. */
  abandon(host: string): void {
    if (net.isIP(host) === 0 || this.#isSocket()) return;
    spawn(this.path, ["remove", host], { stdio: "ignore", detached: true })
      .on("error", () => {})
      .unref();
  }

  async #run(verb: string, host: string): Promise<string> {
    const words = [verb, wantAddress(host)];
    const what = `the address command failed to ${verb} ${host}`;
    if (this.#isSocket()) return await ask(this.path, words, what);
    return await runCommand(this.path, words, { timeMsMax: COMMAND_MS_MAX, what });
  }

  /** Something that goes on, until its input ends or nobody reads its output. */
  #start(words: readonly string[], onEnd: () => void, onText?: (text: string) => void): Started {
    if (this.#isSocket()) return openSocket(this.path, words, onEnd, onText);
    // A session of its own: it is to outlive what ends this process.
    const child = spawn(this.path, words, { stdio: ["pipe", "pipe", "ignore"], detached: true });
    child.on("error", onEnd).on("exit", onEnd).unref();
    child.stdout.on("error", () => {}).setEncoding("utf8");
    child.stdout.on("data", onText ?? (() => {}));
    child.stdin.on("error", () => {});
    unref(child.stdin, child.stdout);
    const stop = (): void => {
      child.stdin.destroy();
      child.stdout.destroy();
    };
    return { input: child.stdin, stop };
  }

  #isSocket(): boolean {
    return statSync(this.path, { throwIfNoEntry: false })?.isSocket() === true;
  }
}

/** The words of a call are taken from the partner's heartbeat, too. @throws StorageError EINVAL */
function wantAddress(host: string): string {
  if (net.isIP(host) !== 0) return host;
  throw new StorageError("EINVAL", `${JSON.stringify(host)} is no address that could be moved`);
}

function openSocket(
  path: string,
  words: readonly string[],
  onEnd: () => void,
  onText: (text: string) => void = () => {},
): Started {
  const socket = net.connect(path);
  socket.setEncoding("utf8").on("data", onText);
  socket.on("error", () => {}).on("close", onEnd);
  socket.unref();
  socket.write(`${words.join(" ")}\n`);
  return { input: socket, stop: () => void socket.destroy() };
}

/** @throws StorageError EIO */
function ask(path: string, words: readonly string[], what: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = "";
    const socket = net.connect(path);
    const fail = (why: string): void => {
      socket.destroy();
      reject(new StorageError("EIO", `${what}: ${why}`));
    };
    socket.setTimeout(COMMAND_MS_MAX, () => fail("it does not answer"));
    socket.setEncoding("utf8").on("data", (text) => {
      said += String(text);
      if (said.length > ANSWER_BYTES_MAX) fail("it says too much");
    });
    socket.on("error", (error) => fail(error.message));
    socket.on("end", () => {
      const lines = said.trimEnd().split("\n");
      const last = lines.pop() ?? "";
      if (last === "ok") resolve(lines.join("\n"));
      else fail(last.replace(/^error: /, "") || "it gave no answer");
    });
    socket.end(`${words.join(" ")}\n`);
  });
}

function unref(...streams: readonly unknown[]): void {
  for (const stream of streams) (stream as { unref?: () => void }).unref?.();
}
