import { parseArgs } from "node:util";
import { runSoak } from "./soak.js";

const USAGE = `usage: npm run test:long -- [options]
  --hours H      how long (2); 0.5 is the least from which a trend says something
  --seed S       content and order
`;

/** MiB per hour that a run of two hours and more may still show: below what the samples themselves scatter. */
const SLOPE_MAX = 10;
const JUDGED_HOURS = 2;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      hours: { type: "string", default: "2" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      help: { type: "boolean", default: false },
    },
  });
  const [hours, seed] = [Number(values.hours), Number(values.seed)];
  if (values.help || !(hours > 0) || !Number.isSafeInteger(seed)) {
    process.stderr.write(USAGE);
    return values.help ? 0 : 2;
  }
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  say(`seed ${seed}`);
  const { slopes, failures, samples, rounds } = await runSoak({ hours, seed, say });
  const peak = Math.max(...samples.map(({ residentMib }) => residentMib));
  const rates = Object.entries(slopes).map(([what, rate]) => `${what} ${rate.toFixed(1)}`);
  say(`${rounds} rounds; resident ${peak} MiB at most; MiB an hour after the first third: ${rates.join(", ")}`);
  const grows = hours >= JUDGED_HOURS && slopes.resident > SLOPE_MAX;
  const wrong = grows ? [...failures, `resident memory grows by ${slopes.resident.toFixed(1)} MiB an hour`] : failures;
  for (const failure of wrong) say(`FAILED: ${failure}`);
  return wrong.length === 0 ? 0 : 1;
}

process.exitCode = await main();
