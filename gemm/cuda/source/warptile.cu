// cuda-warptile: tiles for warps between those of blocks and threads, and copies that run while the block multiplies.
//
//      block: BM x BN            warp: WM x WN, here 64 x 64         thread: WNITER pieces of TM x TN
//      +--------+--------+       +----+----+----+----+               The first lane has the marked ones, 4 of 8 x 4:
//      | warp 0 | warp 1 |       |#   |#   |#   |#   |               128 sums in registers. For them a step of k loads
//      +--------+--------+  ->   |    |    |    |    |               8 + 16 numbers from shared memory: 5.3
//      | warp 2 | warp 3 |       |    |    |    |    |               multiplications for each, where the rung below
//      +--------+--------+       +----+----+----+----+               has 4.
//
// What is new:
//   - The pieces of a thread lie apart, and those of the lanes beside each other lie beside each other: what a warp loads
//     in one instruction is a contiguous piece of a tile, free of bank conflicts. The four warp schedulers of a
//     multiprocessor have a warp of a block each.
//   - Two stages of tiles: while the block multiplies one, the copies of the next are on their way (async.cuh), past the
//     registers. One barrier for each tile.
//   - Rows and columns outside of A and B are not guarded against: such threads read the last one again, and nobody
//     writes what comes of it. Only a tile that is not all inside along k needs zeros, and that is the first one.
//   - Blocks start in bands of BAND tiles (tiles.cuh), so that those that run together share what is in the L2 cache.
//
// The tile sizes are those of S. Boehm's "How to optimize a CUDA matmul kernel" for an A6000.
//
// Not yet run on a GPU.
#include "async.cuh"
#include "store.cuh"
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
#define WN 64
#endif
#ifndef WNITER
#define WNITER 4
#endif
#ifndef TM
#define TM 8
#endif
#ifndef TN
#define TN 4
#endif
#ifndef BAND
#define BAND 16
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
constexpr int WARPS_ACROSS = BN / WN, THREADS = BM / WM * WARPS_ACROSS * 32;
constexpr int WMITER = WM * WN / (32 * TM * TN * WNITER);          // pieces of a thread, downwards; WNITER to the right
constexpr int PIECE_M = WM / WMITER, PIECE_N = WN / WNITER;        // what the 32 lanes have of one piece together
constexpr int LANES_M = PIECE_M / TM, LANES_N = PIECE_N / TN;      // lanes, downwards and to the right
constexpr int MINE_M = WMITER * TM, MINE_N = WNITER * TN;          // a thread's sums
static_assert(BM % WM == 0 && BN % WN == 0, "warps share the block's tile evenly");
static_assert(WMITER > 0 && LANES_M * LANES_N == 32 && LANES_M % 2 == 0, "32 lanes share a piece evenly");
static_assert(LANES_M * TM * WMITER == WM && LANES_N * TN * WNITER == WN, "pieces share the warp's tile evenly");
static_assert(TM % 4 == 0 && TN % 4 == 0, "loads from shared memory are of four numbers");
static_assert(THREADS <= 1024, "a block has at most 1024 threads");

// Four numbers between the rows of a tile: 8 x 4 numbers that a warp transposes go to 32 banks.
constexpr int GAP = 4;
struct alignas(16) Stage {
    float a[BK][BM + GAP], b[BK][BN + GAP];
};

// How this thread copies its share of an operand's tiles, one after another along k.
//
// `across` and `along` are the operand's strides across k and along it. Along: 8 threads beside each other take 8
// neighbours in k, 32 bytes, and are transposed on the way. Across: threads follow a row of the tile, 4 bytes or 16 each.
template <int order, bool wide, int width>
struct Operand {
    static constexpr int COUNT = wide ? 4 : 1;
    static constexpr int THREADS_ALONG = order == ACROSS ? THREADS * COUNT / width : 8;
    static constexpr int THREADS_ACROSS = THREADS / THREADS_ALONG;
    static constexpr int TIMES_ALONG = BK / THREADS_ALONG, TIMES_ACROSS = width / COUNT / THREADS_ACROSS;
    static_assert(order == ACROSS || !wide, "what is transposed is copied number by number");
    static_assert(THREADS_ALONG * THREADS_ACROSS == THREADS && THREADS_ALONG * TIMES_ALONG == BK &&
                      THREADS_ACROSS * TIMES_ACROSS * COUNT == width,
                  "threads share a tile's copies evenly");

    const float *from;               // where this thread reads next
    long long along, offsets[TIMES_ACROSS];
    int x, t;                        // where it writes, in the tile

    __device__ Operand(const float *operand, long long across, long long along_, int first, int size)
        : along(order == ALONG ? 1 : along_) {
        int thread = threadIdx.x;
        x = (order == ACROSS ? thread % THREADS_ACROSS : thread / THREADS_ALONG) * COUNT;
        t = order == ACROSS ? thread / THREADS_ACROSS : thread % THREADS_ALONG;
        from = operand + t * along;
#pragma unroll
        for (int j = 0; j < TIMES_ACROSS; ++j) {
            int at = first + x + j * THREADS_ACROSS * COUNT;
            offsets[j] = (at < size - COUNT ? at : size - COUNT) * (order == ACROSS ? 1 : across);
        }
    }

    // Starts the copies of the next `steps` of k: all of a tile, or, guarded, fewer and zeros below them.
    template <bool guarded>
    __device__ void fetch(float (*tile)[width + GAP], int steps) {
#pragma unroll
        for (int i = 0; i < TIMES_ALONG; ++i)
#pragma unroll
            for (int j = 0; j < TIMES_ACROSS; ++j)
                copy_async<COUNT, guarded>(&tile[t + i * THREADS_ALONG][x + j * THREADS_ACROSS * COUNT],
                                           from + offsets[j] + i * THREADS_ALONG * along, t + i * THREADS_ALONG < steps);
        from += steps * along;
    }
};

template <int count>
__device__ inline void load(float *to, const float *from) {
#pragma unroll
    for (int i = 0; i < count; i += 4) {
        float4 four = *reinterpret_cast<const float4 *>(from + i);
        to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
}

// Two blocks on a multiprocessor: one multiplies while the other waits at its barrier.
extern "C" __global__ void __launch_bounds__(THREADS, THREADS > 128 ? 1 : 2) gemm(const Product<float, float> p) {
    __shared__ Stage stages[2];
    Corner tile = corner<BM, BN, BAND>(p.m, p.n);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Neighbouring lanes go down and back up: of any four beside each other two need the same numbers of A and two the
    // same of B, which lets a multiprocessor serve half a warp's 16-byte loads at once.
    int lane_m = lane / (2 * LANES_N) * 2 + lane % 2, lane_n = lane / 2 % LANES_N;
    int y = warp / WARPS_ACROSS * WM + lane_m * TM, x = warp % WARPS_ACROSS * WN + lane_n * TN;

    Operand<A_ORDER, A_WIDE, BM> a(p.a, p.a_row, p.a_column, tile.row, p.m);
    Operand<B_ORDER, B_WIDE, BN> b(p.b, p.b_column, p.b_row, tile.column, p.n);

    float sums[MINE_M][MINE_N] = {};
    int steps = (p.k - 1) % BK + 1;  // of the first tile: after it, all are whole
    a.template fetch<true>(stages[0].a, steps);
    b.template fetch<true>(stages[0].b, steps);
    for (int now = 0, left = p.k - steps; left >= 0; left -= BK, now ^= 1) {
        wait_for_copies();
        __syncthreads();  // this stage is complete, and everyone is done with the other
        if (left > 0) {
            a.template fetch<false>(stages[now ^ 1].a, BK);
            b.template fetch<false>(stages[now ^ 1].b, BK);
        }
        const Stage &stage = stages[now];

#pragma unroll
        for (int t = 0; t < BK; ++t) {
            float left_of[MINE_M], right_of[MINE_N];
#pragma unroll
            for (int i = 0; i < WMITER; ++i) load<TM>(left_of + i * TM, &stage.a[t][y + i * PIECE_M]);
#pragma unroll
            for (int j = 0; j < WNITER; ++j) load<TN>(right_of + j * TN, &stage.b[t][x + j * PIECE_N]);
#pragma unroll
            for (int i = 0; i < MINE_M; ++i)
#pragma unroll
                for (int j = 0; j < MINE_N; ++j) sums[i][j] += left_of[i] * right_of[j];
        }
    }

    if (direct(p)) {
#pragma unroll
        for (int i = 0; i < MINE_M; ++i)
#pragma unroll
            for (int j = 0; j < MINE_N; j += 4)
                store4(p, tile.row + y + i / TM * PIECE_M + i % TM, tile.column + x + j / TN * PIECE_N + j % TN,
                       sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]);
        return;
    }
    // One row of every piece at a time, gathered where the stages were.
    constexpr int ROWS = BM / MINE_M;
    static_assert(sizeof(float[ROWS][BN]) <= sizeof(stages), "the rows fit where the stages were");
    float(*rows)[BN] = reinterpret_cast<float(*)[BN]>(stages);
    int mine = warp / WARPS_ACROSS * LANES_M + lane_m;
#pragma unroll 1
    for (int pass = 0, turn = 1; pass < MINE_M; ++pass, turn *= 2) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < MINE_M; ++i)
            if (turn >> i & 1)
#pragma unroll
                for (int j = 0; j < MINE_N; ++j) rows[mine][x + j / TN * PIECE_N + j % TN] = sums[i][j];
        __syncthreads();
        finish_rows<ROWS, BN, THREADS>(p, rows, tile.column, [&](int i) {
            return tile.row + i / LANES_M * WM + pass / TM * PIECE_M + i % LANES_M * TM + pass % TM;
        });
    }
}
