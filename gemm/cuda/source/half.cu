// cuda-bf16 and cuda-fp16, on any GPU that has them: 16-bit operands, sums in float.
//
//     block: 128 x 128 of C, 256 threads, warps of 64 x 32; k in steps of 64, 3 under way
//
// As cuda-tf32, and an instruction multiplies 16 x 16 by 16 x 8: twice as much. Two things are new. ldmatrix: the lanes
// of a warp fetch four 8 x 8 matrices with one instruction, each lane naming one row, and turn them if they lie the other
// way: a transposed operand costs nothing. And no padding: lines are 128 bytes, and line l keeps its chunk c of 16 bytes in
// column c ^ l % 8 (swizzle128), so that neither the copies nor ldmatrix meet a bank twice.
//
// Where Hopper's way (hopper.cu) cannot go, for operands that its copy engine does not take, this is it.
//
// Not yet run on a GPU.
#include "fetch.cuh"
#include "run.cuh"
#include "tiles.cuh"

#ifndef BM
#define BM 128
#endif
#ifndef BN
#define BN 128
#endif
#ifndef WM
#define WM 64
#endif
#ifndef WN
#define WN 32
#endif
#ifndef STAGES
#define STAGES 3
#endif
#ifndef BAND
#define BAND 8
#endif
#ifndef FLOAT16
#define FLOAT16 0
#endif
#ifndef A_ORDER
#define A_ORDER ALONG
#endif
#ifndef B_ORDER
#define B_ORDER ACROSS
#endif
#ifndef A_WIDE
#define A_WIDE 0
#endif
#ifndef B_WIDE
#define B_WIDE 0
#endif
static_assert(BM % WM == 0 && BN % WN == 0 && BM % LINE == 0 && BN % LINE == 0, "a block is whole warps' tiles and whole lines");
static_assert(WM % 16 == 0 && WN % 32 == 0, "a warp's tile is whole fragments, and 32 columns for finish_warp");
static_assert(STAGES >= 2, "one stage is computed while another arrives");

#if FLOAT16
using Half = float16;
#else
using Half = bfloat16;
#endif
constexpr int BK = LINE;
constexpr int THREADS = BM / WM * (BN / WN) * 32;
constexpr bool A_ALONG = A_ORDER != ACROSS, B_ALONG = B_ORDER != ACROSS;

extern "C" __global__ void __launch_bounds__(THREADS) gemm(const Product<Half, Half> p) {
    extern __shared__ __align__(1024) unsigned char shared[];
    Half *stages = reinterpret_cast<Half *>(shared);
    auto place_a = [](int m, int k) { return in_tile(m, k, A_ALONG) / 2; };
    auto place_b = [](int n, int k) { return in_tile(n, k, B_ALONG) / 2; };

    At tile = raster(blockIdx.x, (p.m - 1) / BM + 1, (p.n - 1) / BN + 1, BAND);
    const int row = tile.row * BM, column = tile.column * BN, steps = (p.k - 1) / BK + 1;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int warp_row = warp / (BN / WN) * WM, warp_column = warp % (BN / WN) * WN;

    auto start = [&](int step) {  // the copies of a step
        Half *a = stages + step % STAGES * (BM + BN) * BK, *b = a + BM * BK;
        int k = step * BK;
        fetch<A_ALONG, A_WIDE, BM, BK, THREADS>(a, place_a, p.a + row * p.a_row + k * p.a_column, p.a_row, p.a_column,
                                                   p.m - row, p.k - k);
        fetch<B_ALONG, B_WIDE, BN, BK, THREADS>(b, place_b, p.b + k * p.b_row + column * p.b_column, p.b_column, p.b_row,
                                                   p.n - column, p.k - k);
    };

    for (int step = 0; step < STAGES - 1; ++step) {
        if (step < steps) start(step);
        copies_commit();
    }

    float sum[WM / 16][WN / 8][4] = {};
    for (int step = 0; step < steps; ++step) {
        copies_wait<STAGES - 2>();  // of mine, this step's have arrived
        __syncthreads();            // everybody's have, and everybody is done with the step before
        if (step + STAGES - 1 < steps) start(step + STAGES - 1);
        copies_commit();

        const Half *a = stages + step % STAGES * (BM + BN) * BK, *b = a + BM * BK;
#pragma unroll
        for (int k = 0; k < BK; k += 16) {
            unsigned a_part[WM / 16][4], b_part[WN / 16][4];
#pragma unroll
            for (int i = 0; i < WM / 16; ++i) {
                At at = a_ldmatrix(lane, A_ALONG);
                load_matrices<!A_ALONG>(a_part[i], a + place_a(warp_row + i * 16 + at.row, k + at.column));
            }
#pragma unroll
            for (int j = 0; j < WN / 16; ++j) {
                At at = b_ldmatrix(lane, B_ALONG);
                load_matrices<!B_ALONG>(b_part[j], b + place_b(warp_column + j * 16 + at.column, k + at.row));
            }
#pragma unroll
            for (int i = 0; i < WM / 16; ++i)
#pragma unroll
                for (int j = 0; j < WN / 8; ++j) {
                    const unsigned b_pair[2] = {b_part[j / 2][j % 2 * 2], b_part[j / 2][j % 2 * 2 + 1]};
                    multiply_half(sum[i][j], a_part[i], b_pair, Half());
                }
        }
    }

    const InRuns runs = in_runs<8>(p);
    const bool scaled = only_scaled<BM, BN>(p, runs, row, column);
#pragma unroll
    for (int i = 0; i < WM / 16; ++i)
        finish_warp<WN>(p, runs, scaled, row + warp_row + i * 16, column + warp_column, sum[i], lane);
}
