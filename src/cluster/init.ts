import { startEnvironment } from "../config/start-environment.js";
import type { SharedRole } from "../ha/shared/group.js";
import { messageOf, StorageError } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import type { Bundle } from "./bundle.js";
import { definePaths, initialiseGroup, refuseWithoutPath, type TerminalDisks } from "./disks.js";
import type { FurnishOrders } from "./furnish.js";
import { InstallServer, type PrintedInvitation } from "./install-server.js";
import { askStatus, type NodeOrders, type Notice, TOKEN_VARIABLE } from "./installer.js";
import { NODE_LEAST } from "./installer-script.js";
import { type ClusterPlan, configurationOf, type PlannedNode } from "./plan.js";
import { compareWithRecord, planFacts } from "./plan-change.js";
import { type ClusterRecord, lockFolder, RecordBook, terminalName } from "./record.js";
import { completionStep, sequenceOf, TERMINAL_STEPS } from "./steps.js";

export interface InitOptions {
  readonly plan: ClusterPlan;
  /** Of the record and the bundle. */
  readonly folder: string;
  readonly disks: TerminalDisks;
  /** Made when the first node is installed. */
  readonly bundle: (folder: string) => Promise<Bundle>;
  /** Run the installer for a node that is this machine; resolves with why it failed, or null. */
  readonly runLocal: (invitation: PrintedInvitation, node: string) => Promise<string | null>;
  /** What goes on, a sentence each. */
  readonly say: (what: string) => void;
}

/**
 * Bring a cluster up from nothing, step by step, and record each. Steps that the record calls done are passed over; all others look at what is there first.
 * @returns the record at the end
 * @throws StorageError with the sentence that stands in the record, too
 */
export async function initCluster(options: InitOptions): Promise<ClusterRecord> {
  const { plan, folder, say } = options;
  const release = lockFolder(folder);
  try {
    const harmless = compareWithRecord(plan, RecordBook.read(folder));
    if (harmless.length > 0) say(`The plan has changed in ${harmless.join(", ")}: it counts from here on.`);
    const book = RecordBook.open(folder, planFacts(plan), sequenceOf(plan));
    const setUp = new SetUp(options, book);
    try {
      await setUp.run();
    } finally {
      await setUp.close();
    }
    return book.record;
  } finally {
    release();
  }
}

/** One run of the sequence. */
class SetUp {
  readonly #by = terminalName();
  #server: InstallServer | null = null;
  #bundle: Bundle | null = null;
  /** Who waits for a node's last notice. */
  #waiting: { readonly node: string; readonly end: (failure: string | null) => void } | null = null;

  constructor(
    private readonly options: InitOptions,
    private readonly book: RecordBook,
  ) {}

  async run(): Promise<void> {
    const { plan, disks } = this.options;
    const names = plan.nodes.map(({ name }) => name);
    const { shared, backup, pathShared, pathBackup } = TERMINAL_STEPS;
    await this.#step(shared, () => initialiseGroup(disks, "primary", plan.shared, 1));
    await this.#step(backup, () => initialiseGroup(disks, "backup", plan.backup, 1 + plan.shared.length));
    await this.#step(pathShared, () => definePaths(disks, "primary", plan.shared, names));
    await this.#step(pathBackup, () => definePaths(disks, "backup", plan.backup, names));
    for (const node of plan.nodes) if (!this.book.isDone(completionStep(node.name))) await this.#install(node);
  }

  async close(): Promise<void> {
    await this.#server?.close();
  }

  async #step(id: string, action: () => Promise<string>): Promise<void> {
    const { book } = this;
    if (book.isDone(id)) return;
    book.begin(id, this.#by);
    try {
      const outcome = await action();
      book.done(id, this.#by, outcome);
      this.options.say(`${id}: ${outcome}`);
    } catch (error) {
      book.failed(id, this.#by, messageOf(error));
      throw error;
    }
  }

  async #install(node: PlannedNode): Promise<void> {
    let failure: string | null;
    try {
      failure = await this.#invite(node);
    } catch (error) {
      this.#fail(node.name, this.#by, messageOf(error));
      throw error;
    }
    if (failure === null) return;
    this.#fail(node.name, node.name, failure);
    throw new StorageError("EIO", `${node.name} could not be installed: ${failure}`);
  }

  /** @returns why the node could not be installed, null when its completion notice has come */
  async #invite(node: PlannedNode): Promise<string | null> {
    const { plan, disks, say } = this.options;
    await refuseWithoutPath(disks, node.name, { primary: plan.shared, backup: plan.backup });
    const bundle = await this.#madeBundle();
    await this.#refuseOtherVersion(node, bundle.version);
    const server = await this.#listening(bundle);
    const invitation = server.invite(node.name);
    const ended = new Promise<string | null>((end) => {
      this.#waiting = { node: node.name, end };
    });
    if (!node.local) {
      say(`Run this on ${node.name}, and again when it was interrupted:`);
      say(`  ${commandFor(invitation)}`);
      say(`waiting for the completion notice of ${node.name} …`);
    }
    const failure = node.local ? await this.#local(invitation, node.name, ended) : await ended;
    this.#waiting = null;
    return failure;
  }

  /** The installer's end counts when no notice has come. */
  async #local(invitation: PrintedInvitation, node: string, ended: Promise<string | null>): Promise<string | null> {
    const process = this.options.runLocal(invitation, node).then((why) => {
      if (why !== null) return why;
      return this.book.isDone(completionStep(node)) ? null : "the installer ended without a completion notice";
    });
    const first = await Promise.race([ended, process]);
    await process;
    return first;
  }

  async #madeBundle(): Promise<Bundle> {
    if (this.#bundle === null) this.options.say("packing the release …");
    this.#bundle ??= await this.options.bundle(this.options.folder);
    return this.#bundle;
  }

  async #listening(bundle: Bundle): Promise<InstallServer> {
    const { plan, disks } = this.options;
    const groups = { primary: plan.shared, backup: plan.backup } satisfies Record<SharedRole, readonly string[]>;
    this.#server ??= new InstallServer({
      ...plan.management,
      bundle,
      admit: async (name) => {
        plannedNode(plan, name);
        await refuseWithoutPath(disks, name, groups);
      },
      ordersOf: (name) => ordersOf(plan, plannedNode(plan, name), bundle),
      onNotice: (name, notice) => this.#notice(name, notice),
    });
    await this.#server.listen();
    return this.#server;
  }

  /** Both nodes must run one version: they write the same disks. */
  async #refuseOtherVersion({ name }: PlannedNode, version: string): Promise<void> {
    for (const other of this.options.plan.nodes) {
      const running = other.local ? ((await askStatus(other.socket))?.version ?? null) : null;
      const runs = running ?? (other.name === name ? null : (this.book.record.versions[other.name] ?? null));
      if (runs === null || runs === version) continue;
      const what = `node ${other.name} runs version ${runs}, and this release is ${version}: both nodes need one version`;
      throw new StorageError("EINVAL", what);
    }
  }

  #notice(node: string, notice: Notice): void {
    const { book } = this;
    const { say } = this.options;
    if (notice.kind === "progress") say(`${node}: ${notice.what}`);
    if (notice.kind === "step") this.#reported(node, notice);
    if (notice.kind === "failed") {
      this.#fail(node, node, notice.what);
      if (this.#isLocal(node)) this.#end(node, notice.what);
      else say(`${node}: failed: ${notice.what}; run the command there again when that is mended`);
    }
    if (notice.kind !== "complete") return;
    const step = completionStep(node);
    const open = book.record.steps.find((one) => one.node === node && one.state !== "done" && one.id !== step);
    if (open !== undefined)
      throw new StorageError("EINVAL", `node ${node} reports its completion, and "${open.id}" is not done`);
    book.setVersion(node, notice.version ?? "unknown");
    book.begin(step, node);
    book.done(step, node, notice.what);
    say(`${step}: ${notice.what}`);
    this.#end(node, null);
  }

  /** What was done in an earlier run stays as it was recorded then. */
  #reported(node: string, { step = "", state, what }: Notice): void {
    const { book } = this;
    if (book.record.steps.find(({ id }) => id === step)?.node !== node)
      throw new StorageError("EINVAL", `"${step}" is no step of node ${node}`);
    if (book.isDone(step)) return;
    if (state === "begun") book.begin(step, node);
    else {
      book.done(step, node, what);
      this.options.say(`${step}: ${what}`);
    }
  }

  /** On the step that is under way, or the first that is not done. */
  #fail(node: string, by: string, why: string): void {
    const own = this.book.record.steps.filter((step) => step.node === node && step.state !== "done");
    const step = own.find(({ state }) => state === "running") ?? own[0];
    if (step === undefined || (step.state === "failed" && step.outcome === why)) return;
    this.book.failed(step.id, by, why);
  }

  #isLocal(node: string): boolean {
    return plannedNode(this.options.plan, node).local;
  }

  #end(node: string, failure: string | null): void {
    if (this.#waiting?.node === node) this.#waiting.end(failure);
  }
}

function plannedNode(plan: ClusterPlan, name: string): PlannedNode {
  const found = plan.nodes.find((node) => node.name === name);
  if (found === undefined) throw new StorageError("ENOENT", `the plan has no node ${name}`);
  return found;
}

/** Everything that a node is told. */
function ordersOf(plan: ClusterPlan, node: PlannedNode, { name, version, sha256, platform }: Bundle): NodeOrders {
  const isFirst = plan.nodes[0] === node;
  const furnish: FurnishOrders | null = isFirst ? { nodes: plan.nodes.map((one) => one.name), data: plan.data } : null;
  const { install, state, socket, config, start } = node;
  return {
    ...{ node: node.name, install, state, socket, config, start, furnish },
    configuration: configurationOf(plan, node),
    environment: startEnvironment({ hasPartner: plan.nodes.length > 1 }),
    bundle: { name, version, sha256, platform },
    startMs: LIMITS.startMs,
  };
}

/**
 * One line for a shell on the node, which may have no Node yet. Nothing is run before its checksum is proven, and the token stands in no argument:
 * an assignment is the shell's own, as printf is.
 */
function commandFor({ url, token, installerSha256 }: PrintedInvitation): string {
  const absent = `stripeward needs Node.js ${NODE_LEAST.join(".")} or newer, and there is no node here`;
  const changed = "stripeward: the installer was changed on the way, nothing of it was run";
  const check = `[ "$(printf %s "$installer" | sha256sum | cut -c1-64)" = ${installerSha256} ]`;
  const run = `if ${check}; then printf %s "$installer" | ${TOKEN_VARIABLE}='${token}' node -; else echo '${changed}' >&2; false; fi`;
  return `if command -v node >/dev/null; then installer=$(curl -sSf '${url}') && ${run}; else echo '${absent}' >&2; false; fi`;
}
