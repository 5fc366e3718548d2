// The parity arithmetic in WebAssembly SIMD (AssemblyScript; scripts/build.mjs compiles it to kernel.wasm).
//
// Memory is imported and belongs to the arena (../../arena.ts): this module has no static data, no heap and no state. Pointers are
// u32 byte offsets, so that the whole 4 GiB of a 32-bit memory can be used. Every length is a multiple of 16 (../../kernel.ts).
//
// Loops move STEP bytes a step while they can and 16 a step for the rest. What the compiler behind us (V8's TurboFan) makes of a
// loop decides its speed, and was looked at with `node --print-wasm-code` (docs/decisions/0002):
// - It moves all loads between two stores to the front. So 32 bytes are loaded, combined and stored before the next 32: with more,
//   the values do not fit the processor's 16 vector registers and go over the stack.
// - `load(p, 16)` is one instruction, `load(p + 16)` three. So pointers move once a step, and all else is a constant offset.
// - A step costs some ten instructions for pointers and V8's stack check. So it is long.
// Every 32 bytes are loaded before they are stored, therefore `target` may be one of the sources.

const STEP: u32 = 512;

// Binaryen makes an instruction's own offset of a sum; only not of 64, which it takes for the difference to -64, a byte shorter.
// Arguments here are constants, so the branches are gone in the end.

// @ts-ignore: decorator
@inline
function at(p: u32, offset: u32): v128 {
  if (offset == 64) return v128.load(<usize>p, 64);
  return v128.load(<usize>(p + offset));
}

// @ts-ignore: decorator
@inline
function put(p: u32, value: v128, offset: u32): void {
  if (offset == 64) v128.store(<usize>p, value, 64);
  else v128.store(<usize>(p + offset), value);
}

// @ts-ignore: decorator
@inline
function two(a: u32, b: u32, o: u32): v128 {
  return v128.xor(at(a, o), at(b, o));
}

// @ts-ignore: decorator
@inline
function three(a: u32, b: u32, c: u32, o: u32): v128 {
  return v128.xor(two(a, b, o), at(c, o));
}

// @ts-ignore: decorator
@inline
function four(a: u32, b: u32, c: u32, d: u32, o: u32): v128 {
  return v128.xor(two(a, b, o), two(c, d, o));
}

// @ts-ignore: decorator
@inline
function five(a: u32, b: u32, c: u32, d: u32, e: u32, o: u32): v128 {
  return v128.xor(four(a, b, c, d, o), at(e, o));
}

/** 64 bytes of `xor2`. */
// @ts-ignore: decorator
@inline
function two64(target: u32, a: u32, b: u32, o: u32): void {
  const v0 = two(a, b, o);
  const v1 = two(a, b, o + 16);
  put(target, v0, o);
  put(target, v1, o + 16);
  const v2 = two(a, b, o + 32);
  const v3 = two(a, b, o + 48);
  put(target, v2, o + 32);
  put(target, v3, o + 48);
}

/** target = a ^ b; with target = a this is `xorInto`. */
export function xor2(target: u32, a: u32, b: u32, byteCount: u32): void {
  let left = byteCount;
  for (; left >= STEP; left -= STEP) {
    two64(target, a, b, 0);
    two64(target, a, b, 64);
    two64(target, a, b, 128);
    two64(target, a, b, 192);
    two64(target, a, b, 256);
    two64(target, a, b, 320);
    two64(target, a, b, 384);
    two64(target, a, b, 448);
    target += STEP;
    a += STEP;
    b += STEP;
  }
  for (; left > 0; left -= 16) {
    put(target, two(a, b, 0), 0);
    target += 16;
    a += 16;
    b += 16;
  }
}

/** 64 bytes of `xor3`. */
// @ts-ignore: decorator
@inline
function three64(target: u32, a: u32, b: u32, c: u32, o: u32): void {
  const v0 = three(a, b, c, o);
  const v1 = three(a, b, c, o + 16);
  put(target, v0, o);
  put(target, v1, o + 16);
  const v2 = three(a, b, c, o + 32);
  const v3 = three(a, b, c, o + 48);
  put(target, v2, o + 32);
  put(target, v3, o + 48);
}

/** target = a ^ b ^ c */
export function xor3(target: u32, a: u32, b: u32, c: u32, byteCount: u32): void {
  let left = byteCount;
  for (; left >= STEP; left -= STEP) {
    three64(target, a, b, c, 0);
    three64(target, a, b, c, 64);
    three64(target, a, b, c, 128);
    three64(target, a, b, c, 192);
    three64(target, a, b, c, 256);
    three64(target, a, b, c, 320);
    three64(target, a, b, c, 384);
    three64(target, a, b, c, 448);
    target += STEP;
    a += STEP;
    b += STEP;
    c += STEP;
  }
  for (; left > 0; left -= 16) {
    put(target, three(a, b, c, 0), 0);
    target += 16;
    a += 16;
    b += 16;
    c += 16;
  }
}

/** 64 bytes of `xor4`. */
// @ts-ignore: decorator
@inline
function four64(target: u32, a: u32, b: u32, c: u32, d: u32, o: u32): void {
  const v0 = four(a, b, c, d, o);
  const v1 = four(a, b, c, d, o + 16);
  put(target, v0, o);
  put(target, v1, o + 16);
  const v2 = four(a, b, c, d, o + 32);
  const v3 = four(a, b, c, d, o + 48);
  put(target, v2, o + 32);
  put(target, v3, o + 48);
}

/** target = a ^ b ^ c ^ d */
export function xor4(target: u32, a: u32, b: u32, c: u32, d: u32, byteCount: u32): void {
  let left = byteCount;
  for (; left >= STEP; left -= STEP) {
    four64(target, a, b, c, d, 0);
    four64(target, a, b, c, d, 64);
    four64(target, a, b, c, d, 128);
    four64(target, a, b, c, d, 192);
    four64(target, a, b, c, d, 256);
    four64(target, a, b, c, d, 320);
    four64(target, a, b, c, d, 384);
    four64(target, a, b, c, d, 448);
    target += STEP;
    a += STEP;
    b += STEP;
    c += STEP;
    d += STEP;
  }
  for (; left > 0; left -= 16) {
    put(target, four(a, b, c, d, 0), 0);
    target += 16;
    a += 16;
    b += 16;
    c += 16;
    d += 16;
  }
}

/** 64 bytes of `xor5`. */
// @ts-ignore: decorator
@inline
function five64(target: u32, a: u32, b: u32, c: u32, d: u32, e: u32, o: u32): void {
  const v0 = five(a, b, c, d, e, o);
  const v1 = five(a, b, c, d, e, o + 16);
  put(target, v0, o);
  put(target, v1, o + 16);
  const v2 = five(a, b, c, d, e, o + 32);
  const v3 = five(a, b, c, d, e, o + 48);
  put(target, v2, o + 32);
  put(target, v3, o + 48);
}

/** target = a ^ b ^ c ^ d ^ e */
export function xor5(target: u32, a: u32, b: u32, c: u32, d: u32, e: u32, byteCount: u32): void {
  let left = byteCount;
  for (; left >= STEP; left -= STEP) {
    five64(target, a, b, c, d, e, 0);
    five64(target, a, b, c, d, e, 64);
    five64(target, a, b, c, d, e, 128);
    five64(target, a, b, c, d, e, 192);
    five64(target, a, b, c, d, e, 256);
    five64(target, a, b, c, d, e, 320);
    five64(target, a, b, c, d, e, 384);
    five64(target, a, b, c, d, e, 448);
    target += STEP;
    a += STEP;
    b += STEP;
    c += STEP;
    d += STEP;
    e += STEP;
  }
  for (; left > 0; left -= 16) {
    put(target, five(a, b, c, d, e, 0), 0);
    target += 16;
    a += 16;
    b += 16;
    c += 16;
    d += 16;
    e += 16;
  }
}

/** target = XOR of any number of sources, whose u32 offsets stand at `table`. The accumulators stay in registers. */
export function xorTable(target: u32, table: u32, sourceCount: u32, byteCount: u32): void {
  const end = table + (sourceCount << 2);
  let i: u32 = 0;
  for (; i + 128 <= byteCount; i += 128) {
    const first = load<u32>(<usize>table) + i;
    let v0 = at(first, 0);
    let v1 = at(first, 16);
    let v2 = at(first, 32);
    let v3 = at(first, 48);
    let v4 = at(first, 64);
    let v5 = at(first, 80);
    let v6 = at(first, 96);
    let v7 = at(first, 112);
    for (let entry = table + 4; entry < end; entry += 4) {
      const source = load<u32>(<usize>entry) + i;
      v0 = v128.xor(v0, at(source, 0));
      v1 = v128.xor(v1, at(source, 16));
      v2 = v128.xor(v2, at(source, 32));
      v3 = v128.xor(v3, at(source, 48));
      v4 = v128.xor(v4, at(source, 64));
      v5 = v128.xor(v5, at(source, 80));
      v6 = v128.xor(v6, at(source, 96));
      v7 = v128.xor(v7, at(source, 112));
    }
    const to = target + i;
    put(to, v0, 0);
    put(to, v1, 16);
    put(to, v2, 32);
    put(to, v3, 48);
    put(to, v4, 64);
    put(to, v5, 80);
    put(to, v6, 96);
    put(to, v7, 112);
  }
  for (; i < byteCount; i += 16) {
    let v = at(load<u32>(<usize>table) + i, 0);
    for (let entry = table + 4; entry < end; entry += 4) v = v128.xor(v, at(load<u32>(<usize>entry) + i, 0));
    put(target + i, v, 0);
  }
}

export function copy(target: u32, source: u32, byteCount: u32): void {
  memory.copy(<usize>target, <usize>source, <usize>byteCount);
}

export function fill(target: u32, byte: u32, byteCount: u32): void {
  memory.fill(<usize>target, <u8>byte, <usize>byteCount);
}

/** 1 when all bytes are zero; leaves at the first 64 bytes that are not. */
export function isZero(p: u32, byteCount: u32): u32 {
  let i: u32 = 0;
  for (; i + 64 <= byteCount; i += 64) {
    const low = v128.or(at(p + i, 0), at(p + i, 16));
    const high = v128.or(at(p + i, 32), at(p + i, 48));
    if (v128.any_true(v128.or(low, high))) return 0;
  }
  for (; i < byteCount; i += 16) {
    if (v128.any_true(at(p + i, 0))) return 0;
  }
  return 1;
}
