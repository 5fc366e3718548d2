import { randomBytes, timingSafeEqual } from "node:crypto";
import { createReadStream } from "node:fs";
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { z } from "zod";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import type { Bundle } from "./bundle.js";
import type { NodeOrders, Notice } from "./installer.js";
import { complaintScript, installerScript } from "./installer-script.js";

export interface InstallServerOptions {
  /** Where it listens: there alone. */
  readonly host: string;
  readonly port: number;
  readonly bundle: Bundle;
  /** Throws when the node must not be installed: it is not in the plan, or has no path to the shared LU. */
  readonly admit: (node: string) => Promise<void>;
  readonly ordersOf: (node: string) => NodeOrders;
  /** What it records is durable when it returns. Throws when the notice cannot be true. */
  readonly onNotice: (node: string, notice: Notice) => void;
}

interface Ticket {
  readonly token: string;
  /** Address of the first who used it; from then on it counts for that one only. */
  holder: string | null;
  /** The completion notice has come. */
  spent: boolean;
}

const STATUS: Readonly<Record<string, number>> = { EACCES: 403, ENOENT: 404, EINVAL: 400, EBUSY: 409 };

const noticeSchema = z.strictObject({
  kind: z.enum(["progress", "step", "complete", "failed"]),
  what: z.string().max(2048),
  step: z.string().max(64).optional(),
  state: z.enum(["begun", "done"]).optional(),
  version: z.string().max(64).optional(),
  pid: z.int().positive().optional(),
});

/**
 * The terminal's side of an installation over the network: installer, release, configuration, and where nodes report. HTTP without encryption, for a
 * network of management alone; who gets anything has the token, which counts for one node, one address and one installation.
 */
export class InstallServer {
  readonly #app: FastifyInstance;
  readonly #tickets = new Map<string, Ticket>();
  #listening = false;

  constructor(private readonly options: InstallServerOptions) {
    this.#app = fastify({ logger: false, bodyLimit: LIMITS.requestBytesMax, forceCloseConnections: true });
    this.#app.setErrorHandler((error, _request, reply) => answerError(error, reply));
    this.#app.setNotFoundHandler((_request, reply) =>
      answerError(new StorageError("ENOENT", "there is no such thing here"), reply),
    );
    this.#routes();
  }

  /** @throws StorageError EBUSY (the port is taken), EINVAL (not an address of this machine) */
  async listen(): Promise<void> {
    if (this.#listening) return;
    const { host, port } = this.options;
    try {
      await this.#app.listen({ host, port });
      this.#listening = true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EADDRINUSE")
        throw new StorageError(
          "EBUSY",
          `${host}:${port}, where the terminal should listen, is taken by another program`,
        );
      if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
        throw new StorageError("EINVAL", `${host} is no address of this machine (management.host)`);
      throw new StorageError("EINVAL", `the terminal cannot listen on ${host}:${port}: ${messageOf(error)}`);
    }
  }

  /** A new token for the node; the one before counts no more. @returns the URL of its installer */
  invite(node: string): string {
    const { host, port } = this.options;
    const token = randomBytes(18).toString("base64url");
    this.#tickets.set(node, { token, holder: null, spent: false });
    return `http://${host.includes(":") ? `[${host}]` : host}:${port}/install/${node}?token=${token}`;
  }

  close(): Promise<void> {
    return this.#app.close();
  }

  #routes(): void {
    const { bundle } = this.options;
    this.#app.get<{ Params: { node: string } }>("/install/:node", async (request, reply) => {
      const { node } = request.params;
      reply.type("text/javascript");
      try {
        const { token } = await this.#admitted(node, request);
        return reply.send(installerScript({ origin: `http://${request.headers.host}`, node, token }));
      } catch (error) {
        if (!isStorageError(error)) throw error;
        // What is piped into Node says why by itself.
        return reply.code(STATUS[error.code] ?? 500).send(complaintScript(messageOf(error)));
      }
    });
    this.#app.get<{ Params: { node: string } }>("/config/:node", async (request) => {
      await this.#admitted(request.params.node, request);
      return this.options.ordersOf(request.params.node);
    });
    this.#app.get(`/bundle/${bundle.name}`, (request, reply) => {
      this.#anyTicket(request);
      return reply
        .type("application/gzip")
        .header("content-length", bundle.byteCount)
        .send(createReadStream(bundle.file));
    });
    this.#app.get(`/bundle/${bundle.name}.sha256`, (request, reply) => {
      this.#anyTicket(request);
      return reply.type("text/plain").send(`${bundle.sha256}  ${bundle.name}\n`);
    });
    this.#app.post<{ Params: { node: string } }>("/notice/:node", (request, reply) => {
      const { node } = request.params;
      const ticket = this.#ticket(node, request);
      const notice = noticeSchema.safeParse(request.body);
      if (!notice.success) throw new StorageError("EINVAL", "this is no notice");
      this.options.onNotice(node, notice.data as Notice);
      if (notice.data.kind === "complete") ticket.spent = true;
      return reply.send({});
    });
  }

  async #admitted(node: string, request: FastifyRequest): Promise<Ticket> {
    await this.options.admit(node);
    return this.#ticket(node, request);
  }

  #ticket(node: string, request: FastifyRequest): Ticket {
    const ticket = this.#tickets.get(node);
    if (ticket === undefined) throw new StorageError("EACCES", `node ${node} is not being installed now`);
    if (!same(tokenOf(request), ticket.token))
      throw new StorageError(
        "EACCES",
        `the token for node ${node} is wrong: use the command that the terminal printed last`,
      );
    if (ticket.spent)
      throw new StorageError("EACCES", `the token for node ${node} has been used: it counts for one installation`);
    ticket.holder ??= request.ip;
    if (ticket.holder === request.ip) return ticket;
    throw new StorageError(
      "EACCES",
      `the token for node ${node} has been used from ${ticket.holder}, and counts for that address only`,
    );
  }

  #anyTicket(request: FastifyRequest): void {
    const token = tokenOf(request);
    const found = [...this.#tickets].find(([, ticket]) => same(token, ticket.token));
    if (found === undefined)
      throw new StorageError("EACCES", "the token is wrong: use the command that the terminal printed last");
    this.#ticket(found[0], request);
  }
}

function tokenOf({ headers: { authorization }, query }: FastifyRequest): string {
  const { token } = query as { token?: unknown };
  if (typeof token === "string") return token;
  return authorization?.replace(/^Bearer /, "") ?? "";
}

function same(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

function answerError(error: unknown, reply: FastifyReply): FastifyReply {
  const [code, status] = isStorageError(error) ? [error.code, STATUS[error.code] ?? 500] : ["EINVAL", 400];
  return reply.code(status).send({ error: { code, message: messageOf(error) } });
}
