// cuda-bf16 and cuda-fp16 on Hopper: one warpgroup fetches, two multiply, and nobody waits for a block barrier.
//
//     block: 128 x 256 of C, one block on each multiprocessor, tile after tile (a persistent grid)
//
//       producer (one thread)          consumers (2 x 128 threads, 64 x 256 of C each)
//         for each tile of C:            for each tile of C:
//           for each 64 of k:              for each 64 of k:
//             wait until slot is empty       wait until slot is full
//             ask for A: 128 x 64            4 x wgmma: 64 x 256 += 64 x 16 * 16 x 256
//             ask for B: 64 x 256            the slot before is empty
//                                          finish C
//
// Four ideas beyond half.cu. wgmma: four warps together multiply what lies in shared memory, 64 x 256 x 16 at a time and
// asynchronously; operands pass through no register, and either may lie either way. The copy engine (TMA): one thread names a
// box of the matrix, which arrives swizzled as wgmma wants it, zeros over the edge, and counts its bytes in a barrier: a
// full slot announces itself. Roles: the producer is always as far ahead as there are slots, also across tiles, so that the
// next tile's operands arrive while this one is finished; it gives its registers to the consumers, whose sums take 128
// each. Clusters (CLUSTER = 2): two blocks, one tile above the other, need the same B; each fetches half, for both.
//
//       full[slot]:   1 arrival of the producer, and the slot's bytes
//       empty[slot]:  an arrival of every consumer warp of the cluster
//
// A C whose rows begin on 16 bytes is written 16 bytes a lane. Tiles go by in strips of BAND rows for the L2's sake.
// The design follows public work: NVIDIA's CUTLASS (its persistent warp-specialised kernels) and Pranjal Shankhdhar's
// worklog "Outperforming cuBLAS on H100" (github.com/pranjalssh/fast.cu).
//
// Not yet run on a GPU.
#include "hopper.cuh"
#include "run.cuh"
#include "tiles.cuh"

#ifndef BM
#define BM 128
#endif
#ifndef BN
#define BN 256
#endif
#ifndef STAGES
#define STAGES 4
#endif
#ifndef CLUSTER
#define CLUSTER 1
#endif
#ifndef BAND
#define BAND 16
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
static_assert(BM == 128, "two consumers of 64 rows");
static_assert(BN == 128 || BN == 256, "a consumer's sums fit its registers");
static_assert(CLUSTER == 1 || CLUSTER == 2, "pairs of blocks share B");
static_assert(STAGES >= 2, "one stage is computed while another arrives");
static_assert(BAND % CLUSTER == 0, "a strip is whole clusters");

#if FLOAT16
using Half = float16;
#else
using Half = bfloat16;
#endif
constexpr int BK = LINE, THREADS = 3 * 128, CONSUMER_WARPS = 8;
constexpr bool A_ALONG = A_ORDER != ACROSS, B_ALONG = B_ORDER != ACROSS;
constexpr int A_BYTES = BM * BK * 2, B_BYTES = BN * BK * 2;

// A slot of the ring, and how often the ring has come round: the parity of the phase that its barriers are in.
struct Slot {
    int at, parity;
    __device__ void next() {
        if (++at == STAGES) {
            at = 0;
            parity ^= 1;
        }
    }
};

// One argument, as of every rung. The maps are read by the copy engine where they lie: in the launch's constants.
struct Arguments {
    Product<Half, Half> p;
    TensorMap map_a, map_b;
};
static_assert(sizeof(Arguments) == 448, "gemm/cuda/tensor_map.py says 448 bytes");

#if CLUSTER > 1 && defined(__CUDACC__)
#define IN_CLUSTERS __cluster_dims__(CLUSTER, 1, 1)
#else
#define IN_CLUSTERS
#endif

extern "C" __global__ void __launch_bounds__(THREADS, 1) IN_CLUSTERS
gemm(const __grid_constant__ Arguments given) {
    const Product<Half, Half> &p = given.p;
    extern __shared__ __align__(1024) unsigned char shared[];
    unsigned char *a_slots = on_boundary(shared);
    unsigned char *b_slots = a_slots + STAGES * A_BYTES;
    unsigned long long *full = reinterpret_cast<unsigned long long *>(b_slots + STAGES * B_BYTES), *empty = full + STAGES;

    const int rank = CLUSTER > 1 ? cluster_rank() : 0;
    if (threadIdx.x == 0) {
        map_ahead(&given.map_a);
        map_ahead(&given.map_b);
        for (int i = 0; i < STAGES; ++i) {
            barrier_init(&full[i], 1);
            barrier_init(&empty[i], CONSUMER_WARPS * CLUSTER);
        }
        barriers_ready();
    }
    __syncthreads();
    if (CLUSTER > 1) cluster_sync();

    // A cluster takes CLUSTER tiles below each other; rows that do not exist are zeros that nobody writes.
    const int high = ((p.m - 1) / BM / CLUSTER + 1), wide = (p.n - 1) / BN + 1, steps = (p.k - 1) / BK + 1;
    const int first = blockIdx.x / CLUSTER, clusters = gridDim.x / CLUSTER, tiles = high * wide;
    Slot slot = {0, 0};

    if (threadIdx.x < 128) {
        fewer_registers<40>();
        if (threadIdx.x == 0) {
            for (int i = first; i < tiles; i += clusters) {
                At tile = raster(i, high, wide, BAND / CLUSTER);
                const int row = (tile.row * CLUSTER + rank) * BM, column = tile.column * BN;
                for (int step = 0; step < steps; ++step, slot.next()) {
                    unsigned char *a = a_slots + slot.at * A_BYTES, *b = b_slots + slot.at * B_BYTES;
                    const int k = step * BK;
                    wait(&empty[slot.at], slot.parity ^ 1);
                    arrive_and_expect(&full[slot.at], A_BYTES + B_BYTES);
                    if (A_ALONG)
                        copy_box(a, &given.map_a, k, row, &full[slot.at]);
                    else
                        for (int panel = 0; panel < BM / LINE; ++panel)
                            copy_box(a + panel * PANEL, &given.map_a, row + panel * LINE, k, &full[slot.at]);
                    if (CLUSTER == 1) {
                        if (B_ALONG)
                            copy_box(b, &given.map_b, k, column, &full[slot.at]);
                        else
                            for (int panel = 0; panel < BN / LINE; ++panel)
                                copy_box(b + panel * PANEL, &given.map_b, column + panel * LINE, k, &full[slot.at]);
                    } else {  // my share of B, to everybody
                        const int part = BN / CLUSTER, mine = rank * part, all = (1 << CLUSTER) - 1;
                        if (B_ALONG)
                            copy_box(b + mine * 128, &given.map_b, k, column + mine, &full[slot.at], all);
                        else
                            for (int panel = mine / LINE; panel < (mine + part) / LINE; ++panel)
                                copy_box(b + panel * PANEL, &given.map_b, column + panel * LINE, k, &full[slot.at], all);
                    }
                }
            }
        }
    } else {
        more_registers<232>();
        const int consumer = uniform(threadIdx.x / 128 - 1), warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
        const unsigned long long a_tile = tile_descriptor(shared_address(a_slots) + consumer * PANEL, A_ALONG);
        const unsigned long long b_tile = tile_descriptor(shared_address(b_slots), B_ALONG);
        const InRuns runs = in_runs<8>(p);
        auto release = [&](int at) {  // this warp reads slot `at` no more
            if (CLUSTER == 1) {
                if (lane == 0) arrive(&empty[at]);
            } else if (lane < CLUSTER) {
                arrive_there(&empty[at], lane);
            }
        };

        for (int i = first; i < tiles; i += clusters) {
            // (The first wgmma does not read the zeros. Compilers before 12.9 need them: else each wgmma waits for the one before.)
            float sum[BN / 8][4] = {};
            int before = 0;
            for (int step = 0; step < steps; ++step, slot.next()) {
                wait(&full[slot.at], slot.parity);
                wgmma_begin();
#pragma unroll
                for (int part = 0; part < BK / 16; ++part)
                    wgmma<!A_ALONG, !B_ALONG>(sum, moved(a_tile, slot.at * A_BYTES + part * step_bytes(A_ALONG)),
                                              moved(b_tile, slot.at * B_BYTES + part * step_bytes(B_ALONG)),
                                              step > 0 || part > 0, Half());
                wgmma_commit();
                wgmma_wait<1>();
                if (step > 0) release(before);
                before = slot.at;
            }
            wgmma_wait<0>();
            wgmma_done(sum);
            release(before);

            At tile = raster(i, high, wide, BAND / CLUSTER);
            const int row = (tile.row * CLUSTER + rank) * BM, column = tile.column * BN;
            const bool scaled = only_scaled<BM, BN>(p, runs, row, column);
            finish_warp<BN>(p, runs, scaled, row + consumer * 64 + warp * 16, column, sum, lane);
        }
    }
    if (CLUSTER > 1) cluster_sync();  // nobody leaves while another may still write into its shared memory
}
