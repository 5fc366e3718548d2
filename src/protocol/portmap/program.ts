import type { RpcCall } from "../rpc/call.js";
import type { RpcProcedure, RpcProgram } from "../rpc/program.js";
import type { XdrReader } from "../xdr/reader.js";

/** A program and version that the port answers. */
export interface Service {
  readonly program: number;
  readonly version: number;
  readonly name: string;
  /** Over UDP too, on the same port number. */
  readonly datagrams?: boolean;
}

/** What the port answers, asked at the time of the call: the port number is known only after listening. */
export interface ServiceDirectory {
  services(): readonly Service[];
  /** @param address  our own one, as the client reached it */
  port(address: string, program: number): number;
}

type Run = (directory: ServiceDirectory, call: RpcCall, args: XdrReader) => void;
interface Procedure extends RpcProcedure {
  readonly run: Run;
}

export const PORTMAP_PROGRAM = 100000;
/** Lock managers ask this port where NLM is, whatever their client was mounted with. */
export const PORTMAP_PORT = 111;
export const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
/** A universal address or network name is short; RFC 1833 sets no limit. */
const TEXT_BYTES_MAX = 256;

/** Port mapper version 2 and rpcbind versions 3 and 4 (RFC 1833), for our own programs only: nobody else can register. */
export class PortmapProgram implements RpcProgram {
  readonly name = "portmap";
  readonly number = PORTMAP_PROGRAM;
  readonly versionLow = 2;
  readonly versionHigh = 4;
  readonly datagrams = true;

  constructor(private readonly directory: ServiceDirectory) {}

  procedures(version: number): readonly (Procedure | undefined)[] {
    if (version === 2) return VERSION_2;
    return version === 3 ? VERSION_3 : VERSION_4;
  }

  invoke(call: RpcCall, args: XdrReader): void {
    this.procedures(call.version)[call.procedure]?.run(this.directory, call, args);
  }
}

function nothing(_directory: ServiceDirectory, call: RpcCall): void {
  call.begin(0);
  call.finish();
}

/** SET and UNSET: false. */
function refuse(_directory: ServiceDirectory, call: RpcCall): void {
  call.begin(4).u32(0);
  call.finish();
}

type Transport = "tcp" | "udp";

/** In any version, as rpcbind does: whoever asks for another one is told by the program itself which it has (PROG_MISMATCH). */
function serves(directory: ServiceDirectory, program: number, over: Transport): boolean {
  return directory
    .services()
    .some((service) => service.program === program && (over === "tcp" || service.datagrams === true));
}

function transportsOf({ datagrams }: Service): Transport[] {
  return datagrams === true ? ["tcp", "udp"] : ["tcp"];
}

/** PMAPPROC_GETPORT, RFC 1833 section 3.2; 0: not registered. */
function getPort(directory: ServiceDirectory, call: RpcCall, args: XdrReader): void {
  const program = args.u32();
  args.u32(); // version
  const protocol = args.u32();
  args.u32(); // port: not used
  const over = protocol === IPPROTO_UDP ? "udp" : "tcp";
  const known = (protocol === IPPROTO_TCP || over === "udp") && serves(directory, program, over);
  call.begin(4).u32(known ? directory.port(call.connection.peer.localAddress, program) : 0);
  call.finish();
}

/** PMAPPROC_DUMP */
function dump(directory: ServiceDirectory, call: RpcCall): void {
  const w = call.begin(4);
  for (const service of directory.services()) {
    for (const transport of transportsOf(service)) {
      const protocol = transport === "udp" ? IPPROTO_UDP : IPPROTO_TCP;
      const port = directory.port(call.connection.peer.localAddress, service.program);
      for (const value of [1, service.program, service.version, protocol, port]) w.u32(value);
    }
  }
  w.u32(0);
  call.finish();
}

/** RPCBPROC_GETADDR, RFC 1833 section 2.2.1: our own address as the client reached it; empty: not registered. */
function getAddress(directory: ServiceDirectory, call: RpcCall, args: XdrReader): void {
  const program = args.u32();
  args.u32(); // version
  const network = args.opaque(TEXT_BYTES_MAX).toString("latin1");
  const asked = args.opaque(TEXT_BYTES_MAX).toString("latin1");
  args.opaque(TEXT_BYTES_MAX); // owner
  const over = network.startsWith("udp") ? "udp" : "tcp";
  const isKnown = NETWORKS.has(network) && serves(directory, program, over);
  const { localAddress } = call.connection.peer;
  const host = ownAddress(localAddress, asked);
  call.begin(4).text(isKnown ? universalAddress(host, directory.port(localAddress, program)) : "");
  call.finish();
}

/** Empty: whatever there is. */
const NETWORKS: ReadonlySet<string> = new Set(["tcp", "tcp6", "udp", "udp6", ""]);

/** A datagram does not say which of our addresses it was sent to; the client says it, in its universal address. */
function ownAddress(local: string, asked: string): string {
  const isAny = local === "0.0.0.0" || local === "::";
  const told = /^([0-9a-f.:]+)\.\d+\.\d+$/i.exec(asked)?.[1];
  return isAny && told !== undefined ? told : local;
}

/** RPCBPROC_DUMP */
function dumpAddresses(directory: ServiceDirectory, call: RpcCall): void {
  const host = call.connection.peer.localAddress;
  const w = call.begin(4);
  for (const service of directory.services()) {
    for (const transport of transportsOf(service)) {
      w.u32(1);
      w.u32(service.program);
      w.u32(service.version);
      w.text(host.includes(":") ? `${transport}6` : transport);
      w.text(universalAddress(host, directory.port(host, service.program)));
      w.text("stripeward");
    }
  }
  w.u32(0);
  call.finish();
}

/** RFC 5665 section 5.2.3: the port as two more numbers. */
function universalAddress(host: string, port: number): string {
  return `${host}.${port >> 8}.${port & 255}`;
}

const VERSION_2: readonly Procedure[] = [
  { name: "NULL", run: nothing },
  { name: "SET", run: refuse },
  { name: "UNSET", run: refuse },
  { name: "GETPORT", run: getPort },
  { name: "DUMP", run: dump, streamOnly: true },
];

const VERSION_3: readonly Procedure[] = [
  { name: "NULL", run: nothing },
  { name: "SET", run: refuse },
  { name: "UNSET", run: refuse },
  { name: "GETADDR", run: getAddress },
  { name: "DUMP", run: dumpAddresses, streamOnly: true },
];

/** By number: 5 to 8 are calls and conversions that we do not have, 9 is GETVERSADDR. */
const VERSION_4: readonly (Procedure | undefined)[] = [
  ...VERSION_3,
  ...[undefined, undefined, undefined, undefined],
  { name: "GETVERSADDR", run: getAddress },
];
