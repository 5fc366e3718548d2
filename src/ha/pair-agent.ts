import { type CancelTimer, pause, wallMs } from "../lib/clock.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { BoardDisk, LeaseView } from "./board.js";
import { Changeover, YIELD_MS } from "./changeover.js";
import type { SeenGroup } from "./contract.js";
import { lacksThatFit, newsThatFit } from "./heartbeat-room.js";
import { LeaseKeeper, slotOf } from "./lease-keeper.js";
import { type GroupStanding, newTracked, type PairAgentParts, type Tracked } from "./pair-parts.js";
import { PairReport } from "./pair-report.js";
import { type PartnerView, PartnerWatch } from "./partner-watch.js";
import type { ProcessIdentity } from "./process-identity.js";
import type { GroupLack, Heartbeat, Lease, Reach, ServiceAddress } from "./record.js";
import { RETRY_MS } from "./retry.js";
import { TakeoverReasons } from "./takeover-reasons.js";

const MOVE_MS_MAX = 20_000;
const POLL_MS = 10;
/** While a group waits for another attempt, or an unknown one is served by the partner, disks are looked at this often. */
const LOOK_MS = 2 * RETRY_MS;
/** And while any disk is missing. */
const LOOK_MS_MAX = 10_000;
/** What the partner says it reaches must be as young as that: it may have been cut off by the same switch. */
const CUT_OFF_HEARD_MS = 1000;
/** A group that came back all the same, because the partner could not take it, is not given up again before that. */
const CUT_OFF_HOLD_MS = 30_000;
/** A disk may miss some beats, slow as it may be. */
const UNHEARD_BEATS = 50;

/**
 * One node's part in a pair: its heartbeat, its eye on the partner, and for each group whether to serve it. A group is served by whoever holds its lease
 * under the highest epoch; before the lease is taken it is certain that the other has stopped (I-6):
 * on one host because the disks' locks are free, which they are only when its process has closed them or is gone; on another host because
 * it has released the lease, was fenced by command, or has been silent for longer than it would go on without being heard.
 * The decision stands in takeover-reasons.ts, what follows from it in changeover.ts.
 */
export class PairAgent {
  readonly #parts: PairAgentParts;
  readonly #groups = new Map<string, Tracked>();
  readonly #watch = new PartnerWatch();
  readonly #wants = new Set<string>();
  readonly #leases: LeaseKeeper;
  readonly #report: PairReport;
  readonly #reasons: TakeoverReasons;
  readonly #changeover: Changeover;
  #sequence = 0;
  #startedMs = 0;
  /** When the last heartbeat began that a majority of the disks took: the partner may have seen it as early as that. */
  #heardMs = 0;
  #cancelBeat: CancelTimer = () => {};
  #cancelProbe: CancelTimer = () => {};
  #stopped = false;
  #lookedMs = 0;
  #watchingOwned = false;
  /** A look at all disks that is under way, and one that has yet to begin: a slow disk is not asked by several at once. */
  #surveying: Promise<void> | null = null;
  #surveyNext: Promise<void> | null = null;
  /** Why this node could not take over now; null: nobody has looked yet. Travels with the heartbeat. */
  trouble: readonly string[] | null = null;
  /** Whom this node reaches on the network. Travels with the heartbeat. */
  reach: Reach | null = null;
  /** Clients that fell silent all at once, for the partner to ask. Travels with the heartbeat. */
  silent: readonly string[] = [];
  /** Groups of which this node cannot use all disks. Travels with the heartbeat. */
  lacks: readonly GroupLack[] = [];
  #cutOffUntilMs = Number.NEGATIVE_INFINITY;
  /** What is being taken or released. */
  #working = new Set<Promise<void>>();

  constructor(parts: PairAgentParts) {
    this.#parts = parts;
    this.#leases = new LeaseKeeper(parts);
    this.#report = new PairReport(parts.onEvent);
    this.#reasons = new TakeoverReasons(parts, this.#watch, this.#report, () => ({
      upMs: this.#nowMs() - this.#startedMs,
      unheardMs: this.#nowMs() - this.#heardMs,
      wants: this.#wants,
    }));
    const survey = (): Promise<void> => this.survey();
    this.#changeover = new Changeover(parts, this.#groups, this.#leases, this.#watch, this.#report, survey);
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
    const { found: own } = await board.readHeartbeats(slotOf(node));
    this.#sequence = own.reduce((most, { sequence }) => Math.max(most, sequence), 0);
    this.#refuseTwin(own);
    this.#heardMs = this.#startedMs;
    await this.#beat();
    this.#beatLater();
    await this.#parts.beforeTaking?.();
    await this.#probe();
    this.#probeLater();
    // What is free and ours is served before anything else is told that we are up.
    await this.#settleWork();
    if (!this.#servesHome() && this.#homeIsFree()) await this.#changeover.bring(node);
  }

  /** The groups that are there now, or a moment later; new ones are watched from here on. */
  survey(): Promise<void> {
    if (this.#surveying === null) return this.#beginSurvey();
    const begin = (): Promise<void> => this.#beginSurvey();
    this.#surveyNext ??= this.#surveying.then(begin, begin);
    return this.#surveyNext;
  }

  #beginSurvey(): Promise<void> {
    this.#surveyNext = null;
    const surveying = this.#survey().finally(() => {
      if (this.#surveying === surveying) this.#surveying = null;
    });
    this.#surveying = surveying;
    return surveying;
  }

  async #survey(): Promise<void> {
    const { host, board } = this.#parts;
    const { groups, disks } = await host.survey();
    const inNone = disks.filter(({ group }) => group === null).length;
    const expected = groups.reduce((sum, { memberCount }) => sum + memberCount, inNone);
    board.setDisks(disks satisfies readonly BoardDisk[], expected);
    for (const seen of groups) {
      const known = this.#groups.get(seen.uuid);
      const home = seen.home ?? this.first;
      if (known === undefined) this.#groups.set(seen.uuid, newTracked(seen, home));
      else see(known, seen, home);
    }
    const uuids = new Set(groups.map(({ uuid }) => uuid));
    for (const [uuid, { role }] of this.#groups) if (!uuids.has(uuid) && role === "watched") this.#groups.delete(uuid);
  }

  /** A group was made here, or opened by other means: it is ours, under its own epoch. */
  async adopt(uuid: string): Promise<void> {
    await this.survey();
    const group = this.#groups.get(uuid);
    if (group === undefined) throw new StorageError("ENOENT", `no disk of group ${uuid} is here`);
    group.busy = true;
    // While nothing was ours nothing could lapse, however long there was no disk to be heard on: the lease counts from when it is written.
    if (!this.#owns()) this.#heardMs = Math.max(this.#heardMs, this.#nowMs());
    try {
      group.epoch = Math.max(1, group.seen.epoch);
      await this.#leases.write(group.seen, group.epoch, "held", "created");
      group.role = "owned";
    } finally {
      group.busy = false;
    }
  }

  /** For the epoch guard of a group: changes when the group was lost, also to the mere passing of time. */
  epochOf(uuid: string): number {
    if (this.#hasLapsed()) this.#loseAll();
    return this.#groups.get(uuid)?.epoch ?? -1;
  }

  groups(): GroupStanding[] {
    return [...this.#groups.values()].map(({ seen, home, role, epoch, complaint }) => {
      const { uuid, name, paths, memberCount } = seen;
      return { uuid, name, paths, memberCount, home, role, epoch, complaint };
    });
  }

  /** Under which epochs the groups are held that this node does not serve, as far as their disks say now. */
  async leaseEpochs(): Promise<ReadonlyMap<string, number>> {
    const epochs = new Map<string, number>();
    for (const group of this.#groups.values()) {
      if (group.role !== "watched") continue;
      const view = await this.#readLease(group);
      const epoch = Math.max(view?.own?.heldEpoch ?? 0, view?.other?.heldEpoch ?? 0);
      if (epoch > 0) epochs.set(group.seen.uuid, epoch);
    }
    return epochs;
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

  /** A living partner on another machine has looked, and can use all disks of a group, whatever else stands in its way. */
  partnerSees(uuid: string): boolean {
    const { heartbeat } = this.partner();
    if (heartbeat === null || !this.partnerIsAlive || !this.#isElsewhere()) return false;
    return heartbeat.trouble !== null && !heartbeat.lacks.some(({ group }) => group === uuid);
  }

  /** What this node lacks of a group, and the partner has, for as long as it takes to see that a disk has failed for both: the group moves there, in order. */
  #followPaths(group: Tracked): void {
    const { uuid } = group.seen;
    const couldTake = this.partner().heartbeat?.trouble?.length === 0 && this.partnerSees(uuid);
    const lacks = couldTake && this.lacks.some((one) => one.group === uuid);
    if (!group.pathLost.lastsOnce(lacks, this.#nowMs())) return;
    const why = `this node has lost the path to a disk that ${this.#parts.partner} has`;
    this.#report.tell("warning", "path-lost", `group ${group.seen.name}: ${why}; it moves there`, group);
    void this.#work(group, () => this.#let(group, why));
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
    group.retry.reset();
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
    if (group.busy) throw new StorageError("EBUSY", `group ${name} is changing hands already`);
    if (!this.partnerIsAlive) throw new StorageError("EBUSY", `${partner} is not there: group ${name} stays here`);
    await this.#work(group, () => this.#let(group, `given to ${partner}`));
    const taken = () => this.partner().heartbeat?.owned.includes(group.seen.uuid) === true;
    if (await this.#until(() => taken() || group.role === "owned", YIELD_MS + MOVE_MS_MAX)) {
      if (group.role !== "owned") return;
    }
    throw new StorageError("EBUSY", `${partner} did not take group ${name}`);
  }

  /**
   * A group that we serve has lost its disks as this node sees them, or cannot be served here for another reason (`why`). When the partner is there its
   * clients get no errors: they are hung up on, and find the group there.
   */
  lost(uuid: string, why = "its disks are lost here"): void {
    const group = this.#groups.get(uuid);
    if (group !== undefined) this.#giveUp(group, why);
  }

  /** This node has been in the way of a group for a moment, its disks are well, and the partner says that it could take it. */
  #handOver(group: Tracked): void {
    const why = this.#parts.host.hindrance(group.seen.uuid);
    const lasts = group.hindered.lasts(why !== null, this.#nowMs());
    if (why === null || !lasts || this.partner().heartbeat?.trouble?.length !== 0) return;
    group.hindered.restart();
    this.#giveUp(group, why);
  }

  /** Clients cannot reach us at an address any more: what is served there moves to the partner when that is there. */
  addressLost(home: string, why: string): void {
    for (const group of this.#groups.values()) if (group.home === home) this.#giveUp(group, why);
  }

  /**
   * This node reaches nobody on the network, so that clients hardly reach it. What it serves moves to the partner when that one reaches somebody now and could
   * take over; when both are cut off nobody moves. Called again as long as it stays so.
   */
  cutOff(why: string): void {
    const { heartbeat, silentMs } = this.partner();
    if (heartbeat === null || silentMs > CUT_OFF_HEARD_MS || this.#nowMs() < this.#cutOffUntilMs) return;
    if ((heartbeat.reach?.reached ?? 0) === 0 || (heartbeat.trouble?.length ?? 0) > 0) return;
    const owned = [...this.#groups.values()].filter(({ role, busy }) => role === "owned" && !busy);
    if (owned.length > 0) this.#cutOffUntilMs = this.#nowMs() + CUT_OFF_HOLD_MS;
    for (const group of owned) this.#giveUp(group, why);
  }

  #giveUp(group: Tracked, why: string): void {
    if (group.role !== "owned" || group.busy || this.#stopped || !this.partnerIsAlive) return;
    this.#parts.services.hangUp(group.home);
    group.retry.hold(this.#nowMs() + YIELD_MS);
    this.#report.tell("error", "group-lost", `group ${group.seen.name}: ${why}; the partner tries`, group);
    void this.#work(group, () => this.#let(group, why));
  }

  /** Give everything to the partner when it is there, and fall silent. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelProbe();
    await this.#settleWork();
    const owned = [...this.#groups.values()].filter(({ role }) => role === "owned");
    for (const group of owned) group.busy = true;
    for (const group of owned) if (group.role === "owned") await this.#work(group, () => this.#let(group, "stopped"));
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
    const { board, node, partner, clock } = this.#parts;
    // A lease that has run out stays so, whatever is heard from now on: the partner may be about to take it.
    if (this.#hasLapsed()) this.#loseAll();
    const beganMs = clock.monotonicMs();
    const written = board.writeHeartbeat(slotOf(node), this.#heartbeat(), beganMs);
    const found = await board.readHeartbeats(slotOf(partner));
    this.#watch.note(found, beganMs, clock.monotonicMs());
    const heardMs = await written;
    if (heardMs > this.#heardMs) this.#heard(heardMs);
    this.#lookAgain();
    await this.#watchOwned();
  }

  /** A majority of the disks has taken what was said then. Too late it does not count: it may be on the disks since a moment ago only. */
  #heard(beganMs: number): void {
    if (this.#hasLapsed()) this.#loseAll();
    else this.#parts.onHeard?.();
    this.#heardMs = Math.max(this.#heardMs, beganMs);
  }

  /** Something is missed that may be on the disks by now: a group that the partner has made, a disk that a group could not be taken without, or any other. */
  #lookAgain(): void {
    const groups = [...this.#groups.values()];
    const isWanting = groups.some(({ role, retry }) => role === "watched" && retry.waits);
    const isNew =
      this.partnerIsAlive && this.partner().heartbeat?.owned.some((uuid) => !this.#groups.has(uuid)) === true;
    const { lacksDisks } = this.#parts.board;
    const everyMs = isWanting || isNew ? LOOK_MS : lacksDisks ? LOOK_MS_MAX : Number.POSITIVE_INFINITY;
    if (this.#stopped || this.#nowMs() - this.#lookedMs < everyMs) return;
    this.#lookedMs = this.#nowMs();
    // What cannot be seen now is looked at again.
    void this.survey().catch(() => {});
  }

  #heartbeat(): Heartbeat {
    const { node, identity, version, service, clock } = this.#parts;
    const owned = [...this.#groups.values()].filter(({ role }) => role === "owned").map(({ seen }) => seen.uuid);
    return {
      ...{ node, network: "", ...identity, version, service, owned, wants: [...this.#wants], letGo: this.#letGo() },
      ...newsThatFit(this),
      ...{ ailing: this.#ailing(), sequence: ++this.#sequence, wallMs: wallMs(clock) },
    };
  }

  /** Of a group that is served here; clean when nobody can tell. */
  stateOf(uuid: string): "clean" | "degraded" | "failed" {
    return this.#parts.host.stateOf?.(uuid) ?? "clean";
  }

  #ailing(): Heartbeat["ailing"] {
    const owned = [...this.#groups.values()].filter(({ role }) => role === "owned");
    const ailing = owned.flatMap(({ seen: { uuid: group } }) => {
      const state = this.stateOf(group);
      return state === "clean" ? [] : [{ group, state }];
    });
    return lacksThatFit(ailing);
  }

  #letGo(): Heartbeat["letGo"] {
    const groups = [...this.#groups.values()].filter(({ letGo }) => letGo > 0);
    return groups.map(({ seen, letGo }) => ({ group: seen.uuid, epoch: letGo }));
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

  /** The partner runs on another host, or nobody knows where: locks say nothing of it. */
  #isElsewhere(): boolean {
    return this.partner().heartbeat?.bootId !== this.#parts.identity.bootId;
  }

  #owns(): boolean {
    return [...this.#groups.values()].some(({ epoch }) => epoch >= 0);
  }

  /** We own something, and the partner may have heard nothing of us for as long as a lease lasts. */
  #hasLapsed(): boolean {
    const { settings, without } = this.#parts;
    if (this.#nowMs() - this.#heardMs <= settings.leaseMs) return false;
    return this.#owns() && this.#isElsewhere() && without?.lease !== true;
  }

  #loseAll(): void {
    for (const group of this.#groups.values()) group.epoch = -1;
    this.#parts.stopAtOnce("no majority of the disks has taken this node's heartbeat for as long as its lease lasts");
  }

  /** Groups that we serve: does somebody else, does the partner want one, has one failed here? */
  async #watchOwned(): Promise<void> {
    // A beat does not ask what an earlier one is still waiting to hear.
    if (this.#watchingOwned && this.#parts.without?.haste !== true) return;
    this.#watchingOwned = true;
    try {
      await this.#lookAtOwned();
    } finally {
      this.#watchingOwned = false;
    }
  }

  async #lookAtOwned(): Promise<void> {
    const { heartbeat } = this.partner();
    for (const group of this.#groups.values()) {
      if (group.role !== "owned" || group.busy) continue;
      const { uuid } = group.seen;
      if (this.#isElsewhere()) await this.#refuseNewer(group);
      if (group.role !== "owned" || group.busy || this.#stopped) continue;
      if (this.partnerIsAlive && heartbeat?.wants.includes(uuid) === true) {
        void this.#work(group, () => this.#let(group, `asked for by ${heartbeat.node}`));
      } else if (this.partnerIsAlive && this.#parts.host.hasFailed(uuid) && group.retry.isDue(this.#nowMs())) {
        // It was lost while the partner was away.
        this.lost(uuid);
      } else if (group.retry.isDue(this.#nowMs())) {
        if (this.partnerIsAlive) this.#handOver(group);
        if (!group.busy) this.#followPaths(group);
      }
    }
  }

  async #refuseNewer(group: Tracked): Promise<void> {
    const other = (await this.#readLease(group))?.other ?? null;
    if (other === null || group.role !== "owned") return;
    if (other.epoch <= group.epoch || other.state !== "held") return;
    group.epoch = -1;
    this.#parts.stopAtOnce(`group ${group.seen.name} was taken by ${other.owner} under epoch ${other.epoch}`);
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
      // Whatever kept us from it: somebody could take it.
      if (this.partner().heartbeat?.owned.includes(group.seen.uuid) === true) group.retry.reset();
      if (group.looking || !this.#isFree(group) || !group.retry.isDue(this.#nowMs())) continue;
      group.looking = true;
      await this.#look(group).finally(() => {
        group.looking = false;
      });
    }
  }

  async #look(group: Tracked): Promise<void> {
    const elsewhere = this.#isElsewhere();
    const basis = elsewhere ? await this.#readLease(group) : null;
    if (basis?.own != null && this.#isFree(group) && this.#isLeftOver(group, basis.own)) {
      void this.#work(group, () => this.#tidy(group));
      return;
    }
    const reason = elsewhere ? await this.#reasons.elsewhere(group, basis) : this.#reasons.here(group);
    if (reason === null || !this.#isFree(group)) return;
    void this.#work(group, async () => {
      await this.#changeover.take(group, reason, basis);
      if (group.role === "owned") void this.#beat();
    });
  }

  async #tidy(group: Tracked): Promise<void> {
    await this.#leases.tidy(group.seen);
    group.letGo = 0;
  }

  /** What this node last held it takes again at once, unless it has just failed to, or to let it go. */
  #isLeftOver({ retry, yieldedUntilMs }: Tracked, { state }: Lease): boolean {
    if (state === "held") return retry.waits || this.#nowMs() < yieldedUntilMs;
    return state === "claimed";
  }

  #isFree({ role, busy }: Tracked): boolean {
    return role === "watched" && !busy && !this.#stopped;
  }

  /** null: too few disks can be asked. */
  #readLease({ seen }: Tracked): Promise<LeaseView | null> {
    return this.#leases.read(seen).catch(() => null);
  }

  // --- odds and ends

  /** One thing at a time with a group; an error is told and the group is left alone for a moment. */
  #work(group: Tracked, action: () => Promise<void>): Promise<void> {
    group.busy = true;
    const work = action()
      .then(() => {
        group.complaint = "";
        group.retry.reset();
      })
      .catch((error: unknown) => {
        group.retry.failed(messageOf(error), this.#nowMs());
        this.#report.complain(group, error);
      })
      .finally(() => {
        group.busy = false;
      });
    this.#working.add(work);
    return work.finally(() => this.#working.delete(work));
  }

  async #let(group: Tracked, reason: string): Promise<void> {
    await this.#changeover.release(group, reason);
    if (!this.#stopped) void this.#beat();
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
}

/** Another disk than before may be the one that it could not be taken without. */
function see(group: Tracked, seen: SeenGroup, home: string): void {
  if (seen.paths.join() !== group.seen.paths.join()) group.retry.reset();
  group.seen = seen;
  group.home = home;
}
