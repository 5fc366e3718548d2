import type { ClusterPlan } from "./plan.js";
import type { StepPlan } from "./record.js";

/** The parts of the work that a node does on its own management API after it has been installed, in this order. */
export const FURNISH_STEPS = {
  partitionsShared: "partitions shared",
  partitionsBackup: "partitions backup",
  storesShared: "file systems shared",
  storesBackup: "file systems backup",
  disks: "data disks",
  group: "data group",
  fileSystem: "data file system",
  exports: "data exports",
} as const;

export const TERMINAL_STEPS = {
  shared: "shared",
  backup: "backup",
  pathShared: "paths shared",
  pathBackup: "paths backup",
} as const;

export const installStep = (node: string) => `install ${node}`;
export const completionStep = (node: string) => `completion ${node}`;

/** The whole sequence, in the order in which it is run. */
export function sequenceOf(plan: ClusterPlan): StepPlan[] {
  const names = plan.nodes.map(({ name }) => name);
  const [first = "", second = ""] = names;
  const both = names.join(" and ");
  const own = (id: string, what: string): StepPlan => ({ id, what, node: first });
  return [
    { id: TERMINAL_STEPS.shared, what: "initialise the shared LU", node: null },
    { id: TERMINAL_STEPS.backup, what: "initialise its backup", node: null },
    { id: TERMINAL_STEPS.pathShared, what: `define the path to the shared LU for ${both}`, node: null },
    { id: TERMINAL_STEPS.pathBackup, what: `define the path to the backup for ${both}`, node: null },
    { id: installStep(first), what: `install ${first} over the network`, node: first },
    own(FURNISH_STEPS.partitionsShared, `partitions for ${both} on the shared LU`),
    own(FURNISH_STEPS.partitionsBackup, `partitions for ${both} on the backup`),
    own(FURNISH_STEPS.storesShared, `file systems on the partitions of the shared LU`),
    own(FURNISH_STEPS.storesBackup, `file systems on the partitions of the backup`),
    ...(plan.data === null ? [] : dataSteps(plan.data.group, plan.data.fileSystem, first)),
    { id: completionStep(first), what: `completion notice of ${first}`, node: first },
    { id: installStep(second), what: `install ${second} over the network`, node: second },
    { id: completionStep(second), what: `completion notice of ${second}`, node: second },
  ];
}

function dataSteps(group: string, fileSystem: string, node: string): StepPlan[] {
  return [
    { id: FURNISH_STEPS.disks, what: `add the disks of group ${group}`, node },
    { id: FURNISH_STEPS.group, what: `create group ${group}`, node },
    { id: FURNISH_STEPS.fileSystem, what: `create file system ${fileSystem}`, node },
    { id: FURNISH_STEPS.exports, what: `export /${fileSystem}`, node },
  ];
}
