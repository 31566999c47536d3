// A rung, and what calls it: the work of one thread of a launch. Compiled with -DGEMMLAB_RUNG='"naive.cu"'.
#include "cuda.hpp"

// Tile sizes, after the system's headers, whose template parameters have such names too.
#include "macros.hpp"
#if defined(CLUSTER) && CLUSTER > 1
#include "cluster.hpp"
#endif

#include GEMMLAB_RUNG

#ifdef WARP_INSTRUCTIONS  // source/warp.cuh
#include "tensor.hpp"
#else
namespace gemmlab { inline void begin_thread() {} }
#endif

namespace {

// A kernel has one argument, which each thread gets a copy of. The original is not the launch's to watch.
template <typename T>
__attribute__((no_sanitize("thread"))) void call(void (*kernel)(T), const void *argument) {
    T given;  // where its type may lie
    memcpy(&given, argument, sizeof given);
    kernel(given);
}

template <typename T>
constexpr size_t bytes(void (*)(T)) {
    return sizeof(T);
}

}  // namespace

extern "C" __attribute__((no_sanitize("thread"))) void gemmlab_thread(const void *argument) {
    gemmlab::begin_thread();
    call(gemm, argument);
}

extern "C" __attribute__((visibility("default"))) const size_t gemmlab_argument_bytes = bytes(gemm);
