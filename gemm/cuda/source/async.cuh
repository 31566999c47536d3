// From global to shared memory while the block multiplies: cp.async, of compute capability 8.0 and later.
#pragma once

// Starts a copy of `count` numbers, 1 or 4 (16 bytes, aligned). Guarded: of zeros, unless `inside`.
template <int count, bool guarded>
__device__ inline void copy_async(float *to, const float *from, bool inside) {
    static_assert(count == 1 || count == 4, "4 or 16 bytes");
#ifdef __CUDA_ARCH__
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    // 16 bytes pass by the L1 cache (cg); 4 bytes cannot
    if constexpr (guarded && count == 4) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(inside ? 16 : 0));
    } else if constexpr (guarded) {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(inside ? 4 : 0));
    } else if constexpr (count == 4) {
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(address), "l"(from));
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from));
    }
#else
    gemmlab::copy_async(to, !guarded || inside ? from : nullptr, count * sizeof(float));  // host/cuda.hpp
#endif
}

// Waits for the copies that this thread has started; a barrier must follow before others read them.
__device__ inline void wait_for_copies() {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.wait_all;" ::: "memory");
#else
    gemmlab::wait_for_copies();
#endif
}
