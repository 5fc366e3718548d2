import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { REPOSITORY } from "../support/packages.js";

const SOURCE = path.join(REPOSITORY, "test/hostile/raw.c");
const UDP = 17;
const TCP = 6;

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** Packets of our own making: what no socket would send. Needs root and a C compiler. */
export class RawSender {
  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
  ) {}

  /** @returns null, with why, when this cannot be had here */
  static open(): { readonly sender: RawSender | null; readonly why: string } {
    if (process.getuid?.() !== 0) return { sender: null, why: "raw sockets need root" };
    const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-raw-"));
    const program = path.join(folder, "raw");
    const { status } = spawnSync("gcc", ["-O1", "-Wall", "-o", program, SOURCE], { stdio: "ignore" });
    if (status !== 0) {
      rmSync(folder, { recursive: true });
      return { sender: null, why: "no gcc" };
    }
    const child = spawn(program, { stdio: ["pipe", "ignore", "ignore"] });
    child.on("error", () => {});
    child.stdin.on("error", () => {});
    return { sender: new RawSender(child, folder), why: "" };
  }

  async close(): Promise<void> {
    const ended = once(this.child, "close");
    this.child.stdin?.end();
    await ended;
    rmSync(this.folder, { recursive: true });
  }

  /** One IPv4 packet with this payload. */
  async packet(from: string, to: string, protocol: number, payload: Buffer, fragment = 0): Promise<void> {
    const packet = Buffer.concat([ipHeader(from, to, protocol, payload.length, fragment), payload]);
    const { stdin } = this.child;
    if (stdin !== null && !stdin.write(`${packet.toString("hex")}\n`)) await once(stdin, "drain");
  }

  /** @param length  what the header says, when it is not the truth */
  async datagram(from: Endpoint, to: Endpoint, data: Buffer, length = 8 + data.length): Promise<void> {
    await this.packet(from.address, to.address, UDP, Buffer.concat([udpHeader(from.port, to.port, length), data]));
  }

  /** A segment that belongs to no connection, unless its numbers are guessed. */
  async segment(from: Endpoint, to: Endpoint, flags: number, sequence: number): Promise<void> {
    const header = Buffer.alloc(20);
    header.writeUInt16BE(from.port, 0);
    header.writeUInt16BE(to.port, 2);
    header.writeUInt32BE(sequence >>> 0, 4);
    header.writeUInt8(0x50, 12);
    header.writeUInt8(flags, 13);
    header.writeUInt16BE(1024, 14);
    header.writeUInt16BE(tcpChecksum(from.address, to.address, header), 16);
    await this.packet(from.address, to.address, TCP, header);
  }
}

/** RFC 791 section 3.1; the kernel fills in length and checksum. `fragment`: flags and offset as they stand in the header. */
function ipHeader(from: string, to: string, protocol: number, payloadBytes: number, fragment: number): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE((20 + payloadBytes) & 0xffff, 2);
  header.writeUInt16BE(fragment === 0 ? 1 : 0x5eed, 4);
  header.writeUInt16BE(fragment, 6);
  header.writeUInt8(64, 8);
  header.writeUInt8(protocol, 9);
  addressBytes(from).copy(header, 12);
  addressBytes(to).copy(header, 16);
  return header;
}

/** RFC 768; a checksum of 0 is none. */
export function udpHeader(source: number, target: number, length: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(source, 0);
  header.writeUInt16BE(target, 2);
  header.writeUInt16BE(length & 0xffff, 4);
  return header;
}

function addressBytes(address: string): Buffer {
  return Buffer.from(address.split(".").map(Number));
}

/** RFC 9293 section 3.1: over a pseudo-header and the segment. */
function tcpChecksum(from: string, to: string, segment: Buffer): number {
  const pseudo = Buffer.concat([addressBytes(from), addressBytes(to), Buffer.from([0, TCP, 0, segment.length])]);
  const bytes = Buffer.concat([pseudo, segment]);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
