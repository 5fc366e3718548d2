const UTF8 = new TextDecoder("utf-8", { fatal: true });

/**
 * What a name must not do to a reader, beside playing with a terminal: turn the text around (Unicode bidirectional controls, UAX #9; the "Trojan Source"
 * characters), end the line (LINE and PARAGRAPH SEPARATOR), or be there unseen (tags, a byte order mark, half a surrogate pair).
 */
const MISLEADING = String.raw`\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}`;

/** With all that a terminal obeys: C0, DEL, C1. */
export const UNSAFE = new RegExp(String.raw`[\p{Cc}${MISLEADING}]`, "gu");

/** Without C0, which JSON.stringify has escaped already. */
const UNSAFE_IN_JSON = new RegExp(String.raw`[\x7f-\x9f${MISLEADING}]`, "gu");

/** Names are bytes. What is not UTF-8, and what would play with a terminal, is shown as \\xNN or \\u{NNNN}. */
export function printable(name: Buffer): string {
  try {
    return printableText(UTF8.decode(name));
  } catch {
    return [...name].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : escaped(byte))).join("");
  }
}

/** One line of text from outside (a host name, a message of somebody else's), fit for a terminal. Every text that is printed passes here. */
export function printableText(text: string): string {
  return text.replace(UNSAFE, (character) => escaped(character.codePointAt(0) ?? 0));
}

/**
 * A JSON document that a terminal shows as it is: what JSON.stringify leaves is escaped as JSON does it, so the value stays the same.
 * @param json  output of JSON.stringify or of a logger; line ends between tokens stay
 */
export function printableJson(json: string): string {
  return json.replace(UNSAFE_IN_JSON, (character) =>
    Array.from({ length: character.length }, (_, i) => {
      return `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`;
    }).join(""),
  );
}

/** `\\x1b` below 256, `\\u{202e}` above. */
export function escaped(code: number): string {
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}
