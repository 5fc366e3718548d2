import { spawn } from "node:child_process";
import { messageOf } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";

/**
 * Tells systemd how the service is doing. Node has no datagram Unix sockets, so the message goes through systemd-notify(1),
 * which is there whenever systemd is; see native-notes/sd-notify.md. Without NOTIFY_SOCKET it does nothing.
 */
export class ServiceNotifier {
  readonly #active: boolean;
  #timer: NodeJS.Timeout | undefined;
  #broken = false;

  constructor(
    private readonly log: Logger,
    private readonly env: NodeJS.ProcessEnv = process.env,
    private readonly command = "systemd-notify",
  ) {
    this.#active = (env.NOTIFY_SOCKET ?? "") !== "";
  }

  /** READY=1, and from now on a sign of life at a third of the watchdog's time, while the event loop turns. */
  ready(status: string): Promise<void> {
    const watchdogMs = Number(this.env.WATCHDOG_USEC ?? 0) / 1000;
    if (this.#active && watchdogMs > 0) {
      this.#timer = setInterval(() => void this.#send("WATCHDOG=1"), watchdogMs / 3);
      this.#timer.unref();
    }
    return this.#send("READY=1", `STATUS=${status}`);
  }

  reloading(): Promise<void> {
    return this.#send("RELOADING=1");
  }

  reloaded(status: string): Promise<void> {
    return this.#send("READY=1", `STATUS=${status}`);
  }

  stopping(): Promise<void> {
    return this.#send("STOPPING=1", "STATUS=writing everything to the disks");
  }

  /** Ends the signs of life; a stop that hangs is then ended by the watchdog. */
  close(): void {
    clearInterval(this.#timer);
  }

  #send(...assignments: readonly string[]): Promise<void> {
    if (!this.#active || this.#broken) return Promise.resolve();
    return new Promise((resolve) => {
      const failed = (error: unknown) => {
        this.#failed(error);
        resolve();
      };
      try {
        const child = spawn(this.command, [`--pid=${process.pid}`, ...assignments], { env: this.env, stdio: "ignore" });
        child.on("error", failed);
        child.once("exit", (code) => {
          if (code !== 0) this.log.warn({ code, message: assignments[0] }, "systemd-notify failed");
          resolve();
        });
      } catch (error) {
        // Some errors of fork (ENOMEM, EPERM) are thrown.
        failed(error);
      }
    });
  }

  /** A command that is not there stays away; what the system lacks for a moment (processes, memory, descriptors) is there the next time. */
  #failed(error: unknown): void {
    const { code } = error as NodeJS.ErrnoException;
    this.#broken = code === "ENOENT" || code === "EACCES";
    const what = this.#broken ? "systemd will not learn that we are up" : "it is tried again";
    this.log.error({ error: messageOf(error) }, `systemd-notify cannot be run: ${what}`);
  }
}
