import { startEnvironment } from "../config/start-environment.js";

/** Of a daemon that is started from here. Options of Node that somebody has set are kept, behind ours. */
export function daemonEnvironment(node: { hasPartner: boolean }): NodeJS.ProcessEnv {
  const ours = startEnvironment(node);
  const given = process.env.NODE_OPTIONS;
  return {
    ...process.env,
    ...ours,
    NODE_OPTIONS: given === undefined ? ours.NODE_OPTIONS : `${ours.NODE_OPTIONS} ${given}`,
  };
}
