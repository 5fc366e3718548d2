import type { Scenario } from "./scenario.js";
import { callbacks } from "./scenarios/callbacks.js";
import { connections } from "./scenarios/connections.js";
import { datagrams } from "./scenarios/datagrams.js";
import { deaf, halves, idlers, throng, writers } from "./scenarios/hoarders.js";
import { lockedFile, lockNames, waiters } from "./scenarios/locks.js";
import { management } from "./scenarios/management.js";
import { packets } from "./scenarios/packets.js";
import { records } from "./scenarios/records.js";
import { walk } from "./scenarios/walk.js";

/** One file a scenario, in scenarios/. */
export const SCENARIOS: readonly Scenario[] = [
  ...[packets, datagrams, connections, records, callbacks, management],
  ...[waiters, lockedFile, lockNames, walk],
  ...[idlers, halves, deaf, throng, writers],
];
