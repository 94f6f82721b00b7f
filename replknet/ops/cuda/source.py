"""CUDA C++ source of the depthwise convolution, compiled at run time by NVRTC; it needs no header and no toolkit.

There are two kernels, both for contiguous (N, C, H, W), seen as planes = N · C maps, with float32 accumulation:

`depthwise_direct`: Each thread keeps ROWS × COLS outputs in registers and passes over the input rows. An input row is
used with ROWS filter rows, so at 31×31 it takes 42 shared loads of four numbers for 992 multiply-adds. Exact float32.

`depthwise_mma`: For every filter row i, Y += X[rows + i] · T_i with the banded Toeplitz matrix T_i of that row, on
tensor cores (`mma.sync`, as inline PTX because `mma.h` cannot be included). T_i is the same for every tile of 8
columns, so its fragments are stored only once in shared memory. Neighbouring tiles share the fragments of X, and so do
filter rows that are 8 apart. At 31×31 in 16 bits, a warp runs 96 tensor instructions for 89 shared loads, and 31 of 48
products are useful. This kernel is for float16, bfloat16, and float32 rounded to tf32.

Compile-time constants are KH, KW, SCALAR (0 float32, 1 float16, 2 bfloat16, 3 tf32) and the tile: ROWS, COLS, TX, TY
and PLANES for the first kernel, NT, WARPS and PLANES for the second. With EMULATE defined, the source is also valid
C++, which the tests use to verify its arithmetic without a GPU.
"""

__all__ = ["DEVICE_HEADER", "SOURCE"]

SOURCE = r"""
#ifndef EMULATE
#define SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]
#endif
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

#if SCALAR == 1 || SCALAR == 2
typedef u16 scalar;
#else
typedef float scalar;
#endif

__device__ __forceinline__ u32 bits_of(float v) { union { float f; u32 u; } b; b.f = v; return b.u; }
__device__ __forceinline__ float float_of(u32 v) { union { float f; u32 u; } b; b.u = v; return b.f; }

__device__ __forceinline__ float load(scalar v) {
#if SCALAR == 2
  return float_of((u32)v << 16);
#elif SCALAR == 1
  return half_to_float(v);
#else
  return v;
#endif
}

__device__ __forceinline__ scalar store(float v) {
#if SCALAR == 2
  u32 b = bits_of(v);
  if ((b & 0x7fffffffu) > 0x7f800000u) return (u16)((b >> 16) | 0x40);  // stays NaN
  return (u16)((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);                 // to nearest, ties to even
#elif SCALAR == 1
  return float_to_half(v);
#else
  return v;
#endif
}

// What shared memory holds of a number: float32 in the first kernel, the number as it is in the second.
__device__ __forceinline__ float as_stored(scalar v, float) { return load(v); }
#if SCALAR == 1 || SCALAR == 2
__device__ __forceinline__ scalar as_stored(scalar v, scalar) { return v; }
#endif

// The rows of the map that a block needs, zero outside the map; a group of threads copies a row, the next one the next.
template <int PLANES_, int IN_H, int PITCH_, int THREADS, typename target_scalar>
__device__ __forceinline__ void copy_rows(target_scalar* input, const scalar* __restrict__ x, i64 first, i64 planes,
                                          int top, int left, int height, int width, int tid) {
  constexpr int LANES = THREADS < 32 ? THREADS : 32;
  for (int line = tid / LANES; line < PLANES_ * IN_H; line += THREADS / LANES) {
    const i64 plane = first + line / IN_H;
    const int row = top + line % IN_H - KH / 2;
    const bool inside = plane < planes && row >= 0 && row < height;
    const scalar* source = x + (plane * height + row) * width;
#pragma unroll
    for (int part = 0; part < (PITCH_ + LANES - 1) / LANES; ++part) {
      const int at = part * LANES + tid % LANES, col = left + at - KW / 2;
      if (at < PITCH_) {
        const scalar v = inside && col >= 0 && col < width ? source[col] : (scalar)0;
        input[line * PITCH_ + at] = as_stored(v, (target_scalar)0);
      }
    }
  }
}

#ifdef DIRECT
extern "C" __global__ void __launch_bounds__(TX * TY * PLANES)
depthwise_direct(const scalar* __restrict__ x, const scalar* __restrict__ w, const scalar* __restrict__ bias,
                 scalar* __restrict__ y, i64 planes, int channels, int height, int width, int tiles_x) {
  SHARED_MEMORY(memory);
  constexpr int IN_H = ROWS * TY + KH - 1, PITCH = (COLS * TX + KW - 1 + 3) / 4 * 4, FILTER = (KW + 3) / 4 * 4;
  constexpr int WINDOW = (COLS + KW - 1 + 3) / 4, THREADS = TX * TY * PLANES;
  float* input = (float*)memory;                    // PLANES x IN_H x PITCH
  float* filter = input + PLANES * IN_H * PITCH;    // PLANES x KH x FILTER
  const int tid = threadIdx.x, tx = tid % TX, ty = tid / TX % TY, p = tid / (TX * TY);
  const i64 first = (i64)blockIdx.x * PLANES;
  const int top = (int)(blockIdx.y / tiles_x) * ROWS * TY, left = (int)(blockIdx.y % tiles_x) * COLS * TX;

  copy_rows<PLANES, IN_H, PITCH, THREADS>(input, x, first, planes, top, left, height, width, tid);
  for (int at = tid; at < PLANES * KH * FILTER; at += THREADS) {
    const i64 plane = first + at / (KH * FILTER);
    const int i = at / FILTER % KH, j = at % FILTER;
    filter[at] = plane < planes && j < KW ? load(w[((i64)(plane % channels) * KH + i) * KW + j]) : 0.0f;
  }
  __syncthreads();

  float sum[ROWS][COLS];
#pragma unroll
  for (int o = 0; o < ROWS; ++o)
#pragma unroll
    for (int s = 0; s < COLS; ++s) sum[o][s] = 0.0f;

#pragma unroll 1
  for (int r = 0; r < ROWS + KH - 1; ++r) {
    float window[4 * WINDOW];
    const float4* source = (const float4*)(input + (p * IN_H + ROWS * ty + r) * PITCH + COLS * tx);
#pragma unroll
    for (int q = 0; q < WINDOW; ++q) {
      const float4 v = source[q];
      window[4 * q] = v.x; window[4 * q + 1] = v.y; window[4 * q + 2] = v.z; window[4 * q + 3] = v.w;
    }
#pragma unroll
    for (int o = 0; o < ROWS; ++o) {
      const int i = r - o;
      if (i < 0 || i >= KH) continue;  // the same for all threads
      const float4* taps = (const float4*)(filter + (p * KH + i) * FILTER);
#pragma unroll
      for (int q = 0; q < FILTER / 4; ++q) {
        const float4 v = taps[q];
        const float tap[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (4 * q + e < KW)
#pragma unroll
            for (int s = 0; s < COLS; ++s) sum[o][s] += tap[e] * window[4 * q + e + s];
      }
    }
  }

  const i64 plane = first + p;
  if (plane >= planes) return;
  const float shift = bias ? load(bias[plane % channels]) : 0.0f;
#pragma unroll
  for (int o = 0; o < ROWS; ++o) {
    const int row = top + ROWS * ty + o;
#pragma unroll
    for (int s = 0; s < COLS; ++s) {
      const int col = left + COLS * tx + s;
      if (row < height && col < width) y[(plane * height + row) * width + col] = store(sum[o][s] + shift);
    }
  }
}
#endif

#ifdef MMA
#if SCALAR == 3
#define DEPTH 8                  // columns of X in one product
#define CHUNK_TILES 1            // tiles of 8 columns in DEPTH
#define PARTS 2                  // registers of one 8-row half of a tile of X: k and k + 4
__device__ __forceinline__ u32 operand(float v) { return round_to_tf32(v); }
#else
#define DEPTH 16
#define CHUNK_TILES 2
#define PARTS 1                  // one register holds two neighbouring columns
#endif
#define CHUNKS ((8 + KW - 1 + DEPTH - 1) / DEPTH)
#define TILES (NT + CHUNK_TILES * CHUNKS - CHUNK_TILES + (CHUNK_TILES - 1))
// Rows of shared memory are this many scalars apart; chosen so that the 32 lanes of a warp touch 32 different banks.
#if SCALAR == 3
#define PITCH (8 * TILES + 4)
#else
#define PITCH (TILES % 2 ? 8 * TILES : 8 * TILES + 8)
#endif

// One half of the rows of every tile: 8 rows of input from `row` on, which points at this lane's.
template <int HALF>
__device__ __forceinline__ void load_rows(u32 (&a)[TILES][2 * PARTS], const scalar* row, int lane) {
#pragma unroll
  for (int t = 0; t < TILES; ++t) {
#if SCALAR == 3
    a[t][HALF] = operand(row[8 * t + lane % 4]);
    a[t][2 + HALF] = operand(row[8 * t + lane % 4 + 4]);
#else
    a[t][HALF] = *(const u32*)(row + 8 * t + lane % 4 * 2);
#endif
  }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS * PLANES)
depthwise_mma(const scalar* __restrict__ x, const scalar* __restrict__ w, const scalar* __restrict__ bias,
              scalar* __restrict__ y, i64 planes, int channels, int height, int width, int tiles_x) {
  SHARED_MEMORY(memory);
  constexpr int IN_H = 16 * WARPS + KH - 1, THREADS = 32 * WARPS * PLANES;
  u32* fragments = (u32*)memory;                                   // PLANES x KH x CHUNKS x 2 x 32
  scalar* input = (scalar*)(fragments + PLANES * KH * CHUNKS * 64);  // PLANES x IN_H x PITCH
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32 % WARPS, p = tid / (32 * WARPS);
  const i64 first = (i64)blockIdx.x * PLANES;
  const int top = (int)(blockIdx.y / tiles_x) * 16 * WARPS, left = (int)(blockIdx.y % tiles_x) * 8 * NT;

  copy_rows<PLANES, IN_H, PITCH, THREADS>(input, x, first, planes, top, left, height, width, tid);
  for (int line = tid / 32; line < PLANES * KH * CHUNKS * 2; line += THREADS / 32) {
    const i64 plane = first + line / (KH * CHUNKS * 2);
    const int i = line / (CHUNKS * 2) % KH, chunk = line / 2 % CHUNKS, half = line % 2, at = 32 * line + lane;
    const scalar* taps = w + ((i64)(plane % channels) * KH + i) * KW;
    const bool valid = plane < planes;
#if SCALAR == 3
    const int j = DEPTH * chunk + lane % 4 + 4 * half - lane / 4;
    fragments[at] = operand(valid && j >= 0 && j < KW ? taps[j] : 0.0f);
#else
    const int j = DEPTH * chunk + lane % 4 * 2 + 8 * half - lane / 4;
    const u32 low = valid && j >= 0 && j < KW ? taps[j] : 0, high = valid && j >= -1 && j + 1 < KW ? taps[j + 1] : 0;
    fragments[at] = low | high << 16;
#endif
  }
  __syncthreads();

  float sum[NT][4];
#pragma unroll
  for (int t = 0; t < NT; ++t) sum[t][0] = sum[t][1] = sum[t][2] = sum[t][3] = 0.0f;

  // Filter rows in the order i, i + 8, i + 16, ...: the lower half of one product's rows is the upper half of the next.
#pragma unroll 1
  for (int start = 0; start < (KH < 8 ? KH : 8); ++start) {
    u32 a[TILES][2 * PARTS];  // rows lane / 4 and lane / 4 + 8 of every tile of 8 columns
    const scalar* row = input + (p * IN_H + 16 * warp + start + lane / 4) * PITCH;
    load_rows<0>(a, row, lane);
#pragma unroll
    for (int m = 0; m < (KH + 7) / 8; ++m) {
      const int i = start + 8 * m;
      if (i >= KH) break;  // the same for all threads
      if (m % 2 == 0) load_rows<1>(a, row + 8 * (m + 1) * PITCH, lane);
      else load_rows<0>(a, row + 8 * (m + 1) * PITCH, lane);
#pragma unroll
      for (int chunk = 0; chunk < CHUNKS; ++chunk) {
        const u32* b = fragments + ((p * KH + i) * CHUNKS + chunk) * 64 + lane;
        const u32 b0 = b[0], b1 = b[32];
        const int upper = m % 2, lower = 1 - m % 2;
#pragma unroll
        for (int t = 0; t < NT; ++t) {
#if SCALAR == 3
          mma_sync(sum[t], a[t + chunk][upper], a[t + chunk][lower], a[t + chunk][2 + upper], a[t + chunk][2 + lower],
                   b0, b1);
#else
          mma_sync(sum[t], a[t + 2 * chunk][upper], a[t + 2 * chunk][lower], a[t + 2 * chunk + 1][upper],
                   a[t + 2 * chunk + 1][lower], b0, b1);
#endif
        }
      }
    }
  }

  const i64 plane = first + p;
  if (plane >= planes) return;
  const float shift = bias ? load(bias[plane % channels]) : 0.0f;
#pragma unroll
  for (int t = 0; t < NT; ++t)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int r = top + 16 * warp + lane / 4 + 8 * (e / 2), col = left + 8 * t + lane % 4 * 2 + e % 2;
      if (r < height && col < width) y[(plane * height + r) * width + col] = store(sum[t][e] + shift);
    }
}
#endif
"""

# The part that differs between a GPU and the emulation: conversions and the tensor core instruction.
DEVICE_HEADER = r"""
__device__ __forceinline__ float half_to_float(unsigned short v) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v));
  return f;
}
__device__ __forceinline__ unsigned short float_to_half(float v) {
  unsigned short h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v));
  return h;
}
#ifdef MMA
__device__ __forceinline__ unsigned int round_to_tf32(float v) {
  unsigned int r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
  return r;
}
#if SCALAR == 1
#define INSTRUCTION "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#elif SCALAR == 2
#define INSTRUCTION "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#else
#define INSTRUCTION "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
#endif
__device__ __forceinline__ void mma_sync(float (&d)[4], unsigned int a0, unsigned int a1, unsigned int a2,
                                         unsigned int a3, unsigned int b0, unsigned int b1) {
  asm(INSTRUCTION " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#endif
"""
