import { parseArgs } from "node:util";
import { SCENARIOS } from "./registry.js";
import { runHostile } from "./run.js";

const USAGE = `usage: npm run test:hostile -- [options]
  --seconds N    how long (60)
  --seed S       order and content of what is done (another one each time)
  --only A,B     only these scenarios
  --list         their names
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "60" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      only: { type: "string" },
      list: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return say(USAGE, 0);
  if (values.list) return say(`${SCENARIOS.map(({ name }) => name).join("\n")}\n`, 0);
  const [seconds, seed] = [Number(values.seconds), Number(values.seed)];
  const names = values.only?.split(",");
  const unknown = names?.find((name) => !SCENARIOS.some((scenario) => scenario.name === name));
  if (unknown !== undefined) return say(`no scenario is named ${unknown}\n${USAGE}`, 2);
  if (!(seconds > 0) || !Number.isSafeInteger(seed)) return say(USAGE, 2);
  const scenarios = SCENARIOS.filter(({ name }) => names?.includes(name) ?? true);
  process.stdout.write(`seed ${seed}\n`);
  const verdicts = await runHostile({
    scenarios,
    seconds,
    seed,
    say: (line) => void process.stdout.write(`${line}\n`),
  });
  const failed = verdicts.filter(({ failures }) => failures.length > 0);
  if (failed.length === 0) return say(`${verdicts.length} rounds, nothing went wrong\n`, 0);
  const only = [...new Set(failed.map(({ scenario }) => scenario))].join(",");
  return say(
    `${failed.length} of ${verdicts.length} rounds failed; again:\n  npm run test:hostile -- --seconds ${seconds} --seed ${seed}\nor, of these alone:\n  npm run test:hostile -- --seconds 60 --seed ${seed} --only ${only}\n`,
    1,
  );
}

function say(text: string, status: number): number {
  (status === 2 ? process.stderr : process.stdout).write(text);
  return status;
}

process.exitCode = await main();
