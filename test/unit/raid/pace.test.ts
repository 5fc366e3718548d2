import { equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { type CancelTimer, SystemClock } from "../../../src/lib/clock.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { Pace } from "../../../src/raid/pace.js";

/** Rests end at once, and are remembered. */
class RestlessClock extends SystemClock {
  nowMs = 0;
  readonly restsMs: number[] = [];

  override monotonicMs(): number {
    return this.nowMs;
  }

  override after(delayMs: number, action: () => void): CancelTimer {
    this.restsMs.push(delayMs);
    this.nowMs += delayMs;
    queueMicrotask(action);
    return () => {};
  }
}

const STEP_MS = 10;

class Load {
  readonly clock = new RestlessClock();
  readonly pace = new Pace(this.clock);

  #request(tookMs: number, meanwhile: () => void = () => {}): void {
    const token = this.pace.enter();
    const startedMs = this.clock.nowMs;
    meanwhile();
    this.clock.nowMs += tookMs;
    this.pace.leave(token, startedMs);
  }

  /** Steps of 10 ms with a client that is asked as often during a step as between two. */
  async steps(count: number, calmMs: number, disturbedMs: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      this.#request(calmMs);
      await this.pace.turn(
        async () => {
          this.#request(disturbedMs);
          this.clock.nowMs += STEP_MS - disturbedMs;
        },
        () => true,
      );
    }
  }
}

test("nobody there: background work does not rest", async () => {
  const { clock, pace } = new Load();
  for (let i = 0; i < 10; i++) {
    await pace.turn(
      async () => {
        clock.nowMs += STEP_MS;
      },
      () => true,
    );
  }
  equal(clock.restsMs.length, 0);
});

test("a client that does not feel it leaves it all the time there is", async () => {
  const load = new Load();
  await load.steps(100, 1, 1);
  equal(load.pace.share, 1);
});

test("a client that becomes slower gets the time back, until it is slower by three tenths at most", async () => {
  const load = new Load();
  await load.steps(400, 1, 3);
  // 0.15 of the time at three times the latency.
  ok(load.pace.share > 0.11 && load.pace.share < 0.16, String(load.pace.share));
  const restMs = load.clock.restsMs.at(-1)!;
  ok(restMs > 5 * STEP_MS && restMs < 9 * STEP_MS, String(restMs));
});

test("however slow the client becomes, the work goes on", async () => {
  const load = new Load();
  await load.steps(400, 0.01, 9);
  equal(load.pace.share, 0.02);
  ok(load.clock.restsMs.every((ms) => ms <= 500));
});

test("a request in twenty that meets a flush changes little", async () => {
  const load = new Load();
  const random = new SeededRandom(3);
  const tail = () => (random.below(20) === 0 ? 20 : 1);
  await load.steps(500, 1, 3);
  for (let i = 0; i < 2000; i++) {
    await load.steps(1, tail(), 3 * tail());
    ok(load.pace.share > 0.06 && load.pace.share < 0.45, String(load.pace.share));
  }
});

/** Timers that fire when told. */
class HeldClock extends SystemClock {
  readonly timers: Array<() => void> = [];

  override after(_delayMs: number, action: () => void): CancelTimer {
    this.timers.push(action);
    return () => void this.timers.splice(this.timers.indexOf(action), 1);
  }
}

test("pace: two kinds of work rest at the same time, and each goes on when its own rest is over", async () => {
  const clock = new HeldClock();
  const pace = new Pace(clock);
  // A client is there all the time.
  pace.enter();
  const ended: string[] = [];
  const work = (name: string): Promise<void> =>
    pace
      .turn(
        async () => {},
        () => true,
      )
      .then(() => void ended.push(name));
  const both = [work("a"), work("b")];
  for (let i = 0; i < 5; i++) await Promise.resolve();
  equal(clock.timers.length, 2);
  clock.timers[1]!();
  for (let i = 0; i < 5; i++) await Promise.resolve();
  equal(ended.join(), "b");
  equal(clock.timers.length, 1);
  pace.hurry();
  await Promise.all(both);
  equal(ended.join(), "b,a");
});
