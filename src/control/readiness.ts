import { constants } from "node:fs";
import { access, mkdir, statfs } from "node:fs/promises";
import net from "node:net";
import type { PairConfig } from "../config/schema.js";
import type { PairAgent } from "../ha/pair-agent.js";
import { processStat } from "../ha/process-identity.js";
import type { GroupLack } from "../ha/record.js";
import { type CancelTimer, type Clock, wallMs } from "../lib/clock.js";
import { messageOf } from "../lib/errors.js";
import { formatSize } from "../lib/size.js";
import { MIB } from "../lib/units.js";
import type { AddressCommand } from "./address-command.js";
import type { EventLog } from "./event-log.js";

/** What it asks of the pair, and where its answer goes. */
type ReadinessPair = Pick<
  PairAgent,
  "name" | "partnerName" | "partner" | "partnerIsAlive" | "self" | "groups" | "trouble" | "lacks"
>;

export interface ReadinessParts {
  readonly pair: ReadinessPair;
  readonly config: PairConfig;
  /** This node reads past the page cache. */
  readonly directIo: boolean;
  readonly clock: Clock;
  readonly events: EventLog;
  /** Whether a disk answers: a path that is lost may still be there by name. */
  readonly sees: (path: string) => Promise<boolean>;
  /** Where this node's copies of the metadata lie. */
  readonly scratch: string;
  /** Disks that we see and the partner says nothing on. */
  readonly unheard: () => Promise<readonly string[]>;
  /** null: addresses are not moved by a command. */
  readonly command: Pick<AddressCommand, "trouble" | "check"> | null;
  /** Addresses that this machine has and cannot give up, a sentence each. */
  readonly stuck: () => readonly string[];
  /** Why clients could not reach this node; empty: nothing speaks against it. */
  readonly cutOff: () => readonly string[];
}

/** Less than this is no room for any copy. */
const SCRATCH_BYTES_MIN = MIB;
const CHECK_MS = 10_000;
/** While something stands in the way: it may be a partner that is just starting. */
const TROUBLED_CHECK_MS = 1_000;
/** The first check, when both nodes of a pair that has just been started have had time to hear each other. */
const FIRST_MS = 3_000;
const CLOCKS_APART_MS_MAX = 5_000;

/**
 * Whether this node could take over from its partner now, looked at every minute: a standby that cannot is found out before it is needed.
 * The answer travels with the heartbeat, so that the node that serves shows it, too.
 */
export class Readiness {
  #cancel: CancelTimer = () => {};
  #ended = false;

  #remarks: readonly string[] = [];

  constructor(private readonly parts: ReadinessParts) {}

  /** What does not stand in the way of a takeover, and should be known all the same; a sentence each. */
  get remarks(): readonly string[] {
    return this.#remarks;
  }

  start(): void {
    this.#later(FIRST_MS);
  }

  end(): void {
    this.#ended = true;
    this.#cancel();
  }

  /** @returns one sentence for each thing that stands in the way of a takeover */
  async check(): Promise<string[]> {
    const problems = [
      ...this.#partnerProblems(),
      ...(await this.#diskProblems()),
      ...(await this.#fenceProblems()),
      ...(await this.#addressProblems()),
      ...this.parts.cutOff(),
      ...(await this.#scratchProblems()),
    ];
    this.#report(problems);
    await this.#remark();
    return problems;
  }

  #later(delayMs: number): void {
    this.#cancel = this.parts.clock.after(delayMs, () => {
      void this.check().finally(() => {
        const troubled = (this.parts.pair.trouble?.length ?? 0) > 0;
        if (!this.#ended) this.#later(troubled ? TROUBLED_CHECK_MS : CHECK_MS);
      });
    });
  }

  #report(problems: readonly string[]): void {
    const { pair, events } = this.parts;
    const before = pair.trouble;
    pair.trouble = problems;
    if (problems.length > 0 && problems.join() !== before?.join()) {
      const what = `${pair.name} could not take over from ${pair.partnerName} now: ${problems.join("; ")}`;
      events.add({ severity: "warning", kind: "takeover-not-ready", what, detail: { problems } });
    } else if (problems.length === 0 && before !== null && before.length > 0) {
      const what = `${pair.name} can take over from ${pair.partnerName} again`;
      events.add({ severity: "info", kind: "takeover-ready", what });
    }
  }

  #partnerProblems(): string[] {
    const { pair } = this.parts;
    const { heartbeat } = pair.partner();
    if (heartbeat === null) return [`${pair.partnerName} has never been seen on these disks`];
    if (heartbeat.version === pair.self.version) return [];
    return [`${pair.partnerName} runs version ${heartbeat.version}, this node ${pair.self.version}`];
  }

  async #remark(): Promise<void> {
    const { pair, events } = this.parts;
    const before = this.#remarks;
    const unheard = pair.partnerIsAlive ? await this.parts.unheard() : [];
    this.#remarks = [...this.#clockRemarks(), ...unheardRemarks(pair.partnerName, unheard)];
    for (const what of this.#remarks)
      if (!before.includes(what)) events.add({ severity: "warning", kind: "pair-remark", what });
  }

  /** Nothing is decided by wall clocks. */
  #clockRemarks(): string[] {
    const { pair, clock } = this.parts;
    const { wallStartMs } = pair.partner();
    if (wallStartMs === null || !pair.partnerIsAlive) return [];
    // Compared at one moment: a heartbeat may be seconds old when this is asked.
    const apartMs = Math.abs(wallMs(clock) - clock.monotonicMs() - wallStartMs);
    if (apartMs <= CLOCKS_APART_MS_MAX) return [];
    const about =
      apartMs >= 120_000 ? `${Math.round(apartMs / 60_000)} minutes` : `${Math.round(apartMs / 1000)} seconds`;
    return [`the clocks of the two nodes are ${about} apart (file times will jump; nothing else depends on it)`];
  }

  /**
   * Members that this node cannot use. Of a group that it serves they count where the partner sees more: a disk that has failed for both is nobody's path, and
   * the group may be degraded.
   */
  async #diskProblems(): Promise<string[]> {
    const { pair } = this.parts;
    const { heartbeat } = pair.partner();
    const found: string[] = [];
    const lacks: GroupLack[] = [];
    for (const { uuid, name, paths, memberCount, role } of pair.groups()) {
      const answers = await Promise.all(paths.map((path) => this.#canUse(path)));
      const usable = Math.min(memberCount, answers.filter((one) => one).length);
      if (usable === memberCount) continue;
      lacks.push({ group: uuid, disks: memberCount - usable });
      const theirs = memberCount - (heartbeat?.lacks.find(({ group }) => group === uuid)?.disks ?? 0);
      const text = `this node can use ${usable} of the ${memberCount} disks of group ${name}`;
      if (role !== "owned") found.push(text);
      else if (pair.partnerIsAlive && theirs > usable) found.push(`${text}, ${pair.partnerName} ${theirs}`);
    }
    pair.lacks = lacks;
    return found;
  }

  async #canUse(path: string): Promise<boolean> {
    return (await can(path, constants.R_OK | constants.W_OK)) && (await this.parts.sees(path));
  }

  async #fenceProblems(): Promise<string[]> {
    const { pair, config } = this.parts;
    const { heartbeat } = pair.partner();
    if (heartbeat === null) return [];
    if (heartbeat.bootId !== pair.self.bootId) {
      const found = this.parts.directIo ? [] : [cachedText(pair.partnerName)];
      const { fenceCommand } = config;
      if (fenceCommand !== null && !(await can(fenceCommand, constants.X_OK)))
        found.push(`the fence command ${fenceCommand} cannot be run`);
      return found;
    }
    if (!pair.partnerIsAlive || processStat(heartbeat.pid)?.start !== heartbeat.processStart) return [];
    try {
      process.kill(heartbeat.pid, 0);
      return [];
    } catch {
      return [
        `process ${heartbeat.pid} of ${pair.partnerName} could not be ended if it hung: it belongs to another user`,
      ];
    }
  }

  /** A file system that is taken over is copied there first. */
  async #scratchProblems(): Promise<string[]> {
    const { scratch } = this.parts;
    try {
      await mkdir(scratch, { recursive: true });
      await access(scratch, constants.W_OK);
      const { bavail, bsize } = await statfs(scratch);
      const free = bavail * bsize;
      return free < SCRATCH_BYTES_MIN
        ? [`only ${formatSize(free)} are free in the state directory (${scratch}): a copy of the metadata has no room`]
        : [];
    } catch (error) {
      return [`the state directory cannot be used: ${messageOf(error)}`];
    }
  }

  /** That the partner's address could be ours: with a command, that this works; else that the machine has the address. */
  async #addressProblems(): Promise<readonly string[]> {
    const { pair, command, stuck } = this.parts;
    const service = pair.partner().heartbeat?.service;
    if (service === undefined || service === null) return stuck();
    if (command !== null) return [...(await commandProblems(command, service.host)), ...stuck()];
    return (await canListen(service.host))
      ? []
      : [`this machine does not have the service address ${service.host} of ${pair.partnerName}`];
  }
}

function unheardRemarks(partner: string, unheard: readonly string[]): string[] {
  if (unheard.length === 0) return [];
  return [
    `${partner} says nothing on ${unheard.join(", ")}: its configuration does not name ${unheard.length === 1 ? "it" : "them"}, or it has lost the path`,
  ];
}

async function commandProblems(command: Pick<AddressCommand, "trouble" | "check">, host: string): Promise<string[]> {
  const trouble = await command.trouble();
  if (trouble !== null) return [trouble];
  // Of an address that the partner serves it says so; that it can be called, with its privileges, is what counts.
  const checked = await command.check(host);
  return checked.kind === "failed" ? [checked.why] : [];
}

/** Blocks that this host has read once are old when another host writes them. */
export function cachedText(partner: string): string {
  return `${partner} runs on another host, and this node may have old blocks in its page cache: it needs direct-io: true`;
}

/** @param mode  as access(2) */
async function can(path: string, mode: number): Promise<boolean> {
  return await access(path, mode).then(
    () => true,
    () => false,
  );
}

/** On some free port of the address, for a moment. */
function canListen(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.on("error", () => resolve(false));
    server.listen({ host, port: 0 }, () => server.close(() => resolve(true)));
  });
}
