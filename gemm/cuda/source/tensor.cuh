// Where the elements of a tile are: in the registers of tensor cores, in shared memory, on the grid.
//
// Arithmetic alone, no CUDA type and no instruction: what the kernels call, a C++ compiler compiles for the tests.
// Fragments are as the PTX ISA gives them ("Matrix Fragments for mma.m16n8k8", "... m16n8k16", "Register Fragments for
// wgmma.m64nNk16"). A warp's 32 lanes are eight groups of four; g = lane / 4 and t = lane % 4 below.
#pragma once

#if !defined(__CUDACC__) && !defined(__device__)
#define __host__
#define __device__
#endif

struct At {
    int row, column;
};

// --- fragments: the element that register i of a lane holds ---------------------------------------------------------

// mma.m16n8k8, tf32.     A, 16 x 8: i = 0..3          B, 8 x 8: i = 0, 1
//
//            k: t    t + 4                             n: g
//     m: g      a0   a2                        k: t       b0
//        g + 8  a1   a3                           t + 4   b1
__host__ __device__ constexpr At a_tf32(int lane, int i) { return {lane / 4 + i % 2 * 8, lane % 4 + i / 2 * 4}; }
__host__ __device__ constexpr At b_tf32(int lane, int i) { return {lane % 4 + i * 4, lane / 4}; }

// mma.m16n8k16, 16 bits: each register holds two elements, neighbours along k; i counts elements.
//
//     A, 16 x 16: i = 0..7                              B, 16 x 8: i = 0..3
//            k: 2t, 2t + 1    2t + 8, 2t + 9            n: g
//     m: g      a0, a1        a4, a5            k: 2t, 2t + 1       b0, b1
//        g + 8  a2, a3        a6, a7               2t + 8, 2t + 9   b2, b3
__host__ __device__ constexpr At a_half(int lane, int i) {
    return {lane / 4 + i / 2 % 2 * 8, lane % 4 * 2 + i % 2 + i / 4 * 8};
}
__host__ __device__ constexpr At b_half(int lane, int i) { return {lane % 4 * 2 + i % 2 + i / 2 * 8, lane / 4}; }

// C of both, 16 x 8, float: i = 0..3.  Row g: c0, c1 in columns 2t, 2t + 1; row g + 8: c2, c3.
__host__ __device__ constexpr At c_mma(int lane, int i) { return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2}; }

// C of wgmma.m64nNk16: each of the four warps holds 16 rows, as N / 8 of the above side by side.
__host__ __device__ constexpr At c_wgmma(int thread, int i) {
    return {thread / 32 * 16 + c_mma(thread % 32, i % 4).row, i / 4 * 8 + c_mma(thread % 32, i % 4).column};
}

// ldmatrix.x4 fetches four 8 x 8 matrices; lane l names the first element of row l % 8 of matrix l / 8, and the lanes
// receive of each what one register of a fragment wants. Along k: a row in memory is 8 neighbours along k. Otherwise
// it is 8 neighbours along m (or n), and .trans turns the matrix on the way.
//
// For A, 16 x 16 (row is m, column is k):
__host__ __device__ constexpr At a_ldmatrix(int lane, bool along_k) {
    return along_k ? At{lane % 16, lane / 16 * 8} : At{lane / 8 % 2 * 8, lane % 8 + lane / 16 * 8};
}
// For B, 16 x 16 (row is k, column is n): two fragments, of columns 0-7 and 8-15.
__host__ __device__ constexpr At b_ldmatrix(int lane, bool along_k) {
    return along_k ? At{lane / 8 % 2 * 8, lane % 8 + lane / 16 * 8} : At{lane % 16, lane / 16 * 8};
}

// --- shared memory ---------------------------------------------------------------------------------------------------

// Eight lines of 128 bytes: the 16-byte column that holds chunk c of line l is c ^ l % 8, so that the same chunk of
// eight lines lies in eight different columns, that is, in all 32 banks. TMA's and wgmma's 128-byte swizzle.
__host__ __device__ constexpr int swizzle128(int byte) { return byte ^ (byte >> 7 & 7) << 4; }

// The byte of element (mn, k) of an operand's tile with 64 elements of 16 bits along k: along k, a line is one mn;
// otherwise a line is 64 neighbours along mn at one k, and 64 lines are a panel.
constexpr int LINE = 64;              // elements in a line
constexpr int PANEL = 64 * 128;       // bytes in a panel
__host__ __device__ constexpr int in_tile(int mn, int k, bool along_k) {
    return along_k ? swizzle128(mn * 128 + k * 2) : swizzle128(mn / LINE * PANEL + k * 128 + mn % LINE * 2);
}

// Of 32-bit elements: lines padded so that a tf32 fragment touches 32 banks. A line along k has 4 words more (g lines
// of t neighbours: 4 g + t), one along m or n has 8 more (t lines of g neighbours: 8 t + g).
__host__ __device__ constexpr int padded(int length, bool along_k) { return length + (along_k ? 4 : 8); }
__host__ __device__ constexpr int in_padded(int mn, int k, int mns, int ks, bool along_k) {
    return along_k ? mn * padded(ks, true) + k : k * padded(mns, false) + mn;
}

// What wgmma reads an operand's tile by (PTX ISA, "Matrix Descriptor Format"; all in units of 16 bytes):
// bits 0-13 the address, 16-29 the leading and 32-45 the stride dimension's byte offset, 62-63 = 1 for 128-byte swizzle.
__host__ __device__ constexpr unsigned long long descriptor(unsigned address, unsigned leading, unsigned stride) {
    return (unsigned long long)(address >> 4 & 0x3fff) | (unsigned long long)(leading >> 4 & 0x3fff) << 16 |
           (unsigned long long)(stride >> 4 & 0x3fff) << 32 | 1ull << 62;
}

// Of in_tile's tiles: eight lines are 1024 bytes. Along k the leading offset is not used; otherwise panels follow each other.
__host__ __device__ constexpr unsigned long long tile_descriptor(unsigned address, bool along_k) {
    return descriptor(address, along_k ? 16 : PANEL, 1024);
}
// 16 elements of k further: 32 bytes inside the line (it is swizzled after they are added), or 16 lines.
__host__ __device__ constexpr int step_bytes(bool along_k) { return along_k ? 32 : 16 * 128; }
__host__ __device__ constexpr unsigned long long moved(unsigned long long descriptor, int bytes) { return descriptor + (bytes >> 4); }

// --- the grid ----------------------------------------------------------------------------------------------------------

// Which of rows x columns tiles is the index-th: strips of `group` rows, each walked column by column, so that the
// tiles at work together share few rows of A and few columns of B, and find them in L2.
__host__ __device__ constexpr At raster(int index, int rows, int columns, int group) {
    int strip = index / (group * columns), within = index % (group * columns);
    int height = rows - strip * group < group ? rows - strip * group : group;
    return {strip * group + within % height, within / height};
}

// --- numbers -----------------------------------------------------------------------------------------------------------

__host__ __device__ inline unsigned bits_of(float x) {
    union { float f; unsigned u; } both = {x};
    return both.u;
}
__host__ __device__ inline float float_of(unsigned u) {
    union { unsigned u; float f; } both = {u};
    return both.f;
}

// What cvt.rna.tf32.f32 does: to 10 bits of fraction, nearest, ties away from zero.
__host__ __device__ inline unsigned to_tf32(float x) {
    unsigned u = bits_of(x);
    return (u & 0x7f800000) == 0x7f800000 ? u : (u + 0x1000) & ~0x1fffu;
}

// What cvt.rn.f16.f32 and cvt.f32.f16 do.
__host__ __device__ inline unsigned short to_float16(float x) {
    unsigned u = bits_of(x), sign = u >> 16 & 0x8000, size = u & 0x7fffffff;
    if (size > 0x7f800000) return 0x7fff;                          // no number
    if (size >= 0x477ff000) return sign | 0x7c00;                  // 65520 and more round to infinity
    if (size < 0x38800000) {                                       // below 2^-14: a multiple of 2^-24
        float units = float_of(size) * 16777216.0f;                // exact
        unsigned whole = unsigned(units);
        float rest = units - float(whole);
        return sign | (whole + (rest > 0.5f || (rest == 0.5f && whole % 2 == 1)));
    }
    return sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
}
__host__ __device__ inline float from_float16(unsigned short half) {
    unsigned sign = (half & 0x8000u) << 16, size = half & 0x7fff;
    if (size >= 0x7c00) return float_of(sign | 0x7f800000 | (size & 0x3ff) << 13);
    if (size < 0x400) return float_of(sign | bits_of(float(size) / 16777216.0f));
    return float_of(sign | ((size << 13) + 0x38000000));
}
