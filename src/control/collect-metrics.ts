import { latencyQuantileUs } from "../protocol/rpc/statistics.js";
import type { NfsStatistics } from "../protocol/server.js";
import type { TaskDescription } from "../raid/contract.js";
import type { IoCounters } from "./bind-layers.js";
import type { Cabinet } from "./cabinet.js";
import { clientSamples } from "./client-rows.js";
import { pad } from "./disk-shelf.js";
import type { LoopWatch } from "./loop-watch.js";
import { renderMetrics, type Sample, samplesOf } from "./metrics.js";
import type { PartHealth } from "./part-health.js";

export interface MetricSources {
  readonly cabinet: Cabinet;
  readonly health: PartHealth;
  readonly nfs: NfsStatistics;
  readonly io: IoCounters;
  readonly loop: LoopWatch;
  readonly upSeconds: number;
}

/** The figures of all layers at this moment, for /metrics. */
export function collectMetrics({ cabinet, health, nfs, io, loop, upSeconds }: MetricSources): string {
  return renderMetrics([
    ...processSamples(upSeconds),
    ...loopSamples(loop),
    { name: "device_bounced_transfers_total", value: io.bouncedTransfers },
    { name: "device_stray_reads_total", value: io.strayReads },
    ...cabinet.groups().flatMap(groupSamples),
    ...cabinet.disks().flatMap(diskSamples),
    ...[...cabinet.fileSystems.statistics()].flatMap(([name, values]) =>
      samplesOf("file_system", values, { file_system: name }),
    ),
    ...cabinet.fileSystems.rows().flatMap(spaceSamples),
    ...health.rows().map(({ part, problem }) => partSample(part, problem !== null)),
    partSample("shared-group", cabinet.shared.warnings().length > 0),
    ...nfsSamples(nfs),
  ]);
}

/** A part that does not serve files, and has failed: status says why. */
function partSample(part: string, failed: boolean): Sample {
  return { name: "part_failed", value: failed ? 1 : 0, labels: { part } };
}

function processSamples(upSeconds: number): Sample[] {
  const { rss, heapUsed, external } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const { utilization } = performance.eventLoopUtilization();
  return [
    { name: "process_up_seconds", value: upSeconds },
    { name: "process_resident_bytes", value: rss },
    { name: "process_heap_used_bytes", value: heapUsed },
    { name: "process_external_bytes", value: external },
    { name: "process_cpu_seconds_total", value: (user + system) / 1e6 },
    { name: "process_event_loop_utilization_ratio", value: utilization },
  ];
}

/** How late timers come because of work of ours: the gauges are of the last minute, the counters since the start. */
function loopSamples(loop: LoopWatch): Sample[] {
  const { p99Ms, maxMs, longestMs, starvedMs } = loop.delay();
  return [
    { name: "event_loop_delay_seconds", value: p99Ms / 1000, labels: { quantile: "0.99" } },
    { name: "event_loop_delay_seconds", value: maxMs / 1000, labels: { quantile: "1" } },
    { name: "event_loop_delay_longest_seconds", value: longestMs / 1000 },
    { name: "event_loop_starved_seconds_total", value: starvedMs / 1000 },
    ...loop.over().map(({ overMs, count }) => {
      return { name: "event_loop_delays_total", value: count, labels: { over: String(overMs / 1000) } };
    }),
  ];
}

function nfsSamples(nfs: NfsStatistics): Sample[] {
  const { procedures, connections, datagrams } = nfs;
  return [
    { name: "nfs_connections", value: connections },
    ...clientSamples(nfs),
    { name: "nfs_datagrams_total", value: datagrams.received },
    ...(["malformed", "busy", "withheld", "unsent"] as const).map((reason) => {
      return { name: "nfs_datagrams_dropped_total", value: datagrams[reason], labels: { reason } };
    }),
    ...procedures.flatMap(({ program, procedure, calls, errors, latencyBuckets }) => {
      const labels = { program, procedure };
      const atMostUs = (share: number) => (calls === 0 ? 0 : latencyQuantileUs(latencyBuckets, share) / 1e6);
      return [
        { name: "nfs_calls_total", value: calls, labels },
        { name: "nfs_errors_total", value: errors, labels },
        { name: "nfs_latency_seconds", value: atMostUs(0.5), labels: { ...labels, quantile: "0.5" } },
        { name: "nfs_latency_seconds", value: atMostUs(0.99), labels: { ...labels, quantile: "0.99" } },
      ];
    }),
  ];
}

const STATE_VALUE = { clean: 0, degraded: 1, failed: 2 } as const;

function groupSamples(group: ReturnType<Cabinet["groups"]>[number]): Sample[] {
  const labels = { group: group.name };
  const counters = Object.entries(group.counters ?? {}).map(([name, value]) => [`${name}Total`, value] as const);
  return [
    // 0 clean, 1 degraded, 2 failed.
    { name: "group_state", value: STATE_VALUE[group.state], labels },
    { name: "group_missing_disks", value: group.missingDisks.length, labels },
    { name: "group_lost_blocks", value: group.lostBlocks, labels },
    { name: "group_unreadable_places", value: group.unreadable, labels },
    { name: "group_raw_free_bytes", value: group.rawFreeBytes, labels },
    ...samplesOf("group", Object.fromEntries(counters), labels),
    ...group.tasks.flatMap((task) => taskSamples(task, group.name)),
    { name: "group_scrub_finished_timestamp_seconds", value: group.scrub.finishedMs / 1000, labels },
    { name: "group_scrub_found", value: group.scrub.found, labels },
    { name: "group_scrub_healed", value: group.scrub.healed, labels },
  ];
}

function taskSamples({ kind, state, doneBytes, totalBytes, bytesPerSecond }: TaskDescription, group: string): Sample[] {
  const running = state === "running" ? 1 : 0;
  return samplesOf("task", { running, doneBytes, totalBytes, bytesPerSecond }, { group, kind });
}

/** A disk's state is the label of a 1: `stripeward_disk_state{disk="003",state="failed"} 1`. */
function diskSamples(row: ReturnType<Cabinet["disks"]>[number]): Sample[] {
  if (row.number === null) return [];
  const labels = { disk: pad(row.number), ...(row.group === null ? {} : { group: row.group }) };
  return [
    { name: "disk_state", value: 1, labels: { ...labels, state: row.state } },
    { name: "disk_slow", value: row.slow ? 1 : 0, labels },
    ...(["read", "write", "checksum"] as const).map((kind) => {
      return { name: "disk_errors_total", value: row.errors[kind], labels: { ...labels, kind } };
    }),
    { name: "disk_repaired_blocks_total", value: row.errors.repaired, labels },
  ];
}

function spaceSamples(row: ReturnType<Cabinet["fileSystems"]["rows"]>[number]): Sample[] {
  const labels = { file_system: row.name };
  const { totalBytes, freeBytes, totalFiles, freeFiles } = row;
  const up = row.state === "failed" ? 0 : 1;
  const readOnly = row.state === "read-only" ? 1 : 0;
  return samplesOf("file_system", { up, readOnly, totalBytes, freeBytes, totalFiles, freeFiles }, labels);
}
