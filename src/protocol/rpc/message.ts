/** The numbers of RPC version 2, RFC 5531 sections 8 and 9. */
export const RPC_VERSION = 2;
export const MessageType = { call: 0, reply: 1 } as const;
export const ReplyStatus = { accepted: 0, denied: 1 } as const;

export const AcceptStatus = {
  success: 0,
  programUnavailable: 1,
  programMismatch: 2,
  procedureUnavailable: 3,
  garbageArguments: 4,
  systemError: 5,
} as const;

export const RejectStatus = { rpcMismatch: 0, authError: 1 } as const;

/** RFC 5531 section 9, auth_stat: those that a server gives. */
export const AuthStatus = { badCredential: 1, rejectedCredential: 2, badVerifier: 3, tooWeak: 5 } as const;
export type AuthStatus = (typeof AuthStatus)[keyof typeof AuthStatus];

export const AuthFlavor = { none: 0, sys: 1 } as const;

/** RFC 5531 section 8.2: the body of an opaque_auth is at most 400 bytes. */
export const AUTH_BODY_BYTES_MAX = 400;
/** RFC 5531 appendix A: machine name up to 255 bytes, up to 16 supplementary groups. */
export const MACHINE_NAME_BYTES_MAX = 255;
export const AUTH_SYS_GROUPS_MAX = 16;

/** Record mark, xid, REPLY, MSG_ACCEPTED, verifier AUTH_NONE of no bytes, accept status: 7 words. */
export const ACCEPTED_HEADER_BYTES = 28;

/** RFC 5531 section 11: the top bit of a record mark says "last fragment". */
export const LAST_FRAGMENT = 0x80000000;
