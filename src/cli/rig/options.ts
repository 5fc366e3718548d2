import { Option } from "commander";

export function dirOption(): Option {
  return new Option("--dir <dir>", "the rig's folder").makeOptionMandatory();
}
