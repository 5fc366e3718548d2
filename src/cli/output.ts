import Table from "cli-table3";
import { formatSize } from "../lib/size.js";

/** Everything on stdout goes through here: one JSON document, or tables and sentences for people. */
export class Output {
  constructor(
    readonly json: boolean,
    private readonly stream: NodeJS.WritableStream = process.stdout,
    readonly terminal: boolean = process.stdout.isTTY === true,
  ) {}

  /** Width of the terminal, 80 where there is none. */
  get columns(): number {
    return this.terminal ? (process.stdout.columns ?? 80) : 80;
  }

  /** The document with --json, else what `human` prints. */
  result(document: unknown, human: () => void): void {
    if (this.json) this.raw(`${JSON.stringify(document, null, 2)}\n`);
    else human();
  }

  line(text = ""): void {
    this.raw(`${text}\n`);
  }

  raw(text: string): void {
    this.stream.write(text);
  }

  /** Framed on a terminal; plain columns, two spaces apart, for pipes and scripts. */
  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    this.line(this.terminal ? framed(head, rows) : plain(head, rows));
  }
}

function framed(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const table = new Table({ head: [...head], style: { head: ["bold"], border: ["grey"] } });
  table.push(...rows.map((row) => [...row]));
  return table.toString();
}

function plain(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export function diskNumber(number: number | null): string {
  return number === null ? "–" : `#${String(number).padStart(3, "0")}`;
}

/** `#001-#005` for a run, `#001 #003` otherwise. */
export function diskNumbers(numbers: readonly number[]): string {
  const sorted = [...numbers].sort((a, b) => a - b);
  const first = sorted[0];
  const last = sorted.at(-1);
  const isRun = first !== undefined && last !== undefined && last - first === sorted.length - 1 && sorted.length > 2;
  return isRun ? `${diskNumber(first)}-${diskNumber(last)}` : sorted.map(diskNumber).join(" ");
}

export function volume(bytes: number): string {
  return bytes === 0 ? "–" : formatSize(bytes);
}
