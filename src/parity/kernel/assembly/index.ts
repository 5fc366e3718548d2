// The parity arithmetic in WebAssembly SIMD (AssemblyScript; scripts/build.mjs compiles it to kernel.wasm).
//
// Memory is imported and belongs to the arena (../../arena.ts): this module has no static data, no heap and no state. Pointers are
// u32 byte offsets, so that the whole 4 GiB of a 32-bit memory can be used. Every length is a multiple of 16 (../../kernel.ts).
//
// Loops move 128 bytes (two cache lines) a step while they can and 16 a step for the rest. A step loads all of its sources before it
// stores, therefore `target` may be one of them.

const STEP: u32 = 128;

// @ts-ignore: decorator
@inline
function at(p: u32, i: u32): v128 {
  return v128.load(<usize>(p + i));
}

// @ts-ignore: decorator
@inline
function put(p: u32, i: u32, value: v128): void {
  v128.store(<usize>(p + i), value);
}

// @ts-ignore: decorator
@inline
function two(a: u32, b: u32, i: u32): v128 {
  return v128.xor(at(a, i), at(b, i));
}

// @ts-ignore: decorator
@inline
function three(a: u32, b: u32, c: u32, i: u32): v128 {
  return v128.xor(two(a, b, i), at(c, i));
}

// @ts-ignore: decorator
@inline
function four(a: u32, b: u32, c: u32, d: u32, i: u32): v128 {
  return v128.xor(two(a, b, i), two(c, d, i));
}

// @ts-ignore: decorator
@inline
function five(a: u32, b: u32, c: u32, d: u32, e: u32, i: u32): v128 {
  return v128.xor(four(a, b, c, d, i), at(e, i));
}

/** target = a ^ b; with target = a this is `xorInto`. */
export function xor2(target: u32, a: u32, b: u32, byteCount: u32): void {
  let i: u32 = 0;
  for (; i + STEP <= byteCount; i += STEP) {
    const v0 = two(a, b, i);
    const v1 = two(a, b, i + 16);
    const v2 = two(a, b, i + 32);
    const v3 = two(a, b, i + 48);
    const v4 = two(a, b, i + 64);
    const v5 = two(a, b, i + 80);
    const v6 = two(a, b, i + 96);
    const v7 = two(a, b, i + 112);
    put(target, i, v0);
    put(target, i + 16, v1);
    put(target, i + 32, v2);
    put(target, i + 48, v3);
    put(target, i + 64, v4);
    put(target, i + 80, v5);
    put(target, i + 96, v6);
    put(target, i + 112, v7);
  }
  for (; i < byteCount; i += 16) put(target, i, two(a, b, i));
}

/** target = a ^ b ^ c */
export function xor3(target: u32, a: u32, b: u32, c: u32, byteCount: u32): void {
  let i: u32 = 0;
  for (; i + STEP <= byteCount; i += STEP) {
    const v0 = three(a, b, c, i);
    const v1 = three(a, b, c, i + 16);
    const v2 = three(a, b, c, i + 32);
    const v3 = three(a, b, c, i + 48);
    const v4 = three(a, b, c, i + 64);
    const v5 = three(a, b, c, i + 80);
    const v6 = three(a, b, c, i + 96);
    const v7 = three(a, b, c, i + 112);
    put(target, i, v0);
    put(target, i + 16, v1);
    put(target, i + 32, v2);
    put(target, i + 48, v3);
    put(target, i + 64, v4);
    put(target, i + 80, v5);
    put(target, i + 96, v6);
    put(target, i + 112, v7);
  }
  for (; i < byteCount; i += 16) put(target, i, three(a, b, c, i));
}

/** target = a ^ b ^ c ^ d */
export function xor4(target: u32, a: u32, b: u32, c: u32, d: u32, byteCount: u32): void {
  let i: u32 = 0;
  for (; i + STEP <= byteCount; i += STEP) {
    const v0 = four(a, b, c, d, i);
    const v1 = four(a, b, c, d, i + 16);
    const v2 = four(a, b, c, d, i + 32);
    const v3 = four(a, b, c, d, i + 48);
    const v4 = four(a, b, c, d, i + 64);
    const v5 = four(a, b, c, d, i + 80);
    const v6 = four(a, b, c, d, i + 96);
    const v7 = four(a, b, c, d, i + 112);
    put(target, i, v0);
    put(target, i + 16, v1);
    put(target, i + 32, v2);
    put(target, i + 48, v3);
    put(target, i + 64, v4);
    put(target, i + 80, v5);
    put(target, i + 96, v6);
    put(target, i + 112, v7);
  }
  for (; i < byteCount; i += 16) put(target, i, four(a, b, c, d, i));
}

/** target = a ^ b ^ c ^ d ^ e */
export function xor5(target: u32, a: u32, b: u32, c: u32, d: u32, e: u32, byteCount: u32): void {
  let i: u32 = 0;
  for (; i + STEP <= byteCount; i += STEP) {
    const v0 = five(a, b, c, d, e, i);
    const v1 = five(a, b, c, d, e, i + 16);
    const v2 = five(a, b, c, d, e, i + 32);
    const v3 = five(a, b, c, d, e, i + 48);
    const v4 = five(a, b, c, d, e, i + 64);
    const v5 = five(a, b, c, d, e, i + 80);
    const v6 = five(a, b, c, d, e, i + 96);
    const v7 = five(a, b, c, d, e, i + 112);
    put(target, i, v0);
    put(target, i + 16, v1);
    put(target, i + 32, v2);
    put(target, i + 48, v3);
    put(target, i + 64, v4);
    put(target, i + 80, v5);
    put(target, i + 96, v6);
    put(target, i + 112, v7);
  }
  for (; i < byteCount; i += 16) put(target, i, five(a, b, c, d, e, i));
}

/** target = XOR of any number of sources, whose u32 offsets stand at `table`. The accumulators stay in registers. */
export function xorTable(target: u32, table: u32, sourceCount: u32, byteCount: u32): void {
  const end = table + (sourceCount << 2);
  let i: u32 = 0;
  for (; i + STEP <= byteCount; i += STEP) {
    const first = load<u32>(<usize>table);
    let v0 = at(first, i);
    let v1 = at(first, i + 16);
    let v2 = at(first, i + 32);
    let v3 = at(first, i + 48);
    let v4 = at(first, i + 64);
    let v5 = at(first, i + 80);
    let v6 = at(first, i + 96);
    let v7 = at(first, i + 112);
    for (let entry = table + 4; entry < end; entry += 4) {
      const source = load<u32>(<usize>entry);
      v0 = v128.xor(v0, at(source, i));
      v1 = v128.xor(v1, at(source, i + 16));
      v2 = v128.xor(v2, at(source, i + 32));
      v3 = v128.xor(v3, at(source, i + 48));
      v4 = v128.xor(v4, at(source, i + 64));
      v5 = v128.xor(v5, at(source, i + 80));
      v6 = v128.xor(v6, at(source, i + 96));
      v7 = v128.xor(v7, at(source, i + 112));
    }
    put(target, i, v0);
    put(target, i + 16, v1);
    put(target, i + 32, v2);
    put(target, i + 48, v3);
    put(target, i + 64, v4);
    put(target, i + 80, v5);
    put(target, i + 96, v6);
    put(target, i + 112, v7);
  }
  for (; i < byteCount; i += 16) {
    let v = at(load<u32>(<usize>table), i);
    for (let entry = table + 4; entry < end; entry += 4) v = v128.xor(v, at(load<u32>(<usize>entry), i));
    put(target, i, v);
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
    const low = v128.or(at(p, i), at(p, i + 16));
    const high = v128.or(at(p, i + 32), at(p, i + 48));
    if (v128.any_true(v128.or(low, high))) return 0;
  }
  for (; i < byteCount; i += 16) {
    if (v128.any_true(at(p, i))) return 0;
  }
  return 1;
}
