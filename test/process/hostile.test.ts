import assert from "node:assert/strict";
import { test } from "node:test";
import { RawSender } from "../hostile/raw.js";
import { SCENARIOS } from "../hostile/registry.js";
import { runHostile } from "../hostile/run.js";

/** All scenarios once; `npm run test:hostile -- --seconds 3600` goes on for as long as you like. */
const SECONDS = Number(process.env.HOSTILE_SECONDS ?? 60);
/** A run alone judges each round; here, beside whatever else the machine does, a bound of time is broken when it is broken three times in a row. */
const ATTEMPTS = 3;

test("hostile: whatever is sent to the daemon, it stays, answers the others in time, and keeps to its memory", async (t) => {
  const { sender, why } = RawSender.open();
  await sender?.close();
  for (const { name } of SCENARIOS.filter(({ needsRaw }) => needsRaw === true))
    await t.test(`${name} needs packets of our own making`, { skip: sender === null && why }, () => {});
  const seed = Number(process.env.HOSTILE_SEED ?? Date.now() % 1_000_000);
  const say = (line: string) => t.diagnostic(line);
  const verdicts = await runHostile({ scenarios: SCENARIOS, seconds: SECONDS, seed, say, attempts: ATTEMPTS });
  const failed = verdicts.filter(({ failures }) => failures.length > 0);
  const told = failed.map(({ scenario, failures }) => `${scenario}: ${failures.join("; ")}\n`).join("");
  assert.equal(failed.length, 0, `${told}again: npm run test:hostile -- --seconds ${SECONDS} --seed ${seed}`);
  assert.ok(verdicts.length > 0);
});
