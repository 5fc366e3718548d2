const UTF8 = new TextDecoder("utf-8", { fatal: true });

/** Names are bytes. What is not UTF-8, and a control character that would play with a terminal, is shown as \\xNN. */
export function printable(name: Buffer): string {
  try {
    return UTF8.decode(name).replace(/\p{Cc}/gu, (control) => hex(control.charCodeAt(0)));
  } catch {
    return [...name].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : hex(byte))).join("");
  }
}

function hex(code: number): string {
  return `\\x${code.toString(16).padStart(2, "0")}`;
}
