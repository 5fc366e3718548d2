import Table from "cli-table3";
import { printableJson, printableText } from "../lib/printable.js";
import { formatSize } from "../lib/size.js";

/**
 * Everything on stdout goes through here: one JSON document, or tables and sentences for people. What a client, another node or a backup has named is shown
 * escaped, whichever way it came (lib/printable.ts).
 */
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
    if (this.json) this.document(document, 2);
    else human();
  }

  /** A document of its own line, for what comes one by one. */
  document(document: unknown, indent = 0): void {
    this.raw(`${jsonText(document, indent)}\n`);
  }

  /** One line: a line end in the text is shown, and does not begin another. */
  line(text = ""): void {
    this.raw(`${printableText(text)}\n`);
  }

  /** Text of our own, with its line ends and its movements of a cursor. */
  raw(text: string): void {
    this.stream.write(text);
  }

  /** Framed on a terminal; plain columns, two spaces apart, for pipes and scripts. */
  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    const cells = rows.map((row) => row.map(printableText));
    this.raw(`${this.terminal ? framed(head, cells) : plain(head, cells)}\n`);
  }
}

/** As JSON.stringify, fit for a terminal. */
export function jsonText(value: unknown, indent = 0): string {
  return printableJson(JSON.stringify(value, null, indent));
}

/** One line on stderr: a complaint, or what is told beside a document on stdout. */
export function tell(text: string): void {
  process.stderr.write(`${printableText(text)}\n`);
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
