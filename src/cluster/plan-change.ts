import { StorageError } from "../lib/errors.js";
import type { ClusterPlan } from "./plan.js";
import type { ClusterRecord, StepRow } from "./record.js";
import { installStep } from "./steps.js";

/** What of a plan is kept in the record: all but where its file lies. */
export function planFacts({ file: _, ...facts }: ClusterPlan): Record<string, unknown> {
  return JSON.parse(JSON.stringify(facts)) as Record<string, unknown>;
}

/** Changes of a node that count only when it is installed. */
const UNTIL_INSTALLED = ["address", "port", "install", "state", "socket", "config", "disks", "start", "local"];

/**
 * Compare a plan with the one that an interrupted set-up was begun with. Once a step has begun, what that step used is fixed; what is used only later, or is
 * the terminal's own business, may change.
 * @returns the keys that changed without harm
 * @throws StorageError EINVAL naming every change that cannot be made any more
 */
export function compareWithRecord(plan: ClusterPlan, record: ClusterRecord | null): string[] {
  if (record === null) return [];
  const changed = differences(record.plan, planFacts(plan));
  const begun = record.steps.filter(({ attempts }) => attempts > 0);
  const fixed = changed.filter((key) => isFixed(key, plan, begun));
  if (fixed.length === 0) return changed;
  const things = fixed.join(", ");
  throw new StorageError(
    "EINVAL",
    `the plan has changed since the set-up began, in what is done already: ${things}; go on with the plan as it was, or use another --dir`,
  );
}

function isFixed(key: string, plan: ClusterPlan, begun: readonly StepRow[]): boolean {
  if (begun.length === 0) return false;
  const [section, index, field] = key.split(".");
  if (section === "management") return false;
  const started = (id: string) => begun.some((step) => step.id === id);
  if (section === "data") return begun.some(({ id }) => id.startsWith("data "));
  const installed = plan.nodes.map(({ name }) => started(installStep(name)));
  if (section === "pair" || section === "directIo") return installed.includes(true);
  if (section !== "nodes") return true;
  return !UNTIL_INSTALLED.includes(field ?? "") || installed[Number(index)] === true;
}

/** Keys of leaves (and of lists, as wholes) in which two documents differ; `nodes.0.port`. */
function differences(before: unknown, after: unknown, key = ""): string[] {
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  const nested = key === "" || key === "management" || key === "pair" || key === "data" || /^nodes(\.\d+)?$/.test(key);
  if (!nested || !isObject(before) || !isObject(after)) return [key];
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return keys.flatMap((one) => differences(before[one], after[one], key === "" ? one : `${key}.${one}`));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
