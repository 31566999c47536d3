// A rung, and what calls it: the work of one thread of a launch. Compiled with -DGEMMLAB_RUNG='"naive.cu"'.
#include "cuda.hpp"

// Tile sizes, after the system's headers, whose template parameters have such names too.
#include "macros.hpp"

#include GEMMLAB_RUNG

namespace {

// A kernel has one argument, which each thread gets a copy of. The original is not the launch's to watch.
template <typename T>
__attribute__((no_sanitize("thread"))) void call(void (*kernel)(T), const void *argument) {
    kernel(*static_cast<const T *>(argument));
}

template <typename T>
constexpr size_t bytes(void (*)(T)) {
    return sizeof(T);
}

}  // namespace

extern "C" __attribute__((no_sanitize("thread"))) void gemmlab_thread(const void *argument) { call(gemm, argument); }

extern "C" __attribute__((visibility("default"))) const size_t gemmlab_argument_bytes = bytes(gemm);
