// The dynamic shared memory of a launch: where `extern __shared__ T name[]` is. Compiled with -DGEMMLAB_DYNAMIC=name.
extern "C" {
__attribute__((aligned(65536))) thread_local char GEMMLAB_DYNAMIC[227 << 10];
}
