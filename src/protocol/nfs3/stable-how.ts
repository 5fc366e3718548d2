/** stable_how, RFC 1813 section 3.3.7: what a WRITE asks for, and has got. */
export const UNSTABLE = 0;
export const FILE_SYNC = 2;
