// The instructions of gemm/cuda/source/warp.cuh and hopper.cuh on a CPU: what the PTX ISA says that they do.
//
// Written from the ISA's tables and not by tensor.cuh, which the kernels go by: who reads and who writes a fragment, a
// swizzle or a descriptor must agree for a product to come out right. What is asynchronous on a GPU happens here as late as
// the waits allow, and what it is to overwrite is poison from the moment that it was asked for.
#pragma once
#undef threadIdx  // cluster.hpp's
#undef blockIdx
#undef gridDim

// What is watched in what is not: no part of its caller, and its accesses neither.
#ifdef __clang__
#define WATCHED __attribute__((noinline, optnone))
#else
#define WATCHED __attribute__((noipa))
#endif
#define UNWATCHED __attribute__((noinline, no_sanitize("thread")))

// Every kernel calls it so; the launch sizes it.
extern thread_local unsigned char shared[];

namespace gemmlab {

constexpr int MOST = 1024;
#ifndef GEMMLAB_CLUSTER
constexpr int CLUSTER_SHARED = 0;
UNWATCHED static int rank_of(unsigned) { return 0; }
#endif

// ----------------------------------------------------------------------------------- warps: one for all, all for one

struct Given {
    unsigned a[4], b[2];
    const void *row;
};
static Given given[2][MOST];
static unsigned char turn[MOST];

// What all 32 lanes bring, readable until the second trade after this one.
UNWATCHED static const Given *trade(const Given &mine) {
    int thread = threadIdx.x;
    Given *all = given[turn[thread] ^= 1];
    all[thread] = mine;
    __shfl_sync(0xffffffffu, 0, 0);  // (that is no barrier for memory, nor are these instructions)
    return all + thread / 32 * 32;
}

UNWATCHED static float part(unsigned pair, int which, bool bf16) {
    unsigned short bits = (unsigned short)(pair >> 16 * which);
    if (bf16) return gemmlab::bits<float>(unsigned(bits) << 16);
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                                : exponent ? ldexpf(1024 + fraction, exponent - 25) : ldexpf(fraction, -24);
    return bits >> 15 ? -size : size;
}

UNWATCHED static void multiply_16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], bool bf16) {
    const Given *lanes = trade({{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, nullptr});
    int group = threadIdx.x % 32 / 4, in_group = threadIdx.x % 4;
    for (int i = 0; i < 4; ++i) {
        int row = i < 2 ? group : group + 8, column = 2 * in_group + (i & 1);
        double sum = 0;
        for (int k = 0; k < 16; ++k) {
            unsigned x = lanes[row % 8 * 4 + k % 8 / 2].a[(row >= 8) + 2 * (k >= 8)];
            unsigned y = lanes[column * 4 + k % 8 / 2].b[k >= 8];
            sum += double(part(x, k % 2, bf16)) * part(y, k % 2, bf16);
        }
        c[i] = float(c[i] + sum);
    }
}

// ------------------------------------------------------------------------------------------------- cp.async

// Of a thread: what it has asked for and not waited for, each with the number of its group.
struct Copy {
    unsigned *to, data[4];
    int group;
};
struct Copies {
    Copy asked[256];
    int count, group;
};
static Copies copies[MOST];

WATCHED static void put(unsigned *to, unsigned a, unsigned b, unsigned c, unsigned d) {
    to[0] = a, to[1] = b, to[2] = c, to[3] = d;
}
WATCHED static unsigned char get(const unsigned char *from) { return *from; }

// ----------------------------------------------------------------- Hopper: barriers, boxes, wgmma

// A barrier's 64 bits: arrivals of a phase, arrivals still to come, bytes still to come, and the phase's parity.
struct Barrier {
    unsigned short arrivals, pending;
    int bytes : 31;
    unsigned parity : 1;
};
static_assert(sizeof(Barrier) == 8, "as an mbarrier");

UNWATCHED static Barrier *at_barrier(unsigned long long *barrier) { return reinterpret_cast<Barrier *>(barrier); }
UNWATCHED static void look(Barrier *barrier) {  // whether the phase is over
    if (barrier->pending || barrier->bytes) return;
    barrier->parity ^= 1;
    barrier->pending = barrier->arrivals;
}

// As cuTensorMapEncodeTiled would keep them somewhere (gemm/cuda/host/tensor.py).
struct Map {
    const unsigned short *matrix;
    unsigned long long inner, outer, step, box_inner, box_outer;  // elements; step: bytes
};
struct Box {
    unsigned address;
    int rank;
    const Map *map;
    int x, y;
    Barrier *barrier;
};
static Box boxes[256];
static int box_count;

// Shared memory has addresses of its own, the same in each block of a cluster, and does not begin on a boundary that
// anybody may count on.
constexpr unsigned BASE = 512;
UNWATCHED static unsigned char *at_address(unsigned address, int rank) { return shared + rank * CLUSTER_SHARED + (address - BASE); }
UNWATCHED static unsigned address_of(const void *at) {
    return unsigned((const unsigned char *)at - shared) - rank_of(threadIdx.x) * CLUSTER_SHARED + BASE;
}
UNWATCHED static unsigned swizzled(unsigned address) { return address ^ (address >> 7 & 7) << 4; }

UNWATCHED static void fill(const Box &box, bool arrived) {
    const Map &map = *box.map;
    for (unsigned y = 0; y < map.box_outer; ++y)
        for (unsigned x = 0; x < map.box_inner; ++x) {
            long long from_x = box.x + (long long)x, from_y = box.y + (long long)y;
            bool inside = from_x >= 0 && from_x < (long long)map.inner && from_y >= 0 && from_y < (long long)map.outer;
            unsigned short *to = (unsigned short *)at_address(swizzled(box.address + (y * unsigned(map.box_inner) + x) * 2), box.rank);
            if (!arrived) *to = 0xffff;
            else *to = inside ? ((const unsigned short *)((const char *)map.matrix + from_y * (long long)map.step))[from_x] : 0;
        }
    if (!arrived) return;
    box.barrier->bytes -= int(map.box_inner * map.box_outer * 2);
    look(box.barrier);
}

static unsigned dice = 1;
UNWATCHED static unsigned roll(unsigned sides) {
    dice = dice * 1664525u + 1013904223u;
    return unsigned((unsigned long long)dice * sides >> 32);
}

// A thread waits: another one has its turn, and now and then a box arrives, any of those asked for.
UNWATCHED static void pass_time() {
    if (box_count && roll(8) == 0) {
        int which = int(roll(unsigned(box_count)));
        Box box = boxes[which];
        boxes[which] = boxes[--box_count];
        fill(box, true);
    }
    int lane = threadIdx.x % 32;
    __shfl_sync(1u << lane, 0, lane);
}

// Of a thread: the products that it has asked for and not waited for.
struct Wgmma {
    float *d;
    int n, group;
    unsigned long long a, b;
    bool add, a_turned, b_turned, bf16;
};
struct Wgmmas {
    Wgmma asked[64];
    int count, group;
};
static Wgmmas wgmmas[MOST];

// PTX ISA, "Matrix Descriptor Format" and "Strides"; CUTLASS's mma_traits_sm90_gmma.hpp gives the layouts as formulas. A line
// is 64 elements of 16 bits, eight lines repeat the swizzle. Not turned, a line is along k, and lies in eights `stride` apart.
// Turned, it is along m or n, 64 of which are `leading` apart, and eights of k are `stride` apart.
UNWATCHED static float element(unsigned long long descriptor, int mn, int k, bool turned, bool bf16) {
    unsigned start = unsigned(descriptor & 0x3fff) << 4, leading = unsigned(descriptor >> 16 & 0x3fff) << 4;
    unsigned stride = unsigned(descriptor >> 32 & 0x3fff) << 4;
    unsigned at = turned ? start + mn / 64 * leading + k / 8 * stride + k % 8 * 128 + mn % 64 * 2
                         : start + mn / 8 * stride + mn % 8 * 128 + k * 2;
    return part(*(const unsigned short *)at_address(swizzled(at), rank_of(threadIdx.x)), 0, bf16);
}

UNWATCHED static void compute(const Wgmma &w) {
    int thread = threadIdx.x % 128, warp = thread / 32, group = thread % 32 / 4, in_group = thread % 4;
    for (int half = 0; half < 2; ++half) {  // row 16 warp + group, then 8 below
        float a[16];
        for (int k = 0; k < 16; ++k) a[k] = element(w.a, 16 * warp + group + 8 * half, k, w.a_turned, w.bf16);
        for (int n = 0; n < w.n; ++n) {
            if (n % 8 / 2 != in_group) continue;
            double sum = 0;
            for (int k = 0; k < 16; ++k) sum += double(a[k]) * element(w.b, n, k, w.b_turned, w.bf16);
            float &d = w.d[n / 8 * 4 + 2 * half + n % 2];
            d = float((w.add ? double(d) : 0.0) + sum);
        }
    }
}

// Before a thread's first instruction in a block.
UNWATCHED static void begin_thread() {
    int thread = threadIdx.x;
    turn[thread] = 0;
    copies[thread].count = copies[thread].group = 0;
    wgmmas[thread].count = wgmmas[thread].group = 0;
}

}  // namespace gemmlab

// ------------------------------------------------------------------------------------------------------ warp.cuh

UNWATCHED unsigned shared_address(const void *at) { return gemmlab::address_of(at); }

UNWATCHED void copy_async(void *to, const void *from, int bytes) {
    using namespace gemmlab;
    Copies &mine = copies[threadIdx.x];
    if (uintptr_t(to) % 16 || uintptr_t(from) % 16) GEMMLAB_AT.fault("copies 16 bytes that do not begin on such a boundary");
    if (bytes < 0 || bytes > 16) GEMMLAB_AT.fault("copies less than 0 or more than 16 bytes at a time");
    if (mine.count == 256) GEMMLAB_AT.fault("has more than 256 copies under way");
    Copy &copy = mine.asked[mine.count++];
    copy = {static_cast<unsigned *>(to), {}, mine.group};
    for (int i = 0; i < bytes; ++i) ((unsigned char *)copy.data)[i] = get((const unsigned char *)from + i);
    put(copy.to, ~0u, ~0u, ~0u, ~0u);
}
UNWATCHED void copies_commit() { ++gemmlab::copies[threadIdx.x].group; }
UNWATCHED void host_copies_wait(int pending) {
    gemmlab::Copies &mine = gemmlab::copies[threadIdx.x];
    int left = 0;
    for (int i = 0; i < mine.count; ++i) {
        const gemmlab::Copy copy = mine.asked[i];
        if (copy.group >= mine.group - pending) mine.asked[left++] = copy;
        else gemmlab::put(copy.to, copy.data[0], copy.data[1], copy.data[2], copy.data[3]);
    }
    mine.count = left;
}

WATCHED static unsigned short element_of(const unsigned short *row, int at) { return row[at]; }
UNWATCHED void host_load_matrices(unsigned (&to)[4], const void *row, bool turned) {
    if (uintptr_t(row) % 16) GEMMLAB_AT.fault("loads a row of a matrix that does not begin on 16 bytes");
    const gemmlab::Given *lanes = gemmlab::trade({{}, {}, row});
    int lane = threadIdx.x % 32;
    for (int i = 0; i < 4; ++i) {
        unsigned two[2];
        for (int e = 0; e < 2; ++e) {
            int at_row = turned ? 2 * (lane % 4) + e : lane / 4, at_column = turned ? lane / 4 : 2 * (lane % 4) + e;
            two[e] = element_of(static_cast<const unsigned short *>(lanes[8 * i + at_row].row), at_column);
        }
        to[i] = two[0] | two[1] << 16;
    }
}

// Of an operand the lowest 13 bits are not looked at.
UNWATCHED void multiply_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    const gemmlab::Given *lanes = gemmlab::trade({{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, nullptr});
    int group = threadIdx.x % 32 / 4, in_group = threadIdx.x % 4;
    for (int i = 0; i < 4; ++i) {
        int row = i < 2 ? group : group + 8, column = 2 * in_group + (i & 1);
        double sum = 0;
        for (int k = 0; k < 8; ++k) {
            unsigned x = lanes[row % 8 * 4 + k % 4].a[(row >= 8) + 2 * (k >= 4)], y = lanes[column * 4 + k % 4].b[k >= 4];
            sum += double(gemmlab::bits<float>(x & ~0x1fffu)) * gemmlab::bits<float>(y & ~0x1fffu);
        }
        c[i] = float(c[i] + sum);
    }
}
UNWATCHED void multiply_half(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], bfloat16) {
    gemmlab::multiply_16(c, a, b, true);
}
UNWATCHED void multiply_half(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], float16) {
    gemmlab::multiply_16(c, a, b, false);
}
float from_lane(float x, int bits) { return __shfl_xor_sync(0xffffffffu, x, bits); }

// ------------------------------------------------------------------------------------------------------ hopper.cuh
#ifdef HOPPER_INSTRUCTIONS

UNWATCHED void barrier_init(unsigned long long *barrier, int arrivals) {
    *gemmlab::at_barrier(barrier) = {(unsigned short)arrivals, (unsigned short)arrivals, 0, 0};
}
UNWATCHED static void arrive_at(gemmlab::Barrier *barrier, int bytes) {
    if (!barrier->pending) GEMMLAB_AT.fault("arrives at a barrier where all have arrived");
    barrier->bytes += bytes;
    --barrier->pending;
    gemmlab::look(barrier);
}
UNWATCHED void arrive_and_expect(unsigned long long *barrier, int bytes) { arrive_at(gemmlab::at_barrier(barrier), bytes); }
// The barrier at the same address of another block.
UNWATCHED static gemmlab::Barrier *there(unsigned long long *barrier, int rank) {
    return reinterpret_cast<gemmlab::Barrier *>(gemmlab::at_address(gemmlab::address_of(barrier), rank));
}
UNWATCHED void arrive(unsigned long long *barrier) { arrive_at(gemmlab::at_barrier(barrier), 0); }
UNWATCHED void arrive_there(unsigned long long *barrier, int rank) { arrive_at(there(barrier, rank), 0); }
UNWATCHED void wait(unsigned long long *barrier, int parity) {
    for (int patience = 0; gemmlab::at_barrier(barrier)->parity == unsigned(parity); ++patience) {
        if (patience == 1 << 15) GEMMLAB_AT.fault("waits in vain for a barrier");
        gemmlab::pass_time();
    }
}
UNWATCHED unsigned char *on_boundary(unsigned char *) {
    int rank = gemmlab::rank_of(threadIdx.x);
    return gemmlab::at_address((gemmlab::BASE + 1023) / 1024 * 1024, rank);
}
UNWATCHED int cluster_rank() { return gemmlab::rank_of(threadIdx.x); }
UNWATCHED void cluster_sync() { __syncthreads(); }
UNWATCHED void copy_box(void *to, const TensorMap *map, int x, int y, unsigned long long *barrier, int ranks) {
    using namespace gemmlab;
    unsigned address = shared_address(to);
    if (address % 1024) GEMMLAB_AT.fault("copies a box to what does not begin on 1024 bytes");
    for (int rank = 0; ranks >> rank; ++rank) {
        if (!(ranks >> rank & 1)) continue;
        if (box_count == 256) GEMMLAB_AT.fault("has more than 256 boxes under way");
        boxes[box_count] = {address, rank, reinterpret_cast<const Map *>(map), x, y, there(barrier, rank)};
        fill(boxes[box_count++], false);
    }
}
UNWATCHED void copy_box(void *to, const TensorMap *map, int x, int y, unsigned long long *barrier) {
    copy_box(to, map, x, y, barrier, 1 << gemmlab::rank_of(threadIdx.x));
}

void wgmma_begin() {}
UNWATCHED void host_wgmma(float *d, int n, unsigned long long a, unsigned long long b, bool add, bool a_turned, bool b_turned, bool bf16) {
    gemmlab::Wgmmas &mine = gemmlab::wgmmas[threadIdx.x];
    if ((a >> 62) != 1 || (b >> 62) != 1) GEMMLAB_AT.fault("has a descriptor without the swizzle of 128 bytes");
    if (mine.count == 64) GEMMLAB_AT.fault("has more than 64 products under way");
    mine.asked[mine.count++] = {d, n, mine.group, a, b, add, a_turned, b_turned, bf16};
}
UNWATCHED void wgmma_commit() { ++gemmlab::wgmmas[threadIdx.x].group; }
UNWATCHED void host_wgmma_wait(int pending) {
    gemmlab::Wgmmas &mine = gemmlab::wgmmas[threadIdx.x];
    int left = 0;
    for (int i = 0; i < mine.count; ++i) {
        const gemmlab::Wgmma w = mine.asked[i];
        if (w.group >= mine.group - pending) mine.asked[left++] = w;
        else gemmlab::compute(w);
    }
    mine.count = left;
    __shfl_sync(0xffffffffu, 0, 0);  // (.sync: of a warp nobody goes on before all have come)
}

#endif
