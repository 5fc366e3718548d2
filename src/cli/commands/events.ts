import { Command, Option } from "commander";
import type { EventRow } from "../../control/types.js";
import { type CommonOptions, contextOf, countArgument, withDaemonOptions } from "../context.js";
import type { Output } from "../output.js";

interface EventsOptions extends CommonOptions {
  readonly follow?: true;
  readonly last: number;
}

export function eventsCommand(): Command {
  return withDaemonOptions(new Command("events"))
    .description("print what happened: disks lost, groups degraded, blocks healed, changes of the set-up")
    .option("--follow", "go on printing as events come (with --json: one document a line)")
    .addOption(new Option("--last <count>", "how many past ones").argParser(countArgument(0, 4096)).default(100))
    .action(async ({ follow, last, ...options }: EventsOptions) => {
      const { api, out } = contextOf(options);
      if (follow === true) {
        const print = (line: string) => {
          const event = JSON.parse(line) as EventRow;
          if (out.json) out.document(event);
          else printEvent(out, event);
        };
        await api.follow("/v1/events/follow", { last }, print);
        return;
      }
      const events = await api.get<EventRow[]>("/v1/events", { last });
      out.result(events, () => {
        for (const event of events) printEvent(out, event);
      });
    });
}

function printEvent(out: Output, { time, severity, what }: EventRow): void {
  out.line(`${time}  ${severity.padEnd(7)}  ${what}`);
}
