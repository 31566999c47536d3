// cuda-tf32: tensor cores. A warp multiplies 16 x 8 by 8 x 8 in one instruction.
//
//     block: 128 x 128 of C, 256 threads                  The rung below spends an instruction of 32 lanes on 32
//     warp:  64 x 32, as 4 x 4 of 16 x 8                  multiplications and additions; mma.sync does 1024. The
//                                                         price: products of TF32, that is, of operands rounded to
//     k in steps of 16; 4 steps under way:                10 bits of fraction (the sums are float). We round them,
//       [compute][arriving][arriving][arriving]           to nearest; the hardware alone would cut them off.
//
// So fast a multiplier must not wait for memory: cp.async copies the tiles of later steps from global to shared memory
// while this one is computed, STAGES - 1 of them under way, and a thread holds none of it in registers. One barrier a
// step: it says both that a tile has arrived for everybody and that the one before it is free to be overwritten.
//
// Lines of shared memory are padded so that the fragments' loads meet no bank twice (`padded`). Operands whose rows do not
// begin on 16 bytes are read element by element, by the same code otherwise.
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
#ifndef BK
#define BK 16
#endif
#ifndef WM
#define WM 64
#endif
#ifndef WN
#define WN 32
#endif
#ifndef STAGES
#define STAGES 4
#endif
#ifndef BAND
#define BAND 8
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
static_assert(BM % WM == 0 && BN % WN == 0, "a block is whole warps' tiles");
static_assert(WM % 16 == 0 && WN % 8 == 0 && BK % 8 == 0, "a warp's tile is whole fragments");
static_assert(STAGES >= 2, "one stage is computed while another arrives");

constexpr int THREADS = BM / WM * (BN / WN) * 32;
constexpr bool A_ALONG = A_ORDER != ACROSS, B_ALONG = B_ORDER != ACROSS;
constexpr int A_FLOATS = BM * BK + larger(4 * BM, 8 * BK), B_FLOATS = BN * BK + larger(4 * BN, 8 * BK);

extern "C" __global__ void __launch_bounds__(THREADS) gemm(const Product<float, float> p) {
    extern __shared__ __align__(1024) unsigned char shared[];
    float *stages = reinterpret_cast<float *>(shared);
    auto place_a = [](int m, int k) { return in_padded(m, k, BM, BK, A_ALONG); };
    auto place_b = [](int n, int k) { return in_padded(n, k, BN, BK, B_ALONG); };

    At tile = raster(blockIdx.x, (p.m - 1) / BM + 1, (p.n - 1) / BN + 1, BAND);
    const int row = tile.row * BM, column = tile.column * BN, steps = (p.k - 1) / BK + 1;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int warp_row = warp / (BN / WN) * WM, warp_column = warp % (BN / WN) * WN;

    auto start = [&](int step) {  // the copies of a step
        float *a = stages + step % STAGES * (A_FLOATS + B_FLOATS), *b = a + A_FLOATS;
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

        const float *a = stages + step % STAGES * (A_FLOATS + B_FLOATS), *b = a + A_FLOATS;
#pragma unroll
        for (int k = 0; k < BK; k += 8) {
            unsigned a_part[WM / 16][4], b_part[WN / 8][2];
#pragma unroll
            for (int i = 0; i < WM / 16; ++i)
#pragma unroll
                for (int r = 0; r < 4; ++r) {
                    At at = a_tf32(lane, r);
                    a_part[i][r] = rounded(a[place_a(warp_row + i * 16 + at.row, k + at.column)]);
                }
#pragma unroll
            for (int j = 0; j < WN / 8; ++j)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    At at = b_tf32(lane, r);
                    b_part[j][r] = rounded(b[place_b(warp_column + j * 8 + at.column, k + at.row)]);
                }
#pragma unroll
            for (int i = 0; i < WM / 16; ++i)
#pragma unroll
                for (int j = 0; j < WN / 8; ++j) multiply_tf32(sum[i][j], a_part[i], b_part[j]);
        }
    }

    const InRuns runs = in_runs<2>(p);
#pragma unroll
    for (int i = 0; i < WM / 16; ++i)
#pragma unroll
        for (int j = 0; j < WN / 8; ++j)
#pragma unroll
            for (int r = 0; r < 4; r += 2) {
                At at = c_mma(lane, r);
                float pair[2] = {sum[i][j][r], sum[i][j][r + 1]};
                finish_run<2>(p, runs, row + warp_row + i * 16 + at.row, column + warp_column + j * 8 + at.column, pair);
            }
}
