// A tile of A or B comes into shared memory, in chunks of 16 bytes, with zeros for what lies over the matrix's edge.
#pragma once
#include "warp.cuh"

template <typename T> struct alignas(16) Chunk {
    T at[16 / sizeof(T)];
};

// By all THREADS threads: MNS x KS elements, mn counting rows of A or columns of B. `from` is the tile's first element, of
// which mns x ks are inside the matrix; place(mn, k) is where an element goes, neighbours of a chunk next to each other.
// ALONG_K: chunks lie along k, otherwise along mn. ALIGNED: they do so in memory too, on boundaries of 16 bytes, and are
// copied past the registers: they have arrived after copies_wait. Otherwise they are read one element at a time.
template <bool ALONG_K, bool ALIGNED, int MNS, int KS, int THREADS, typename T, typename Place>
__device__ inline void fetch(T *shared, Place place, const T *from, long long mn_step, long long k_step, int mns, int ks) {
    constexpr int SIZE = 16 / sizeof(T), IN_LINE = (ALONG_K ? KS : MNS) / SIZE, CHUNKS = MNS * KS / SIZE;
    static_assert((ALONG_K ? KS : MNS) % SIZE == 0, "a line of the tile is whole chunks");
#pragma unroll
    for (int first = 0; first < CHUNKS; first += THREADS) {
        int chunk = first + threadIdx.x;
        if (CHUNKS % THREADS != 0 && chunk >= CHUNKS) break;
        int line = chunk / IN_LINE, along = chunk % IN_LINE * SIZE;
        int mn = ALONG_K ? line : along, k = ALONG_K ? along : line;
        int inside = ALONG_K ? (mn < mns ? ks - k : 0) : (k < ks ? mns - mn : 0);
        const T *source = from + mn * mn_step + k * k_step;
        T *to = shared + place(mn, k);
        if (ALIGNED) {
            int count = smaller(larger(inside, 0), SIZE);
            copy_async(to, count > 0 ? source : from, count * int(sizeof(T)));
        } else {
            long long step = ALONG_K ? k_step : mn_step;
            Chunk<T> read;
#pragma unroll
            for (int i = 0; i < SIZE; ++i) read.at[i] = i < inside ? source[i * step] : T(0.0f);
            *reinterpret_cast<Chunk<T> *>(to) = read;
        }
    }
}
