/** Network Lock Manager, RFC 1813 section 6 and X/Open XNFS (C702) chapters 10 and 14. */
export const NLM4_PROGRAM = 100021;
export const NLM4_VERSION = 4;

/** Those that the server itself calls, or treats apart. */
export const Nlm4Procedure = {
  granted: 5,
  grantedMessage: 10,
  testResult: 11,
  lockResult: 12,
  cancelResult: 13,
  unlockResult: 14,
  grantedResult: 15,
} as const;
