import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import http from "node:http";
import path from "node:path";
import { createInterface } from "node:readline";

/*
 * What a node does to be installed. The terminal serves this file (cluster/installer-script.ts) to be run by Node alone, before anything of
 * ours is on the node: it uses Node's own modules and nothing else. Each step looks at what is there first, so that running it again goes on.
 */

/** Where the terminal is, and what it will say there. */
export interface PublicInvitation {
  /** http://HOST:PORT */
  readonly origin: string;
  readonly node: string;
  /** Hexadecimal, of the answer to GET /config/NODE: orders that somebody changed on the way are not followed. */
  readonly ordersSha256: string;
}

/** By what the terminal knows us, too. */
export interface Invitation extends PublicInvitation {
  readonly token: string;
}

/** Name of the variable with the token: an argument could be read by everybody on the machine. */
export const TOKEN_VARIABLE = "STRIPEWARD_TOKEN";

/** What the terminal answers to GET /config/NODE. */
export interface NodeOrders {
  readonly node: string;
  readonly install: string;
  readonly state: string;
  readonly socket: string;
  readonly config: string;
  /** Content of the configuration file. */
  readonly configuration: string;
  /** Shell command; null: start the daemon here, detached. */
  readonly start: string | null;
  readonly environment: Readonly<Record<string, string>>;
  readonly bundle: {
    readonly name: string;
    readonly version: string;
    readonly sha256: string;
    readonly platform: string;
  };
  /** What is to be done on the node's management API, handed to `node furnish`; null: nothing. */
  readonly furnish: unknown;
  readonly startMs: number;
}

/** progress: for people. step: a part of the sequence. complete: the end, with version and process. failed: the end, with why. */
export interface Notice {
  readonly kind: "progress" | "step" | "complete" | "failed";
  readonly what: string;
  readonly step?: string;
  readonly state?: "begun" | "done";
  readonly version?: string;
  readonly pid?: number;
}

interface Status {
  readonly pid: number;
  readonly node: string;
  readonly version: string;
}

const POLL_MS = 100;
/** A connection to the terminal that says nothing for so long is given up. */
const SILENT_MS = 30_000;
const LOCK_MS = 30_000;

/** Install this node and report it. @throws Error with one sentence, which the terminal has been told, too */
export async function installNode(invitation: Invitation, say: (what: string) => void): Promise<void> {
  try {
    await install(invitation, say);
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    await notify(invitation, { kind: "failed", what }).catch(() => {});
    throw error;
  }
}

/** The token out of the environment, which the processes that are started from here do not inherit. */
export function takeToken(): string {
  const token = process.env[TOKEN_VARIABLE] ?? "";
  delete process.env[TOKEN_VARIABLE];
  return token;
}

async function ordersOf(invitation: Invitation): Promise<NodeOrders> {
  const orders = await fetchAll(invitation, "GET", `/config/${invitation.node}`);
  if (createHash("sha256").update(orders).digest("hex") !== invitation.ordersSha256)
    throw new Error(
      "what the terminal says was changed on the way, or it is another terminal: nothing was done; use the command that it printed last",
    );
  return JSON.parse(String(orders)) as NodeOrders;
}

async function install(invitation: Invitation, say: (what: string) => void): Promise<void> {
  const orders = await ordersOf(invitation);
  const tell = async (what: string) => {
    say(what);
    await notify(invitation, { kind: "progress", what });
  };
  const here = `${process.platform}-${process.arch}`;
  if (here !== orders.bundle.platform)
    throw new Error(`this machine is ${here}, and the release is for ${orders.bundle.platform}`);
  makeFolder(orders.install, 0o755);
  const release = await lockFolder(orders.install);
  try {
    await notify(invitation, { kind: "step", step: `install ${orders.node}`, state: "begun", what: "" });
    const place = await unpackRelease(invitation, orders, tell);
    writeConfiguration(orders);
    const status = await startDaemon(orders, place, tell);
    const what = `version ${status.version} runs as process ${status.pid}`;
    await notify(invitation, { kind: "step", step: `install ${orders.node}`, state: "done", what });
    if (orders.furnish !== null) await furnish(invitation, orders, place, say);
    await notify(invitation, { kind: "complete", what, version: status.version, pid: status.pid });
    say(`${orders.node} is installed: ${what}`);
  } finally {
    release();
  }
}

/** As lib/make-folder.ts, which is not here yet: Node's own recursive mkdir goes round for ever below /proc. */
function makeFolder(folder: string, mode: number): void {
  const { status, stderr, error } = spawnSync("mkdir", ["-p", "-m", mode.toString(8), "--", folder], {
    encoding: "utf8",
  });
  if (status !== 0)
    throw new Error(`the folder ${folder} cannot be made: ${error?.message ?? stderr.trim().split("\n")[0]}`);
}

/** Who was here before may still be about to notice that its terminal is gone. */
async function lockFolder(folder: string): Promise<() => void> {
  const file = path.join(folder, ".installing");
  for (let waitedMs = 0; ; waitedMs += POLL_MS) {
    try {
      writeFileSync(file, String(process.pid), { flag: "wx", mode: 0o600 });
      return () => rmSync(file, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const holder = existsSync(file) ? Number(readFileSync(file, "utf8")) : 0;
    if (holder === process.pid || !existsSync(`/proc/${holder}`)) rmSync(file, { force: true });
    else if (waitedMs >= LOCK_MS) throw new Error(`another installation (process ${holder}) is at work in ${folder}`);
    else await pause(POLL_MS);
  }
}

/** Fetch, verify, unpack beside what is there, and point `current` at it, in one step. @returns the folder of the release */
async function unpackRelease(
  invitation: Invitation,
  { install: folder, bundle }: NodeOrders,
  tell: (what: string) => Promise<void>,
): Promise<string> {
  const name = `${bundle.version}-${bundle.sha256.slice(0, 12)}`;
  const place = path.join(folder, "releases", name);
  // Renamed to its place when it was whole.
  if (!existsSync(place)) {
    await tell(`fetching ${bundle.name}`);
    const archive = await fetchAll(invitation, "GET", `/bundle/${bundle.name}`);
    const expected = String(await fetchAll(invitation, "GET", `/bundle/${bundle.name}.sha256`)).split(" ")[0];
    const sum = createHash("sha256").update(archive).digest("hex");
    if (sum !== expected || sum !== bundle.sha256)
      throw new Error(
        `the bundle was changed on the way: its checksum is ${sum}, not ${bundle.sha256}; nothing of it was unpacked`,
      );
    await tell(`unpacking ${archive.length} bytes into ${place}`);
    const fresh = path.join(folder, "releases", `.${name}.new`);
    rmSync(fresh, { recursive: true, force: true });
    makeFolder(fresh, 0o755);
    const { status, stderr, error } = spawnSync("tar", ["-xzf", "-", "--no-same-owner"], {
      cwd: fresh,
      input: archive,
    });
    if (status !== 0)
      throw new Error(`tar cannot unpack the bundle: ${error?.message ?? String(stderr).trim().split("\n")[0]}`);
    renameSync(fresh, place);
  }
  const link = path.join(folder, "current");
  const target = path.join("releases", name);
  if (existsSync(link) && readlinkSync(link) === target) return place;
  rmSync(`${link}.new`, { force: true });
  symlinkSync(target, `${link}.new`);
  renameSync(`${link}.new`, link);
  return place;
}

function writeConfiguration({ config, configuration, state, socket }: NodeOrders): void {
  makeFolder(state, 0o700);
  makeFolder(path.dirname(socket), 0o750);
  makeFolder(path.dirname(config), 0o755);
  if (existsSync(config) && readFileSync(config, "utf8") === configuration) return;
  // Nothing in it is secret, and the daemon's account has to read it.
  const descriptor = openSync(`${config}.new`, "w", 0o644);
  writeSync(descriptor, configuration);
  fsyncSync(descriptor);
  closeSync(descriptor);
  renameSync(`${config}.new`, config);
}

async function startDaemon(orders: NodeOrders, place: string, tell: (what: string) => Promise<void>): Promise<Status> {
  const before = await askStatus(orders.socket);
  if (before !== null) return checked(orders, before);
  await tell(orders.start === null ? "starting the daemon" : `starting the daemon: ${orders.start}`);
  const failed = orders.start === null ? spawnDaemon(orders, place) : runStart(orders.start);
  for (let waitedMs = 0; ; waitedMs += POLL_MS) {
    const status = await askStatus(orders.socket);
    if (status !== null) return checked(orders, status);
    const why = failed();
    if (why !== null) throw new Error(why);
    if (waitedMs >= orders.startMs) throw new Error(`the daemon does not answer at ${orders.socket}`);
    await pause(POLL_MS);
  }
}

function checked({ node, socket, bundle }: NodeOrders, status: Status): Status {
  if (status.node !== node) throw new Error(`node ${status.node} answers at ${socket}, not ${node}`);
  if (status.version === bundle.version) return status;
  throw new Error(
    `node ${node} runs version ${status.version} already, and the bundle is ${bundle.version}: stop it first`,
  );
}

/** @returns why it cannot come up any more, null while it may */
function spawnDaemon({ state, config, environment }: NodeOrders, place: string): () => string | null {
  const complaint = path.join(state, "daemon.err");
  const [out, err] = [openSync(path.join(state, "daemon.log"), "a", 0o600), openSync(complaint, "w", 0o600)];
  const main = path.join(place, "dist/src/cli/main.js");
  const env = { ...process.env, ...environment };
  const child = spawn(process.execPath, [main, "serve", "--config", config], {
    detached: true,
    stdio: ["ignore", out, err],
    env,
    cwd: "/",
  });
  closeSync(out);
  closeSync(err);
  let ended = false;
  child.once("exit", () => {
    ended = true;
  });
  child.once("error", () => {
    ended = true;
  });
  child.unref();
  return () => {
    if (!ended) return null;
    const words = readFileSync(complaint, "utf8").trim().split("\n").at(-1) ?? "";
    return `the daemon did not start: ${words.replace(/^stripeward: /, "") || `see ${state}/daemon.log`}`;
  };
}

function runStart(command: string): () => string | null {
  const { status, stderr, error } = spawnSync("sh", ["-c", command], { encoding: "utf8" });
  if (status === 0) return () => null;
  const why = error?.message ?? stderr.trim().split("\n").at(-1);
  return () => `the start command failed: ${why}`;
}

/** The rest is done by the release itself; it prints a notice a line. */
async function furnish(
  invitation: Invitation,
  { socket, furnish: orders, environment }: NodeOrders,
  place: string,
  say: (what: string) => void,
): Promise<void> {
  const main = path.join(place, "dist/src/cli/main.js");
  const child = spawn(process.execPath, [main, "node", "furnish", "--socket", socket], {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, ...environment },
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once("error", () => resolve(null));
    child.once("close", resolve);
  });
  let complaint = "";
  child.stderr.on("data", (piece) => {
    complaint += String(piece);
  });
  child.stdin.on("error", () => {});
  child.stdin.end(JSON.stringify(orders));
  for await (const line of createInterface({ input: child.stdout })) {
    const notice = JSON.parse(line) as Notice;
    if (notice.state === "done") say(notice.what);
    await notify(invitation, notice);
  }
  if ((await ended) !== 0)
    throw new Error(
      complaint
        .trim()
        .split("\n")
        .at(-1)
        ?.replace(/^stripeward: /, "") || "the node could not be furnished",
    );
}

async function notify(invitation: Invitation, notice: Notice): Promise<void> {
  await fetchAll(invitation, "POST", `/notice/${invitation.node}`, notice);
}

/** @throws Error with the terminal's own sentence */
function fetchAll({ origin, token }: Invitation, method: string, place: string, body?: object): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const request = http.request(
      new URL(place, origin),
      { method, headers, agent: false, timeout: SILENT_MS },
      (response) => {
        const pieces: Buffer[] = [];
        response.on("data", (piece: Buffer) => pieces.push(piece));
        response.once("error", reject);
        response.once("aborted", () => reject(new Error(`the terminal at ${origin} went away`)));
        response.once("end", () => {
          const content = Buffer.concat(pieces);
          if (response.statusCode === 200) resolve(content);
          else reject(new Error(sentence(content) ?? `the terminal at ${origin} answered ${response.statusCode}`));
        });
      },
    );
    request.once("timeout", () => request.destroy(new Error(`the terminal at ${origin} does not answer`)));
    request.once("error", (error) =>
      reject(new Error(`the terminal at ${origin} cannot be reached: ${error.message}`)),
    );
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

function sentence(content: Buffer): string | null {
  try {
    return (JSON.parse(String(content)) as { error: { message: string } }).error.message;
  } catch {
    return null;
  }
}

/** null: no daemon answers. */
export function askStatus(socketPath: string): Promise<Status | null> {
  return new Promise((resolve) => {
    const request = http.get({ socketPath, path: "/v1/status", agent: false, timeout: 5000 }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece) => {
        text += piece;
      });
      response.once("end", () => resolve(response.statusCode === 200 ? (JSON.parse(text) as Status) : null));
      response.once("error", () => resolve(null));
    });
    request.once("timeout", () => request.destroy());
    request.once("error", () => resolve(null));
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
