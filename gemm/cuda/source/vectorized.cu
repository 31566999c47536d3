// cuda-vectorized: four numbers in one instruction, from global memory, from shared memory and to C.
//
// The rung below asks for every number by an instruction of its own. Here an operand whose rows (or columns) are
// contiguous and aligned comes in 16 bytes at a time (A_WIDE, B_WIDE), and A is transposed on its way into shared memory:
//
//      A in memory          a[t][x] in shared memory
//      row x: t t t t   ->  the TM numbers of a column that a thread needs lie beside each other, and are
//                           loaded by TM / 4 instructions in place of TM
//
// What is not aligned is copied number by number, and the multiplication stays as fast.
//
//     BM x BN   the block's tile of C; BM * BN / (TM * TN) threads
//     BK        how deep the tiles of A and B are
//
// Not yet run on a GPU.
#include "store.cuh"
#include "tiles.cuh"

#ifndef BM
#define BM 128
#endif
#ifndef BN
#define BN 128
#endif
#ifndef BK
#define BK 8
#endif
#ifndef TM
#define TM 8
#endif
#ifndef TN
#define TN 8
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
#define THREADS (BM * BN / (TM * TN))
static_assert(BM % TM == 0 && BN % TN == 0, "threads share the tile evenly");
static_assert(TM % 4 == 0 && TN % 4 == 0 && BK % 4 == 0, "loads are of four numbers");
static_assert(THREADS <= 1024, "a block has at most 1024 threads");

// Numbers between the rows of a tile: with 4 more than its width, what a warp transposes goes to different banks.
#define PITCH(WIDTH) ((WIDTH) + 4)

// Copies a tile of an operand, `width` numbers across k and BK along it, from where its first number is; 0 where it stands
// over the edge, of which it is `high` and `deep` away. `across` and `along` are the operand's strides in these
// directions; `wide` is given only where (in the direction of `order`) they are 1, everything is aligned to 16 bytes, and
// the size is a multiple of 4.
template <int order, bool wide, int width>
__device__ inline void copy(float (*tile)[PITCH(width)], const float *from, long long across, long long along, int high,
                            int deep) {
    constexpr int wide_across = wide && order == ACROSS ? 4 : 1, wide_along = wide && order == ALONG ? 4 : 1;
    constexpr int columns = width / wide_across, rows = BK / wide_along;
#pragma unroll
    for (int i = threadIdx.x; i < columns * rows; i += THREADS) {
        int x = (order == ACROSS ? i % columns : i / rows) * wide_across;
        int t = (order == ACROSS ? i / columns : i % rows) * wide_along;
        bool inside = x < high && t < deep;
        const float *number = from + x * across + t * along;
        if constexpr (wide) {
            float4 four = {0, 0, 0, 0};
            if (inside) four = *reinterpret_cast<const float4 *>(number);
            if constexpr (order == ACROSS) {
                *reinterpret_cast<float4 *>(&tile[t][x]) = four;
            } else {
                tile[t][x] = four.x, tile[t + 1][x] = four.y, tile[t + 2][x] = four.z, tile[t + 3][x] = four.w;
            }
        } else {
            tile[t][x] = inside ? *number : 0.0f;
        }
    }
}

// `count` neighbours from shared memory.
template <int count>
__device__ inline void load(float *to, const float *from) {
#pragma unroll
    for (int i = 0; i < count; i += 4) {
        float4 four = *reinterpret_cast<const float4 *>(from + i);
        to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
}

// Two blocks on a multiprocessor, if they are small: one multiplies while the other waits at a barrier.
extern "C" __global__ void __launch_bounds__(THREADS, THREADS > 256 ? 1 : 2) gemm(const Product<float, float> p) {
    alignas(16) __shared__ float a[BK][PITCH(BM)], b[BK][PITCH(BN)];
    __shared__ float rows[BM / TM][BN];
    Corner tile = corner<BM, BN>(p.m, p.n);
    int thread = threadIdx.x, y = thread / (BN / TN) * TM, x = thread % (BN / TN) * TN;

    const float *a_from = p.a + tile.row * p.a_row, *b_from = p.b + tile.column * p.b_column;
    float sums[TM][TN] = {};
    for (int left = p.k; left > 0; left -= BK) {
        copy<A_ORDER, A_WIDE, BM>(a, a_from, p.a_row, p.a_column, p.m - tile.row, left);
        copy<B_ORDER, B_WIDE, BN>(b, b_from, p.b_column, p.b_row, p.n - tile.column, left);
        a_from += BK * p.a_column;
        b_from += BK * p.b_row;
        __syncthreads();

// (of all at once the assembler loads so much ahead that registers run out)
#pragma unroll 2
        for (int t = 0; t < BK; ++t) {
            float column[TM], row[TN];
            load<TM>(column, &a[t][y]);
            load<TN>(row, &b[t][x]);
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sums[i][j] += column[i] * row[j];
        }
        __syncthreads();
    }

    if (direct(p)) {
#pragma unroll
        for (int i = 0; i < TM; ++i)
#pragma unroll
            for (int j = 0; j < TN; j += 4)
                store4(p, tile.row + y + i, tile.column + x + j, sums[i][j], sums[i][j + 1], sums[i][j + 2],
                       sums[i][j + 3]);
        return;
    }
#pragma unroll 1
    for (int pass = 0, turn = 1; pass < TM; ++pass, turn *= 2) {
#pragma unroll
        for (int i = 0; i < TM; ++i)
            if (turn >> i & 1)
#pragma unroll
                for (int j = 0; j < TN; ++j) rows[y / TM][x + j] = sums[i][j];
        __syncthreads();
        finish_rows<BM / TM, BN, THREADS>(p, rows, tile.column, [&](int i) { return tile.row + i * TM + pass; });
        __syncthreads();
    }
}
