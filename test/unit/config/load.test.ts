import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { expandPattern, matches } from "../../../src/config/glob.js";
import { loadConfig, parseConfig } from "../../../src/config/load.js";
import { suggest } from "../../../src/config/suggest.js";
import { ConfigError } from "../../../src/config/written.js";
import { SLOW_DISKS } from "../../../src/raid/aside-watch.js";

function mistakes(text: string): readonly string[] {
  try {
    parseConfig(text, "/etc/s.yaml");
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.lines;
  }
  return [];
}

test("config: defaults stand behind everything but disks", () => {
  const config = parseConfig("disks: [a.img, /srv/*.img]\n", "/etc/stripeward/s.yaml");
  assert.deepEqual(config.disks, ["/etc/stripeward/a.img", "/srv/*.img"]);
  assert.equal(config.node, "chn1");
  assert.equal(config.nfs.port, 2049);
  assert.equal(config.management.mode, 0o600);
  assert.equal(config.logLevel, "info");
});

test("config: every mistake is one line with its place", () => {
  const text = [
    "node: chn9",
    "disks: /dev/sda",
    "nfs:",
    "  prot: 2049",
    "  port: 70000",
    "memory:",
    "  data-cache: much",
    "  metadata-cache: 1K",
    "log-level: loud",
    "colour: red",
    "",
  ].join("\n");
  assert.deepEqual(mistakes(text), [
    "/etc/s.yaml:1:7: node: wants a node name, chn1 to chn8",
    "/etc/s.yaml:2:8: disks: wants a list of paths",
    "/etc/s.yaml:4:3: nfs.prot: unknown key; did you mean port?",
    "/etc/s.yaml:5:9: nfs.port: wants a port number, 0 to 65535 (0: any free one)",
    '/etc/s.yaml:7:15: memory.data-cache: not a size: "much" (examples: 4096, 64K, 1.5G, 2T)',
    "/etc/s.yaml:8:19: memory.metadata-cache: wants 4 MiB to 1 GiB, not 1 KiB",
    "/etc/s.yaml:9:12: log-level: wants one of error, warn, info, debug",
    "/etc/s.yaml:10:1: colour: unknown key; known here: node, state-directory, disks, management, nfs, memory, care, slow-disks, pair, backups, direct-io, fault-injection, volatile-cache, log-level",
  ]);
});

test("config: whom the nodes of a pair reach", () => {
  const text = (reach: string) =>
    `node: chn1\ndisks: []\nnfs: { port: 2049 }\npair:\n  partner: chn5\n  reach: ${reach}\n`;
  const targets = parseConfig(text('["192.0.2.254:53", "[2001:db8::1]:443"]'), "/etc/s.yaml").pair?.reach;
  assert.deepEqual(targets, [
    { text: "192.0.2.254:53", host: "192.0.2.254", port: 53 },
    { text: "[2001:db8::1]:443", host: "2001:db8::1", port: 443 },
  ]);
  assert.deepEqual(parseConfig(text("[]"), "/etc/s.yaml").pair?.reach, []);
  const bare = `${text("[gateway, 192.0.2.7]")}  address-command: /run/a.socket\n`;
  assert.deepEqual(
    parseConfig(bare, "/etc/s.yaml").pair?.reach.map(({ port }) => port),
    [null, null],
  );
  const wants = "wants gateway, an address, or an address with a port such as 192.0.2.254:53 or [2001:db8::1]:53";
  assert.deepEqual(mistakes(text('[router, "192.0.2.1:0", "192.0.2.1:70000", 7]')), [
    ...[0, 1, 2, 3].map((i) => `/etc/s.yaml:6:${[11, 19, 34, 53][i]}: pair.reach[${i}]: ${wants}`),
  ]);
  assert.deepEqual(mistakes(text("[192.0.2.7]")), [
    "/etc/s.yaml:6:10: pair.reach: 192.0.2.7 is asked by pair.address-command, which is missing; or give it a port (192.0.2.7:53)",
  ]);
});

test("config: how long the cabinet waits before it helps itself", () => {
  assert.deepEqual(parseConfig("disks: []\n", "/s.yaml").care, { spareDelaySeconds: 30, diskScanSeconds: 10 });
  const text = "disks: []\ncare:\n  spare-delay-seconds: 0\n  disk-scan-seconds: 60\n";
  assert.deepEqual(parseConfig(text, "/s.yaml").care, { spareDelaySeconds: 0, diskScanSeconds: 60 });
  assert.deepEqual(mistakes("disks: []\ncare:\n  spare-delay-seconds: -1\n  disk-scan-second: 1\n"), [
    "/etc/s.yaml:3:24: care.spare-delay-seconds: wants how long a missing disk may be late: whole seconds, 0 to 86400",
    "/etc/s.yaml:4:3: care.disk-scan-second: unknown key; did you mean disk-scan-seconds?",
  ]);
});

test("config: when a slow disk is left out", () => {
  assert.deepEqual(parseConfig("disks: []\n", "/s.yaml").slowDisks, SLOW_DISKS);
  const text = "disks: []\nslow-disks: { factor: 20, seconds: 60 }\n";
  assert.deepEqual(parseConfig(text, "/s.yaml").slowDisks, { factor: 20, afterMs: 60_000 });
  const never = parseConfig("disks: []\nslow-disks: { seconds: 0 }\n", "/s.yaml").slowDisks;
  assert.deepEqual(never, { factor: SLOW_DISKS.factor, afterMs: Number.POSITIVE_INFINITY });
  assert.deepEqual(mistakes("disks: []\nslow-disks:\n  factor: 1\n  second: 1\n"), [
    "/etc/s.yaml:3:11: slow-disks.factor: wants 2 at least",
    "/etc/s.yaml:4:3: slow-disks.second: unknown key; did you mean seconds?",
  ]);
});

test("config: backups by schedule", () => {
  const text = [
    "disks: []",
    "backups:",
    "  - { fs: data, to: 'b/{time}', every: 24h, keep: 3 }",
    "  - { shared: true, to: '/b/s-{time}', every: 30m }",
  ].join("\n");
  assert.deepEqual(parseConfig(text, "/etc/s.yaml").backups, [
    { fileSystem: "data", to: "/etc/b/{time}", everySeconds: 86_400, keep: 3 },
    { fileSystem: null, to: "/b/s-{time}", everySeconds: 1800, keep: 7 },
  ]);
  assert.deepEqual(mistakes("disks: []\nbackups:\n  - { to: /b, every: often, keep: 0, fss: data }\n"), [
    "/etc/s.yaml:3:5: backups[0]: wants either fs: NAME or shared: true",
    "/etc/s.yaml:3:11: backups[0].to: wants a path with {time} in it, such as /backup/data-{time}.swb",
    "/etc/s.yaml:3:22: backups[0].every: wants a time such as 12h, 24h or 7d",
    "/etc/s.yaml:3:35: backups[0].keep: wants 1 at least",
    "/etc/s.yaml:3:38: backups[0].fss: unknown key; did you mean fs?",
  ]);
  assert.deepEqual(mistakes("disks: []\nbackups:\n  - { to: '/b/{time}', every: 1h }\n"), [
    "/etc/s.yaml:3:5: backups[0]: wants either fs: NAME or shared: true",
  ]);
});

test("config: a syntax error is one line too", () => {
  const lines = mistakes("disks: [a, b\nnfs: {}\n");
  assert.ok(lines.length >= 1);
  for (const line of lines) assert.match(line, /^\/etc\/s\.yaml:\d+:\d+: syntax: [^\n]+$/);
});

test("config: an empty file says what is missing", () => {
  assert.deepEqual(mistakes(""), ["/etc/s.yaml:1:1: disks: is missing: where to look for disks"]);
});

test("config: a list where keys are wanted", () => {
  assert.deepEqual(mistakes("- a\n"), ["/etc/s.yaml:1:1: wants keys and values"]);
  assert.deepEqual(mistakes("disks: []\nnfs: 3\n"), ["/etc/s.yaml:2:6: nfs: wants keys and values"]);
});

test("config: a duplicated key and a bare octal mode are refused", () => {
  assert.match(mistakes("disks: []\ndisks: []\n")[0]!, /^\/etc\/s\.yaml:2:1: syntax: /);
  assert.match(
    mistakes("disks: []\nmanagement: {mode: 0600}\n")[0]!,
    /management\.mode: wants an octal mode in quotes/,
  );
});

test("config: a socket path that the kernel would cut is refused", () => {
  const lines = mistakes(`disks: []\nmanagement:\n  socket: /${"x".repeat(120)}\n`);
  assert.deepEqual(lines, ["/etc/s.yaml:3:11: management.socket: the path has 121 bytes; the kernel allows 107"]);
});

test("config: a file that cannot be read names it", () => {
  assert.throws(() => loadConfig("/nonexistent/s.yaml"), /^ConfigError: \/nonexistent\/s\.yaml: cannot be read: /);
});

test("suggest: near words only", () => {
  assert.equal(suggest("log-lvl", ["log-level", "node"]), "log-level");
  assert.equal(suggest("zzzzzz", ["log-level", "node"]), undefined);
});

test("glob: patterns in any part, hidden names only when asked for", (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-glob-"));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const name of ["a1", "a2", "b1"]) mkdirSync(path.join(folder, name));
  for (const name of ["a1/d.img", "a2/d.img", "a2/.h.img", "b1/d.img"]) writeFileSync(path.join(folder, name), "");
  const names = (pattern: string) => expandPattern(path.join(folder, pattern)).map((p) => path.relative(folder, p));
  assert.deepEqual(names("a?/*.img"), ["a1/d.img", "a2/d.img"]);
  assert.deepEqual(names("a2/.*"), ["a2/.h.img"]);
  assert.deepEqual(names("none/d.img"), ["none/d.img"]);
  assert.deepEqual(names("none/*.img"), []);
});

test("config: fault injection is off unless it is asked for, and a volatile cache is nothing without it", () => {
  const plain = parseConfig("disks: [a]\n", "/etc/s.yaml");
  assert.deepEqual([plain.faultInjection, plain.volatileCache], [false, false]);
  const rig = parseConfig("disks: [a]\nfault-injection: true\nvolatile-cache: true\n", "/etc/s.yaml");
  assert.deepEqual([rig.faultInjection, rig.volatileCache], [true, true]);
  assert.deepEqual(mistakes("disks: [a]\nvolatile-cache: true\n"), [
    "/etc/s.yaml:2:17: volatile-cache: is for rigs only and wants fault-injection: true, too",
  ]);
});

test("config: what the start would refuse, and what lets everybody in, is refused with its place", () => {
  const [long, deep] = ["a".repeat(5000), "[".repeat(20_000)];
  const refused: [string, RegExp][] = [
    ['disks: ["/x\\0y"]', /^\/etc\/s\.yaml:1:9: disks\[0\]: wants a path .*, without control characters$/],
    [`disks: [/${long}]`, /^\/etc\/s\.yaml:1:9: disks\[0\]: wants a path .*, of 4095 bytes at most$/],
    ["disks: []\nnfs: { host: localhost }", /:2:14: nfs\.host: wants an address .*: an IPv4 or IPv6 address$/],
    ['disks: []\nmanagement: { mode: "0777" }', /:2:21: management\.mode: lets everybody on this machine administer/],
    ["disks: !foo [/x]", /:1:\d+: !foo: tags are not used here$/],
    ["disks: [!!binary aGk=]", /:1:\d+: tag:yaml\.org,2002:binary: tags are not used here$/],
    ["disks: &a [*a]", /:1:12: \*a: aliases are not used here: write the value out$/],
    ["disks: []\ndisks: []", /:2:1: syntax: the key disks stands twice$/],
    [`disks: ${deep}`, /:1:\d+: syntax: it is nested too deeply$/],
  ];
  for (const [text, expected] of refused) assert.match(mistakes(text)[0] ?? "accepted", expected);
  assert.equal(parseConfig('disks: []\nmanagement: { mode: "0660" }', "/s.yaml").management.mode, 0o660);
});

test("config: ten times the mistakes take ten times as long, not a hundred times, and are not all told", () => {
  const keys = (count: number) => Array.from({ length: count }, (_, i) => `key${i}: 1\n`).join("");
  const lines = mistakes(`${keys(20_000)}disks: []\n`);
  assert.equal(lines.length, 51);
  assert.match(lines[0]!, /^\/etc\/s\.yaml:1:1: key0: unknown key/);
  assert.equal(lines.at(-1), "/etc/s.yaml: 19950 more mistakes");
  const bomb = `a: &a [x]\n${Array.from({ length: 40 }, (_, i) => `b${i}: &b${i} [*a, *a]\n`).join("")}`;
  assert.match(mistakes(bomb)[0]!, /aliases are not used here/);
});

test("config: a file that is no text, or far too large, is not read into memory and parsed", (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-config-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "s.yaml");
  const refuses = (content: Buffer | string, expected: RegExp) => {
    writeFileSync(file, content);
    assert.throws(() => loadConfig(file), expected);
  };
  refuses(Buffer.from("disks:\n- /x\xff\n", "latin1"), /s\.yaml:2:1: is not UTF-8$/);
  refuses(`# ${"x".repeat(1 << 20)}\n`, /cannot be read: it has 1048579 bytes, and 1048576 are the most/);
});

test("config: patterns match as in a shell, and none takes longer than a glance", () => {
  for (const [pattern, name, wanted] of [
    ["*.img", "a.img", true],
    ["*.img", "a.imgx", false],
    ["d?sk*", "disk12", true],
    ["a*b*c", "axxbyybzzc", true],
    ["a*b*c", "axxbyybzz", false],
    ["*", "", true],
    ["a.c", "abc", false],
    [`${"*a".repeat(200)}b`, "a".repeat(255), false],
  ] as const)
    assert.equal(matches(pattern, name), wanted, `${pattern} ${name}`);
});
