import http from "node:http";
import { pipeline } from "node:stream/promises";
import type { ErrorBody } from "../control/types.js";
import { isStorageError, messageOf } from "../lib/errors.js";
import { CliError } from "./errors.js";

interface Patience {
  /** When an answer is not there by then, the daemon is asked whether it is. */
  readonly askMs: number;
  /** A daemon that answers nothing for so long more is stopped, or hangs: it works in portions of some milliseconds. */
  readonly silentMs: number;
}

const PATIENCE: Patience = { askMs: 5000, silentMs: 5000 };

type Method = "GET" | "POST" | "DELETE";
export type Query = Readonly<Record<string, string | number | undefined>>;

/** Chosen when the first request is made. */
export type SocketChoice = () => Promise<string>;

/** Speaks to one daemon over its management socket. */
export class ApiClient {
  socket = "";
  readonly #choose: SocketChoice;

  constructor(
    socket: string | SocketChoice,
    private readonly patience: Patience = PATIENCE,
  ) {
    this.#choose = typeof socket === "string" ? async () => socket : socket;
  }

  get<T>(path: string, query?: Query): Promise<T> {
    return this.#call("GET", path, query);
  }

  post<T>(path: string, body: object): Promise<T> {
    return this.#call("POST", path, undefined, body);
  }

  delete<T>(path: string, query?: Query): Promise<T> {
    return this.#call("DELETE", path, query);
  }

  /** Calls `onLine` for every line that arrives; resolves when the daemon ends the stream. */
  async follow(path: string, query: Query, onLine: (line: string) => void): Promise<void> {
    const response = await this.#send("GET", path, query);
    let rest = "";
    for await (const piece of response.setEncoding("utf8")) {
      const lines = (rest + String(piece)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    }
  }

  /** An answer as it comes. @throws CliError when it is refused; while it is read, when the daemon goes away */
  async *stream(path: string, query: Query): AsyncGenerator<Buffer> {
    const response = await this.#send("GET", path, query);
    if ((response.statusCode ?? 500) >= 400) throw await refusal(response);
    const pieces = response[Symbol.asyncIterator]();
    try {
      for (let next = await this.#next(pieces); next !== null; next = await this.#next(pieces)) yield next;
    } finally {
      response.destroy();
    }
  }

  async #next(pieces: AsyncIterator<unknown>): Promise<Buffer | null> {
    try {
      const { value, done } = await pieces.next();
      return done === true ? null : Buffer.isBuffer(value) ? value : Buffer.from(String(value));
    } catch (error) {
      throw new CliError(`the daemon at ${this.socket} went away: ${messageOf(error)}`);
    }
  }

  /** Send bytes as they come, and wait for the answer. Once that is there nothing more is sent. */
  async upload<T>(path: string, query: Query, source: AsyncIterable<Buffer>): Promise<T> {
    if (this.socket === "") this.socket = await this.#choose();
    const headers = { "content-type": "application/octet-stream" };
    const options = { socketPath: this.socket, method: "POST", path: path + encodeQuery(query), headers, agent: false };
    const request = http.request(options);
    const answered = new Promise<http.IncomingMessage>((resolve, reject) => {
      request.once("response", resolve);
      request.once("error", (error: NodeJS.ErrnoException) => reject(this.#explain(error)));
    });
    const sent = pipeline(source, request);
    const failed = sent.then(
      () => answered,
      (error: unknown) => (isStorageError(error) ? Promise.reject(error) : answered),
    );
    try {
      return await answerOf<T>(await Promise.race([answered, failed]));
    } finally {
      request.destroy();
    }
  }

  async #call<T>(method: Method, path: string, query?: Query, body?: object): Promise<T> {
    const response = await this.#send(method, path, query, body);
    return await answerOf<T>(response);
  }

  async #send(method: Method, path: string, query: Query = {}, body?: object): Promise<http.IncomingMessage> {
    if (this.socket === "") this.socket = await this.#choose();
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers = text === undefined ? {} : { "content-type": "application/json" };
    return await new Promise((resolve, reject) => {
      const options = { socketPath: this.socket, method, path: path + encodeQuery(query), headers, agent: false };
      const request = http.request(options, (response) => {
        watch.end();
        resolve(response);
      });
      const watch = new AliveWatch(this.socket, this.patience, (what) => request.destroy(new CliError(what)));
      request.once("error", (error: NodeJS.ErrnoException) => {
        watch.end();
        reject(error instanceof CliError ? error : this.#explain(error));
      });
      request.end(text);
    });
  }

  #explain(error: NodeJS.ErrnoException): CliError {
    if (error.code === "ENOENT" || error.code === "ECONNREFUSED") {
      return new CliError(
        `no daemon answers at ${this.socket} (start it with "stripeward serve" or "stripeward rig up")`,
      );
    }
    // Those that wait already are more than the kernel keeps for it.
    if (error.code === "EAGAIN") return new CliError(silentText(this.socket));
    if (error.code === "EACCES") return new CliError(`not allowed to open the management socket ${this.socket}`);
    return new CliError(`the daemon at ${this.socket} went away: ${error.message}`);
  }
}

function silentText(socket: string): string {
  return `the daemon at ${socket} takes connections and answers nothing: it is stopped (SIGSTOP) or hangs; look at its process`;
}

/** While an answer is waited for, which may take hours: does the daemon still run? The kernel takes connections for one that is stopped, too. */
class AliveWatch {
  readonly #timer: NodeJS.Timeout;

  constructor(
    private readonly socket: string,
    private readonly patience: Patience,
    private readonly onSilent: (what: string) => void,
  ) {
    this.#timer = setInterval(() => this.#ask(), patience.askMs);
    this.#timer.unref();
  }

  end(): void {
    clearInterval(this.#timer);
  }

  /** Any answer will do; that it went away the request itself finds out. */
  #ask(): void {
    const options = { socketPath: this.socket, path: "/v1/alive", agent: false, timeout: this.patience.silentMs };
    const asked = http.get(options, (response) => response.resume());
    asked.on("error", () => {});
    asked.on("timeout", () => {
      asked.destroy();
      this.onSilent(silentText(this.socket));
    });
  }
}

async function answerOf<T>(response: http.IncomingMessage): Promise<T> {
  if ((response.statusCode ?? 500) >= 400) throw await refusal(response);
  // The daemon and this client are built from the same control/types.ts.
  return JSON.parse(await textOf(response)) as T;
}

async function refusal(response: http.IncomingMessage): Promise<CliError> {
  const text = await textOf(response);
  try {
    const { error } = JSON.parse(text) as ErrorBody;
    return new CliError(error.message, error.code);
  } catch {
    return new CliError(`the daemon answered with status ${response.statusCode}: ${text.slice(0, 200)}`);
  }
}

async function textOf(response: http.IncomingMessage): Promise<string> {
  let text = "";
  for await (const piece of response.setEncoding("utf8")) text += piece;
  return text;
}

function encodeQuery(query: Query): string {
  const parts = Object.entries(query).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${encodeURIComponent(value)}`],
  );
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}
