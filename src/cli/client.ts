import http from "node:http";
import type { ErrorBody } from "../control/types.js";
import { CliError } from "./errors.js";

type Method = "GET" | "POST" | "DELETE";
export type Query = Readonly<Record<string, string | number | undefined>>;

/** Chosen when the first request is made. */
export type SocketChoice = () => Promise<string>;

/** Speaks to one daemon over its management socket. */
export class ApiClient {
  socket = "";
  readonly #choose: SocketChoice;

  constructor(socket: string | SocketChoice) {
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
    for await (const piece of response) {
      const lines = (rest + String(piece)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    }
  }

  async #call<T>(method: Method, path: string, query?: Query, body?: object): Promise<T> {
    const response = await this.#send(method, path, query, body);
    let text = "";
    for await (const piece of response) text += piece;
    const answer: unknown = JSON.parse(text);
    if ((response.statusCode ?? 500) >= 400) {
      const { error } = answer as ErrorBody;
      throw new CliError(error.message, error.code);
    }
    // The daemon and this client are built from the same control/types.ts.
    return answer as T;
  }

  async #send(method: Method, path: string, query: Query = {}, body?: object): Promise<http.IncomingMessage> {
    if (this.socket === "") this.socket = await this.#choose();
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers = text === undefined ? {} : { "content-type": "application/json" };
    return await new Promise((resolve, reject) => {
      const options = { socketPath: this.socket, method, path: path + encodeQuery(query), headers, agent: false };
      const request = http.request(options, (response) => resolve(response.setEncoding("utf8")));
      request.once("error", (error: NodeJS.ErrnoException) => reject(this.#explain(error)));
      request.end(text);
    });
  }

  #explain(error: NodeJS.ErrnoException): CliError {
    if (error.code === "ENOENT" || error.code === "ECONNREFUSED") {
      return new CliError(
        `no daemon answers at ${this.socket} (start it with "stripeward serve" or "stripeward rig up")`,
      );
    }
    if (error.code === "EACCES") return new CliError(`not allowed to open the management socket ${this.socket}`);
    return new CliError(`the daemon at ${this.socket} went away: ${error.message}`);
  }
}

function encodeQuery(query: Query): string {
  const parts = Object.entries(query).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${encodeURIComponent(value)}`],
  );
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}
