import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { REPOSITORY } from "./packages.js";

/**
 * Runs a program under what a unit of ours allows: account, capabilities, no new privileges, system calls and address families. systemd itself is not needed, only its
 * lists of system calls (systemd-analyze) and gcc. Not played: what systemd mounts and which devices it allows.
 */
export class UnitConfinement {
  readonly #settings: ReadonlyMap<string, readonly string[]>;
  readonly #filter: string;

  /** @param unit  its file below systemd/. @param folder  where the filter is built, readable for all */
  constructor(unit: string, folder: string) {
    this.#settings = parseUnit(readFileSync(path.join(REPOSITORY, "systemd", unit), "utf8"));
    this.#filter = this.#build(path.join(folder, unit.replace(/\W/g, "-")));
  }

  last(key: string): string {
    return this.#settings.get(key)?.at(-1) ?? "";
  }

  /** @param uid  stands for the account of the unit */
  command(uid: number, ...words: readonly string[]): string[] {
    const bounding = capabilities(this.last("CapabilityBoundingSet"));
    const ambient = capabilities(this.last("AmbientCapabilities"));
    const setpriv = ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", `--bounding-set=${bounding}`];
    if (this.last("NoNewPrivileges") === "yes") setpriv.push("--no-new-privs");
    return [...setpriv, `--inh-caps=${ambient}`, `--ambient-caps=${ambient}`, this.#filter, ...words];
  }

  #build(file: string): string {
    const names = allowedCalls(this.#settings.get("SystemCallFilter") ?? []);
    const families = this.last("RestrictAddressFamilies").split(" ");
    writeFileSync(`${file}.c`, source([...names], families));
    const { status, stderr } = spawnSync("gcc", ["-O1", "-o", file, `${file}.c`], { encoding: "utf8" });
    if (status !== 0) throw new Error(`gcc: ${stderr}`);
    return file;
  }
}

/** Values by key, in their order; an empty value forgets those before it (systemd.syntax(7)). */
function parseUnit(text: string): Map<string, string[]> {
  const settings = new Map<string, string[]>();
  for (const line of text.split("\n")) {
    const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (key === undefined || value === undefined) continue;
    settings.set(key, value === "" ? [] : [...(settings.get(key) ?? []), value]);
  }
  return settings;
}

function capabilities(list: string): string {
  const names = list.split(" ").filter((name) => name !== "");
  return ["-all", ...names.map((name) => `+${name.replace(/^CAP_/, "").toLowerCase()}`)].join(",");
}

/** The first list says whether it allows or forbids; each later one adds to that, or takes away (systemd.exec(5), SystemCallFilter=). */
function allowedCalls(lists: readonly string[]): Set<string> {
  const allowed = new Set<string>();
  for (const list of lists) {
    const names = list.replace(/^~/, "").split(" ").flatMap(expand);
    for (const name of names) {
      if (list.startsWith("~")) allowed.delete(name);
      else allowed.add(name);
    }
  }
  return allowed;
}

function expand(name: string): string[] {
  if (!name.startsWith("@")) return [name];
  const { stdout, status } = spawnSync("systemd-analyze", ["syscall-filter", name], { encoding: "utf8" });
  if (status !== 0) throw new Error(`systemd-analyze knows no ${name}`);
  const lines = stdout.split("\n").slice(1);
  return lines
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .flatMap(expand);
}

function source(calls: readonly string[], families: readonly string[]): string {
  const allow = calls.map((name) => `#ifdef __NR_${name}\n  JEQ(__NR_${name}), RET(SECCOMP_RET_ALLOW),\n#endif`);
  const open = families.map((name) => `  JEQ(${name}), RET(SECCOMP_RET_ALLOW),`);
  return `#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define JEQ(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 1)
#define RET(value) BPF_STMT(BPF_RET | BPF_K, (value))
/* socket() alone looks at the family. */
static struct sock_filter filter[] = {
  LOAD(nr),
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, ${2 * families.length + 2}),
  LOAD(args[0]),
${open.join("\n")}
  RET(SECCOMP_RET_ERRNO | EAFNOSUPPORT),
${allow.join("\n")}
  RET(SECCOMP_RET_ERRNO | EPERM),
};
int main(int argc, char **argv) {
  struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };
  if (argc < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
    perror("filter");
    return 125;
  }
  execvp(argv[1], argv + 1);
  perror(argv[1]);
  return 127;
}
`;
}
