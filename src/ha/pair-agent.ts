import { type CancelTimer, pause, wallMs } from "../lib/clock.js";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import type { BoardDisk } from "./board.js";
import type { PairEvent } from "./contract.js";
import { type GroupStanding, newTracked, type PairAgentParts, type Tracked } from "./pair-parts.js";
import { type PartnerView, PartnerWatch } from "./partner-watch.js";
import type { ProcessIdentity } from "./process-identity.js";
import type { Heartbeat, Lease, ServiceAddress } from "./record.js";

/** So long a group that was given away is left for the partner to take. */
const YIELD_MS = 10_000;
const RETRY_MS = 500;
const MOVE_MS_MAX = 20_000;
const POLL_MS = 10;
/** Its disks may not be known here: they are looked for so often. */
const LOOK_MS = 2_000;
/** A disk may miss some beats, slow as it may be. */
const UNHEARD_BEATS = 50;
/** They must fit a heartbeat's block. */
const TROUBLE_MAX = 4;
const TROUBLE_LENGTH_MAX = 200;

/** chn1..chn8 have blocks 0 to 7. */
export function slotOf(node: string): number {
  return Number(node.slice(3)) - 1;
}

/**
 * One node's part in a pair: its heartbeat, its eye on the partner, and for each group whether to serve it. A group is served by whoever holds its lease
 * under the highest epoch; before the lease is taken it is certain that the other has stopped (I-6):
 * on one host because the disks' locks are free, which they are only when its process has closed them or is gone; on another host because
 * it has released the lease, was fenced by command, or has been silent for longer than it would go on without being heard.
 */
export class PairAgent {
  readonly #parts: PairAgentParts;
  readonly #groups = new Map<string, Tracked>();
  readonly #watch = new PartnerWatch();
  readonly #wants = new Set<string>();
  #sequence = 0;
  #startedMs = 0;
  /** When a majority of the disks last took our heartbeat. */
  #heardMs = 0;
  #lookAgainAtMs = 0;
  #cancelBeat: CancelTimer = () => {};
  #cancelProbe: CancelTimer = () => {};
  #stopped = false;
  #killing = false;
  /** Why this node could not take over now; null: nobody has looked yet. Travels with the heartbeat. */
  trouble: readonly string[] | null = null;
  /** What is being taken or released. */
  #working = new Set<Promise<void>>();

  constructor(parts: PairAgentParts) {
    this.#parts = parts;
  }

  /** The partner's and our own place in the order of things: the first in it is home to groups that name no node. */
  get first(): string {
    return [this.#parts.node, this.#parts.partner].sort()[0]!;
  }

  /** Look at the disks, take what is ours and free. Resolves when the groups that this node begins with are served. */
  async start(): Promise<void> {
    const { clock, board, node } = this.#parts;
    this.#startedMs = clock.monotonicMs();
    await this.survey();
    const own = await board.readHeartbeats(slotOf(node));
    this.#sequence = own.reduce((most, { sequence }) => Math.max(most, sequence), 0);
    this.#refuseTwin(own);
    this.#heardMs = this.#startedMs;
    await this.#beat();
    this.#beatLater();
    await this.#probe();
    this.#probeLater();
    // What is free and ours is served before anything else is told that we are up.
    await this.#settleWork();
    if (!this.#servesHome() && this.#homeIsFree()) await this.#bring(node);
  }

  /** The groups that are there now; new ones are watched from here on. */
  async survey(): Promise<void> {
    const { host, board } = this.#parts;
    const { groups, disks } = await host.survey();
    await board.setDisks(disks satisfies readonly BoardDisk[]);
    for (const seen of groups) {
      const known = this.#groups.get(seen.uuid);
      const home = seen.home ?? this.first;
      if (known === undefined) this.#groups.set(seen.uuid, newTracked(seen, home));
      else Object.assign(known, { seen, home });
    }
    const uuids = new Set(groups.map(({ uuid }) => uuid));
    for (const [uuid, { role }] of this.#groups) if (!uuids.has(uuid) && role === "watched") this.#groups.delete(uuid);
  }

  /** A group was made here, or opened by other means: it is ours, under its own epoch. */
  async adopt(uuid: string): Promise<void> {
    await this.survey();
    const group = this.#groups.get(uuid);
    if (group === undefined) throw new StorageError("ENOENT", `no disk of group ${uuid} is here`);
    group.epoch = Math.max(1, group.seen.epoch);
    await this.#writeLease(group, "held", "created");
    group.role = "owned";
  }

  /** For the epoch guard of a group: changes when the group was lost. */
  epochOf(uuid: string): number {
    return this.#groups.get(uuid)?.epoch ?? -1;
  }

  groups(): GroupStanding[] {
    return [...this.#groups.values()].map(({ seen, home, role, epoch, complaint }) => ({
      ...{
        uuid: seen.uuid,
        name: seen.name,
        paths: seen.paths,
        memberCount: seen.memberCount,
        home,
        role,
        epoch,
        complaint,
      },
    }));
  }

  get name(): string {
    return this.#parts.node;
  }

  get partnerName(): string {
    return this.#parts.partner;
  }

  get self(): ProcessIdentity & { readonly version: string; readonly service: ServiceAddress } {
    const { identity, version, service } = this.#parts;
    return { ...identity, version, service };
  }

  partner(): PartnerView {
    return this.#watch.view(this.#parts.clock.monotonicMs());
  }

  /** Disks that we see, and on which a living partner has said nothing for some time. */
  async unheard(): Promise<string[]> {
    const { heartbeat } = this.partner();
    if (heartbeat === null || !this.partnerIsAlive) return [];
    return await this.#parts.board.disksWithout(slotOf(this.#parts.partner), heartbeat.sequence - UNHEARD_BEATS);
  }

  get partnerIsAlive(): boolean {
    return this.partner().silentMs < this.#parts.settings.silentMs;
  }

  /**
   * Serve a group that the partner serves: it is asked for it, and takes it down in order.
   * @throws StorageError ENOENT; EEXIST: it is served here; EBUSY: the partner did not let it go in time
   */
  async takeover(name: string): Promise<void> {
    const group = this.#named(name);
    const { uuid } = group.seen;
    if (group.role === "owned")
      throw new StorageError("EEXIST", `group ${name} is served by ${this.#parts.node} already`);
    this.#wants.add(uuid);
    try {
      await this.#beat();
      if (await this.#until(() => group.role === "owned")) return;
      throw new StorageError(
        "EBUSY",
        `${this.#parts.partner} has not given group ${name} away: ${group.complaint || "it did not answer"}`,
      );
    } finally {
      this.#wants.delete(uuid);
    }
  }

  /**
   * Let the partner serve a group.
   * @throws StorageError ENOENT; EINVAL: it is not served here; EBUSY: the partner cannot take it now, or did not, and it is served here again
   */
  async giveback(name: string): Promise<void> {
    const group = this.#named(name);
    const { partner } = this.#parts;
    if (group.role !== "owned") throw new StorageError("EINVAL", `group ${name} is not served by ${this.#parts.node}`);
    if (!this.partnerIsAlive) throw new StorageError("EBUSY", `${partner} is not there: group ${name} stays here`);
    await this.#work(group, () => this.#release(group, `given to ${partner}`));
    const taken = () => this.partner().heartbeat?.owned.includes(group.seen.uuid) === true;
    if (await this.#until(() => taken() || group.role === "owned", YIELD_MS + MOVE_MS_MAX)) {
      if (group.role !== "owned") return;
    }
    throw new StorageError("EBUSY", `${partner} did not take group ${name}`);
  }

  /**
   * A group that we serve has lost its disks as this node sees them. When the partner is there its clients get no errors: they are hung up on, and find
   * the group there.
   */
  lost(uuid: string): void {
    const group = this.#groups.get(uuid);
    if (group !== undefined) this.#giveUp(group, "its disks are lost here");
  }

  /** Clients cannot reach us at an address any more: what is served there moves to the partner when that is there. */
  addressLost(home: string, why: string): void {
    for (const group of this.#groups.values()) if (group.home === home) this.#giveUp(group, why);
  }

  #giveUp(group: Tracked, why: string): void {
    if (group.role !== "owned" || group.busy || this.#stopped || !this.partnerIsAlive) return;
    this.#parts.services.hangUp(group.home);
    group.retryAtMs = this.#nowMs() + YIELD_MS;
    this.#tell("error", "group-lost", `group ${group.seen.name}: ${why}; the partner tries`, group);
    void this.#work(group, () => this.#release(group, why));
  }

  /** Give everything to the partner when it is there, and fall silent. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelProbe();
    await this.#settleWork();
    for (const group of this.#groups.values()) {
      if (group.role === "owned")
        await this.#release(group, "stopped").catch((error: unknown) => this.#complain(group, error));
    }
    this.#cancelBeat();
    await this.#parts.board.close();
  }

  // --- heartbeat

  #beatLater(): void {
    this.#cancelBeat = this.#parts.clock.after(this.#parts.settings.heartbeatMs, () => {
      this.#beatLater();
      void this.#beat();
    });
  }

  async #beat(): Promise<void> {
    const { board, node, partner, clock, settings } = this.#parts;
    const written = board.writeHeartbeat(slotOf(node), this.#heartbeat());
    const found = await board.readHeartbeats(slotOf(partner));
    this.#watch.note(found, clock.monotonicMs());
    if ((await written) * 2 > board.diskCount) this.#heardMs = clock.monotonicMs();
    if (this.#isElsewhere() && clock.monotonicMs() - this.#heardMs > settings.leaseMs) this.#loseAll();
    await this.#seeNew();
    await this.#watchOwned();
  }

  /** The partner serves a group that was not there when we looked last. */
  async #seeNew(): Promise<void> {
    const owned = this.partner().heartbeat?.owned ?? [];
    if (owned.every((uuid) => this.#groups.has(uuid)) || this.#nowMs() < this.#lookAgainAtMs) return;
    this.#lookAgainAtMs = this.#nowMs() + LOOK_MS;
    await this.survey();
  }

  #heartbeat(): Heartbeat {
    const { node, identity, version, service, clock } = this.#parts;
    const owned = [...this.#groups.values()].filter(({ role }) => role === "owned").map(({ seen }) => seen.uuid);
    return {
      ...{ node, ...identity, version, service, owned, wants: [...this.#wants] },
      trouble:
        this.trouble === null
          ? null
          : this.trouble.slice(0, TROUBLE_MAX).map((one) => one.slice(0, TROUBLE_LENGTH_MAX)),
      sequence: ++this.#sequence,
      wallMs: wallMs(clock),
    };
  }

  /** Another process that says it is this node, and is alive, would write our blocks. @throws StorageError EBUSY */
  #refuseTwin(own: readonly Heartbeat[]): void {
    const { identity, fence, node } = this.#parts;
    const twin = own.find(({ bootId, pid, processStart }) => {
      if (bootId !== identity.bootId || (pid === identity.pid && processStart === identity.processStart)) return false;
      return fence.processState(pid, processStart) !== null;
    });
    if (twin === undefined) return;
    throw new StorageError(
      "EBUSY",
      `another process (${twin.pid}) is node ${node} on these disks: both nodes of a pair need names of their own`,
    );
  }

  /** The partner runs on another host: locks say nothing of it. */
  #isElsewhere(): boolean {
    const { heartbeat } = this.partner();
    return heartbeat !== null && heartbeat.bootId !== this.#parts.identity.bootId;
  }

  #loseAll(): void {
    for (const group of this.#groups.values()) if (group.role === "owned") group.epoch = -1;
    this.#parts.stopAtOnce("no majority of the disks has taken this node's heartbeat for as long as its lease lasts");
  }

  /** Groups that we serve: does somebody else, does the partner want one, has one failed here? */
  async #watchOwned(): Promise<void> {
    const { heartbeat } = this.partner();
    for (const group of this.#groups.values()) {
      if (group.role !== "owned" || group.busy) continue;
      const { uuid } = group.seen;
      if (this.#isElsewhere()) await this.#refuseNewer(group);
      if (group.role !== "owned" || group.busy || this.#stopped) continue;
      const partnerIsReady = this.partnerIsAlive;
      if (partnerIsReady && heartbeat?.wants.includes(uuid) === true) {
        void this.#work(group, () => this.#release(group, `asked for by ${heartbeat.node}`));
      } else if (partnerIsReady && this.#parts.host.hasFailed(uuid) && this.#nowMs() >= group.retryAtMs) {
        // It was lost while the partner was away.
        this.lost(uuid);
      }
    }
  }

  async #refuseNewer(group: Tracked): Promise<void> {
    const { lease } = await this.#parts.board.readLease(group.seen.uuid, group.seen.memberCount);
    if (lease === null || group.role !== "owned" || lease.epoch <= group.epoch) return;
    group.epoch = -1;
    this.#parts.stopAtOnce(`group ${group.seen.name} was taken by ${lease.owner} under epoch ${lease.epoch}`);
  }

  // --- taking

  #probeLater(): void {
    this.#cancelProbe = this.#parts.clock.after(this.#parts.settings.probeMs, () => {
      if (this.#stopped) return;
      this.#probeLater();
      void this.#probe();
    });
  }

  async #probe(): Promise<void> {
    for (const group of this.#groups.values()) {
      if (group.role !== "watched" || group.busy || this.#stopped || this.#nowMs() < group.retryAtMs) continue;
      const reason = this.#isElsewhere() ? await this.#reasonElsewhere(group) : this.#reasonHere(group);
      if (reason === null || group.role !== "watched" || group.busy) continue;
      void this.#work(group, () => this.#take(group, reason));
    }
  }

  /** On one host: the locks say it. @returns why to take the group now */
  #reasonHere(group: Tracked): string | null {
    const { host, node, partner } = this.#parts;
    const { home, seen } = group;
    const { uuid } = seen;
    const state = host.lockState(uuid);
    if (state === "held") {
      group.seenHeld = true;
      group.yieldedUntilMs = 0;
      void this.#killIfHung();
      return null;
    }
    if (state === "unknown" || this.#nowMs() < group.yieldedUntilMs) return null;
    if (this.#wants.has(uuid)) return "planned";
    if (group.seenHeld) return this.#partnerProcess() === null ? `${partner} is gone` : `${partner} let it go`;
    if (home === node) return "start";
    return this.#waited() ? `${home} did not come` : null;
  }

  /** On two hosts: the lease says it. */
  async #reasonElsewhere(group: Tracked): Promise<string | null> {
    const { board, node, settings, partner, fence } = this.#parts;
    const { lease } = await board.readLease(group.seen.uuid, group.seen.memberCount);
    if (this.#nowMs() < group.yieldedUntilMs) return null;
    if (lease === null) return group.home === node || this.#waited() ? "start" : null;
    if (lease.owner === node) return "start";
    if (lease.state === "released") return `${partner} let it go`;
    const { silentMs } = this.partner();
    // Silent since before we came: nobody knows how long, so it counts from our start.
    const silence = Math.min(silentMs, this.#nowMs() - this.#startedMs);
    if (silence < settings.silentMs) return null;
    if (fence.command !== null) return await this.#fenceByCommand(group, fence.command);
    return silence > settings.leaseMs + settings.silentMs
      ? `${partner} has been silent for longer than its lease lasts`
      : null;
  }

  #waited(): boolean {
    return this.#nowMs() - this.#startedMs > this.#parts.settings.graceMs;
  }

  async #fenceByCommand(group: Tracked, command: (node: string) => Promise<void>): Promise<string | null> {
    const { partner } = this.#parts;
    group.retryAtMs = this.#nowMs() + RETRY_MS;
    try {
      await command(partner);
      return `${partner} was fenced`;
    } catch (error) {
      this.#complain(group, error);
      return null;
    }
  }

  /** The partner's process, when it is on this host: its state, or null when it is gone. */
  #partnerProcess(): string | null {
    const { heartbeat } = this.partner();
    return heartbeat === null ? null : this.#parts.fence.processState(heartbeat.pid, heartbeat.processStart);
  }

  /** It holds the locks and says nothing: it is ended, and the locks with it. */
  async #killIfHung(): Promise<void> {
    const { settings, fence, partner } = this.#parts;
    const { heartbeat, silentMs } = this.partner();
    if (heartbeat === null || this.#killing || silentMs === Number.POSITIVE_INFINITY) return;
    if (silentMs < settings.stoppedMs) return;
    const state = this.#partnerProcess();
    if (state === null) return;
    const stopped = state === "T" || state === "t";
    if (!stopped && silentMs < settings.silentMs) return;
    this.#killing = true;
    try {
      const how = stopped ? "is stopped" : "hangs";
      const what = `${partner} ${how} (process ${heartbeat.pid}, silent for ${Math.round(silentMs)} ms): it is ended`;
      this.#parts.onEvent({ severity: "error", kind: "partner-fenced", what, detail: { partner } });
      await fence.kill(heartbeat.pid, heartbeat.processStart);
    } catch (error) {
      const what = `${partner} hangs and could not be ended: ${messageOf(error)}`;
      this.#parts.onEvent({ severity: "error", kind: "fencing-failed", what, detail: { partner } });
    } finally {
      this.#killing = false;
    }
  }

  async #take(group: Tracked, reason: string): Promise<void> {
    const { host, node } = this.#parts;
    const { home, seen } = group;
    const { uuid, name } = seen;
    const beganMs = this.#nowMs();
    group.role = "taking";
    try {
      await host.lock(uuid);
    } catch (error) {
      group.role = "watched";
      // Somebody was quicker: the next look says who.
      if (isStorageError(error, "EBUSY")) return;
      throw error;
    }
    const lockedMs = this.#nowMs();
    try {
      await this.#takeLease(group, reason);
      const leasedMs = this.#nowMs();
      await host.open(uuid);
      const openedMs = this.#nowMs();
      group.role = "owned";
      group.seenHeld = false;
      await this.#bring(home);
      const ms = steps({
        lock: lockedMs - beganMs,
        lease: leasedMs - lockedMs,
        open: openedMs - leasedMs,
        serve: this.#nowMs() - openedMs,
      });
      const what = `group ${name} is served by ${node} under epoch ${group.epoch} (${reason})`;
      this.#tell(reason === "start" ? "info" : "warning", "group-taken", what, group, { reason, ms });
    } catch (error) {
      group.epoch = -1;
      group.role = "watched";
      await host.close(uuid).catch(() => {});
      throw error;
    }
    void this.#beat();
  }

  /** @throws StorageError EIO */
  async #takeLease(group: Tracked, reason: string): Promise<void> {
    const { board, clock } = this.#parts;
    const { uuid, memberCount, epoch } = group.seen;
    const { lease, highestEpoch } = await board.readLease(uuid, memberCount);
    group.epoch = Math.max(highestEpoch, epoch, lease?.epoch ?? 0) + 1;
    group.leaseSequence = 0;
    await this.#writeLease(group, "held", reason);
    if (!this.#isElsewhere()) return;
    // Two hosts that begin at the same moment: after a while a majority of the disks holds what was written last.
    await pause(clock, 2 * this.#parts.settings.heartbeatMs);
    const { lease: now } = await board.readLease(uuid, memberCount);
    if (now?.owner === this.#parts.node && now.epoch === group.epoch) return;
    throw new StorageError(
      "EBUSY",
      `group ${group.seen.name} was taken by ${now?.owner ?? "nobody"} at the same moment`,
    );
  }

  async #writeLease(group: Tracked, state: Lease["state"], reason: string): Promise<void> {
    const { board, node, clock } = this.#parts;
    const { uuid, memberCount } = group.seen;
    const { epoch, leaseSequence: sequence } = group;
    const lease = { group: uuid, epoch, sequence, owner: node, state, reason, wallMs: wallMs(clock) };
    await board.writeLease(lease, memberCount);
    group.leaseSequence++;
  }

  async #bring(home: string): Promise<void> {
    const address = home === this.#parts.node ? this.#parts.service : this.partner().heartbeat?.service;
    if (address === undefined || address === null) {
      throw new StorageError("ENODEV", `the service address of ${home} is not known: it has never been seen`);
    }
    await this.#parts.services.bring(home, address);
  }

  // --- letting go

  /** Take it down in order. The lease is written last: what it releases is not written any more. */
  async #release(group: Tracked, reason: string): Promise<void> {
    const { host, services, node } = this.#parts;
    const { home, seen: seenGroup } = group;
    const { uuid, name } = seenGroup;
    const beganMs = this.#nowMs();
    if (!host.hasFailed(uuid)) await host.settle(uuid).catch((error: unknown) => this.#complain(group, error));
    const settledMs = this.#nowMs();
    group.role = "releasing";
    group.yieldedUntilMs = Number.POSITIVE_INFINITY;
    if (![...this.#groups.values()].some((other) => other.role === "owned" && other.home === home))
      await services.withdraw(home);
    const withdrawnMs = this.#nowMs();
    try {
      await host.close(uuid);
    } catch (error) {
      this.#complain(group, error);
    }
    await this.#writeLease(group, "released", reason).catch((error: unknown) => this.#complain(group, error));
    group.epoch = -1;
    group.role = "watched";
    group.seenHeld = false;
    group.yieldedUntilMs = this.#nowMs() + YIELD_MS;
    const closeMs = this.#nowMs() - withdrawnMs;
    const ms = steps({ settle: settledMs - beganMs, withdraw: withdrawnMs - settledMs, close: closeMs });
    this.#tell("info", "group-released", `group ${name} is let go by ${node} (${reason})`, group, { reason, ms });
    if (!this.#stopped) void this.#beat();
  }

  // --- odds and ends

  /** One thing at a time with a group; an error is told and the group is left alone for a moment. */
  #work(group: Tracked, action: () => Promise<void>): Promise<void> {
    group.busy = true;
    const work = action()
      .then(() => {
        group.complaint = "";
      })
      .catch((error: unknown) => {
        group.retryAtMs = this.#nowMs() + RETRY_MS;
        this.#complain(group, error);
      })
      .finally(() => {
        group.busy = false;
      });
    this.#working.add(work);
    return work.finally(() => this.#working.delete(work));
  }

  async #settleWork(): Promise<void> {
    while (this.#working.size > 0) await Promise.all(this.#working);
  }

  #servesHome(): boolean {
    const { node } = this.#parts;
    return [...this.#groups.values()].some(({ role, home }) => role === "owned" && home === node);
  }

  /** Nobody else can be serving at our own address. */
  #homeIsFree(): boolean {
    const { node } = this.#parts;
    return [...this.#groups.values()].every(({ home }) => home !== node);
  }

  async #until(condition: () => boolean, limitMs = MOVE_MS_MAX): Promise<boolean> {
    const { clock } = this.#parts;
    const endMs = this.#nowMs() + limitMs;
    while (!condition() && this.#nowMs() < endMs) await pause(clock, POLL_MS);
    return condition();
  }

  #named(name: string): Tracked {
    const group = [...this.#groups.values()].find(({ seen }) => seen.name === name);
    if (group === undefined)
      throw new StorageError("ENOENT", `there is no group ${name} on the disks that both nodes see`);
    return group;
  }

  #nowMs(): number {
    return this.#parts.clock.monotonicMs();
  }

  #complain(group: Tracked, error: unknown): void {
    const complaint = messageOf(error);
    if (group.complaint === complaint) return;
    group.complaint = complaint;
    this.#tell("error", "takeover-trouble", `group ${group.seen.name}: ${complaint}`, group);
  }

  #tell(severity: PairEvent["severity"], kind: string, what: string, group: Tracked, more: object = {}): void {
    this.#parts.onEvent({ severity, kind, what, detail: { group: group.seen.name, epoch: group.epoch, ...more } });
  }
}

/** How long each step took, in whole milliseconds. */
function steps(ms: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(ms).map(([step, value]) => [step, Math.round(value)]));
}
