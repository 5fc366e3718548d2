import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { createReadStream } from "node:fs";
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { z } from "zod";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import type { Bundle } from "./bundle.js";
import type { NodeOrders, Notice } from "./installer.js";
import { installerScript } from "./installer-script.js";

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

/** What the node has to be told, by way of a person: everything that comes over the network afterwards is proven by it. */
export interface PrintedInvitation {
  /** http://HOST:PORT/install/NODE#SHA256, the checksum being that of the node's orders. */
  readonly url: string;
  /** Known to the node and the terminal; never in a URL or an argument, which others on the machine can read. */
  readonly token: string;
  /** Hexadecimal, of the installer as it is served. */
  readonly installerSha256: string;
}

interface Ticket {
  readonly token: string;
  /** As they are served, to the byte. */
  readonly installer: string;
  readonly orders: string;
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
 * The terminal's side of an installation over the network: installer, release, configuration, and where nodes report. HTTP without encryption. The printed
 * command holds the installer's checksum, the installer that of the orders, the orders that of the release: nobody on the way can change what is run. The
 * installer holds no secret; who gets anything else has the token, which counts for one node, one address and one installation, and is looked at first.
 */
export class InstallServer {
  readonly #app: FastifyInstance;
  readonly #tickets = new Map<string, Ticket>();
  #listening = false;

  constructor(private readonly options: InstallServerOptions) {
    this.#app = fastify({
      ...{ logger: false, bodyLimit: LIMITS.requestBytesMax, forceCloseConnections: true },
      ...{ requestTimeout: LIMITS.requestHeadMsMax, connectionTimeout: LIMITS.installStuckMsMax },
      http: { headersTimeout: LIMITS.requestHeadMsMax, connectionsCheckingInterval: LIMITS.requestCheckMs },
    });
    this.#app.server.maxConnections = LIMITS.installConnectionsMax;
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
      // One that cannot be taken (EMFILE) comes again.
      this.#app.server.on("error", () => {});
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

  /** A new token for the node; the one before counts no more. */
  invite(node: string): PrintedInvitation {
    const { host, port } = this.options;
    const token = randomBytes(18).toString("base64url");
    const origin = `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
    const orders = JSON.stringify(this.options.ordersOf(node));
    const ordersSha256 = sha256(orders);
    const installer = installerScript({ origin, node, ordersSha256 });
    this.#tickets.set(node, { token, installer, orders, holder: null, spent: false });
    return { url: `${origin}/install/${node}#${ordersSha256}`, token, installerSha256: sha256(installer) };
  }

  close(): Promise<void> {
    return this.#app.close();
  }

  #routes(): void {
    const { bundle } = this.options;
    this.#app.get<{ Params: { node: string } }>("/install/:node", (request, reply) => {
      const { installer } = this.#invited(request.params.node);
      return reply.type("text/javascript").send(installer);
    });
    this.#app.get<{ Params: { node: string } }>("/config/:node", async (request, reply) => {
      const { node } = request.params;
      const { orders } = this.#ticket(node, request);
      // Looks at the disks, and so comes after the token.
      await this.options.admit(node);
      return reply.type("application/json").send(orders);
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

  #invited(node: string): Ticket {
    const ticket = this.#tickets.get(node);
    if (ticket === undefined) throw new StorageError("EACCES", `node ${node} is not being installed now`);
    return ticket;
  }

  #ticket(node: string, request: FastifyRequest): Ticket {
    const ticket = this.#invited(node);
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

function tokenOf({ headers: { authorization } }: FastifyRequest): string {
  return authorization?.replace(/^Bearer /, "") ?? "";
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function same(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

function answerError(error: unknown, reply: FastifyReply): FastifyReply {
  const [code, status] = isStorageError(error) ? [error.code, STATUS[error.code] ?? 500] : ["EINVAL", 400];
  return reply.code(status).send({ error: { code, message: messageOf(error) } });
}
