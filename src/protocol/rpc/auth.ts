import { crc32c } from "../../lib/crc32c.js";
import { XdrError, type XdrReader } from "../xdr/reader.js";
import { AUTH_BODY_BYTES_MAX, AUTH_SYS_GROUPS_MAX, AuthFlavor, AuthStatus, MACHINE_NAME_BYTES_MAX } from "./message.js";

/** Who calls, as the client says it. One object per distinct credential of a connection: what is derived from it can be kept on it. */
export class Auth {
  /** A slot for the program that serves the caller: what it worked out about this credential. */
  memo: object | null = null;

  constructor(
    readonly flavor: 0 | 1,
    readonly uid: number,
    readonly gid: number,
    readonly groups: readonly number[],
    readonly machineName: string,
    /** Of flavor and body without its stamp, which a client may set anew when it sends a call again. */
    readonly checksum: number,
  ) {}
}

const NOT_CACHED = Buffer.alloc(0);

/**
 * Decodes credential and verifier of a call (RFC 5531 sections 8.2 and appendix A). A client sends the same credential for nearly every
 * call, so the last body is kept and compared: about 50 ns instead of building lists.
 */
export class AuthParser {
  readonly #none = new Auth(AuthFlavor.none, 0, 0, [], "", 0);
  #sysBody: Buffer = NOT_CACHED;
  #sys: Auth | null = null;

  /**
   * @returns the caller, or why the call is denied. The reader stands behind the verifier.
   * @throws XdrError when the record ends too early
   */
  parse(reader: XdrReader): Auth | AuthStatus {
    const flavor = reader.u32();
    const bodyBytes = reader.u32();
    if (bodyBytes > AUTH_BODY_BYTES_MAX) return AuthStatus.badCredential;
    const start = reader.take((bodyBytes + 3) & ~3);
    const verifierFlavor = reader.u32();
    const verifierBytes = reader.u32();
    if (verifierBytes > AUTH_BODY_BYTES_MAX) return AuthStatus.badVerifier;
    reader.take((verifierBytes + 3) & ~3);
    if (flavor === AuthFlavor.sys) {
      if (verifierFlavor !== AuthFlavor.none || verifierBytes !== 0) return AuthStatus.badVerifier;
      return this.#parseSys(reader, start, bodyBytes);
    }
    if (flavor !== AuthFlavor.none) return AuthStatus.rejectedCredential;
    return bodyBytes === 0 ? this.#none : AuthStatus.badCredential;
  }

  #parseSys(reader: XdrReader, start: number, bodyBytes: number): Auth | AuthStatus {
    const buffer = reader.buffer;
    if (this.#sys !== null && sameBytes(buffer, start, this.#sysBody, bodyBytes)) return this.#sys;
    const behind = reader.at;
    try {
      reader.at = start;
      const sys = decodeAuthSys(reader);
      if (reader.at !== start + bodyBytes) return AuthStatus.badCredential;
      this.#sysBody = Buffer.from(buffer.subarray(start, start + bodyBytes));
      this.#sys = sys;
      return sys;
    } catch (error) {
      if (error instanceof XdrError) return AuthStatus.badCredential;
      throw error;
    } finally {
      reader.at = behind;
    }
  }
}

/** authsys_parms, RFC 5531 appendix A. */
function decodeAuthSys(reader: XdrReader): Auth {
  reader.u32(); // stamp
  const start = reader.at;
  const machineName = reader.opaque(MACHINE_NAME_BYTES_MAX).toString("utf8");
  const uid = reader.u32();
  const gid = reader.u32();
  const count = reader.choice(AUTH_SYS_GROUPS_MAX);
  const groups: number[] = [];
  for (let i = 0; i < count; i++) groups.push(reader.u32());
  const checksum = crc32c(reader.buffer.subarray(start, reader.at));
  return new Auth(AuthFlavor.sys, uid, gid, groups, machineName, checksum);
}

function sameBytes(buffer: Buffer, start: number, body: Buffer, byteCount: number): boolean {
  if (body.length !== byteCount) return false;
  for (let i = 0; i < byteCount; i++) if (buffer[start + i] !== body[i]) return false;
  return true;
}
