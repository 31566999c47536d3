// The blocks of a launch, one after the other: threads as fibers, barriers, shared memory, and who touched it when.
//
// A fiber runs as far as its next barrier or its end; which one runs next is drawn at random, and so is the order of the
// blocks. A thread is thus ahead of all others, or behind, by as much as the barriers allow: what needs a barrier that is
// not there reads poison (NaN) or what another thread was to overwrite later.
//
// That finds races by their effect. A rung that was compiled to be watched calls __tsan_read4 and the like before each
// access to memory (-fsanitize=thread; ThreadSanitizer itself is not linked, those functions are here), and then they are
// found by what is accessed, in any order: two threads, one of them writing, and no barrier between the two. So is what
// lies outside of the arrays. What indexes an array whose length it knows calls __ubsan_handle_out_of_bounds
// (-fsanitize=bounds), and a float4 that is no multiple of 16 bytes away __ubsan_handle_type_mismatch_v1.
//
// One operating system thread at a time: emulator.py sees to that.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cuda.hpp"

#include <link.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <algorithm>
#include <vector>

// What follows the last shared array (this file is linked last): guarded as the gaps between them are.
constexpr size_t GUARD = 1024;
extern "C" {
__attribute__((used)) thread_local char gemmlab_end[GUARD];
}

#define OFFERED extern "C" __attribute__((visibility("default")))

// One thread's work: the rung (emulator.py writes what calls it).
extern "C" void gemmlab_thread(const void *argument);

// ----------------------------------------------------------------------------------------------- changing stacks
// swapcontext asks the kernel for the signal mask each time, 0.3 us; these are 16 instructions. Elsewhere it has to do.
#if defined(__x86_64__)
#define OWN_SWITCH 1
asm(R"(
.text
.p2align 4
.globl gemmlab_switch
.hidden gemmlab_switch
.type gemmlab_switch, @function
gemmlab_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size gemmlab_switch, . - gemmlab_switch
)");
constexpr int SAVED = 6, RETURN = 6, WORDS = 8;  // registers, the address to return to, one more to align
#elif defined(__aarch64__)
#define OWN_SWITCH 1
asm(R"(
.text
.p2align 4
.globl gemmlab_switch
.hidden gemmlab_switch
.type gemmlab_switch, %function
gemmlab_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size gemmlab_switch, . - gemmlab_switch
)");
constexpr int SAVED = 20, RETURN = 11, WORDS = 20;
#else
#include <ucontext.h>
#endif

// The builtins, under names of their own: here they change, and cuda.hpp declares them constant.
uint3 thread_index asm("threadIdx"), block_index asm("blockIdx");
dim3 block_size asm("blockDim"), grid_size asm("gridDim");

namespace {

// Not a power of two: stacks would have their hot ends in the same few lines of the caches.
constexpr size_t STACK = (64 << 10) + 17 * 64, CANARY = 0x5afe57ac4b0770;
constexpr uint16_t MANY = 0xffff, MANY_OF = 0x8000;

enum State { FRESH, READY, AT_BLOCK, AT_WARP, DONE };

struct Context {
#ifdef OWN_SWITCH
    void *stack_pointer;
#else
    ucontext_t context;
#endif
};

struct Fiber : Context {
    uint3 index;
    State state;
    gemmlab::At at;      // the barrier where it waits, and what that is
    const char *what;
    unsigned mask;       // the lanes that it waits for
    uint64_t value, *all;
    unsigned there;
};

struct Copy {
    void *to;
    const void *from;    // null: zeros
    size_t size;
    unsigned where;
};

struct Array {           // as emulator.py describes them
    size_t offset, size;
    const char *name;
    int dynamic;         // its size is the launch's
};

struct Range {           // of memory that the launch may touch
    uintptr_t low, high;
    int writable;
    const char *name;
};

// Who wrote or read a granule of shared memory last, and when: phases end at __syncthreads, a warp's at __syncwarp.
struct Access {
    unsigned phase;
    uint16_t warp_phase, thread;  // or MANY, or MANY_OF + their warp: readers since the last barrier
    unsigned where;
};
struct Cell { Access write, read; };

struct Slot {            // what lies in 64 KiB of shared memory: (a part of) one array, or nothing
    size_t low, high;
    int array;
};

// ----- one launch
const void *argument;
const Range *ranges;
int range_count;
char *message;
size_t message_room;
bool failed, watched;
uint64_t random_state;

// ----- one block
std::vector<Fiber> fibers;
char *stacks;
size_t stacks_bytes;
std::vector<std::vector<Copy>> on_their_way;  // of each thread
Context scheduler;
Fiber *current;
int threads, at_block, done;
std::vector<int> ready;
unsigned phase = 1;
uint16_t warp_phases[33];
gemmlab::At first_at;
bool apart;  // at the barrier, but not all at the same one

// ----- shared memory: the library's thread_local variables
std::vector<Array> arrays;
char *shared;
size_t shared_bytes, dynamic_bytes;
constexpr size_t SLOT = 65536;
constexpr unsigned char POISON = 0xff;  // NaN, as float, double, half and bfloat16
std::vector<Slot> slots;
std::vector<Cell> cells;
Access now;                             // what the fiber that runs has to say of itself
int granule = 2;                        // log2 of the bytes that a cell stands for
uintptr_t image_low, image_high;        // the library's own code and constants

uint64_t draw() {  // splitmix64 (Steele, Lea, Flood 2014)
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

unsigned below(unsigned n) { return unsigned((draw() >> 32) * n >> 32); }

size_t size_of(const Array &array) { return array.dynamic ? dynamic_bytes : array.size; }

// --------------------------------------------------------------------------------------------------- fibers

#ifdef OWN_SWITCH
extern "C" void gemmlab_switch(void **from, void *to);
void go(Context &from, Context &to) { gemmlab_switch(&from.stack_pointer, to.stack_pointer); }
#else
void go(Context &from, Context &to) { swapcontext(&from.context, &to.context); }
#endif

void life() {  // of a fiber
    gemmlab_thread(argument);
    current->state = DONE;
    ++done;
    go(*current, scheduler);
    __builtin_unreachable();
}

char *stack_of(int number) { return stacks + number * STACK; }

void begin(int number) {
    Fiber &fiber = fibers[number];
    char *stack = stack_of(number);
#ifdef OWN_SWITCH
    void **top = reinterpret_cast<void **>(stack + STACK) - WORDS;
    std::fill(top, top + WORDS, nullptr);
    top[RETURN] = reinterpret_cast<void *>(life);
    fiber.stack_pointer = top;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack;
    fiber.context.uc_stack.ss_size = STACK;
    makecontext(&fiber.context, life, 0);
#endif
    *reinterpret_cast<uint64_t *>(stack) = CANARY;
}

void say(const char *format, ...) {
    va_list values;
    va_start(values, format);
    size_t at = strlen(message);
    vsnprintf(message + at, message_room - at, format, values);
    va_end(values);
}

void say_thread(unsigned number) {
    const uint3 &index = fibers[number].index;
    if (block_size.y == 1 && block_size.z == 1) say("thread %u", index.x);
    else if (block_size.z == 1) say("thread (%u, %u)", index.x, index.y);
    else say("thread (%u, %u, %u)", index.x, index.y, index.z);
}

void say_place(const gemmlab::At &at) {
    const char *slash = strrchr(at.file, '/');
    say("line %d of %s", at.line, slash ? slash + 1 : at.file);
}

void say_place(unsigned where) { say("@%x@", where); }  // emulator.py looks the line up

void say_block() {
    say(" (block %u, %u, %u)", block_index.x, block_index.y, block_index.z);
}

// The launch is over; called by a fiber, whose stack is given up as it is.
[[noreturn]] void give_up() {
    say_block();
    failed = true;
    go(*current, scheduler);
    abort();
}

unsigned number_of(const Fiber &fiber) { return unsigned(&fiber - fibers.data()); }
unsigned warp_of(unsigned thread) { return thread / 32; }

bool same(const gemmlab::At &a, const gemmlab::At &b) { return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file)); }

}  // namespace

// --------------------------------------------------------------------------------------------------- barriers

namespace gemmlab {

void At::syncthreads() const {
    current->at = *this;
    current->what = "__syncthreads";
    current->state = AT_BLOCK;
    if (!at_block) first_at = *this;
    else if (!same(first_at, *this)) apart = true;
    ++at_block;
    go(*current, scheduler);
}

int At::here() { return int(number_of(*current) % 32); }

void At::fault(const char *sentence) const {
    say_thread(number_of(*current));
    say(" %s (", sentence);
    say_place(*this);
    say(")");
    give_up();
}

void At::nobody(int lane) const {
    say_thread(number_of(*current));
    say(" takes from lane %d in a shuffle in ", lane);
    say_place(*this);
    say(", which takes no part in it");
    give_up();
}

}  // namespace gemmlab

namespace {

// Lets the lanes go on that wait for the same, once all that have not left the kernel are there. Returns the lanes.
unsigned complete(Fiber &fiber) {
    unsigned first = number_of(fiber) & ~31u, there = 0;
    for (unsigned lane = 0; lane < 32 && int(first + lane) < threads; ++lane) {
        Fiber &other = fibers[first + lane];
        if (!(fiber.mask >> lane & 1) || other.state == DONE) continue;
        if (other.state != AT_WARP || other.mask != fiber.mask || !same(other.at, fiber.at)) return 0;
        there |= 1u << lane;
    }
    if (!strcmp(fiber.what, "__syncwarp")) ++warp_phases[warp_of(first)];  // (of a part of the warp: taken for all of it)
    for (unsigned lane = 0; lane < 32; ++lane) {
        if (!(there >> lane & 1)) continue;
        Fiber &other = fibers[first + lane];
        if (other.all)
            for (unsigned from = 0; from < 32; ++from)
                if (there >> from & 1) other.all[from] = fibers[first + from].value;
        other.there = there;
        other.state = READY;
        ready.push_back(int(first + lane));
    }
    return there;
}

}  // namespace

unsigned gemmlab::At::exchange(const char *what, unsigned mask, uint64_t value, uint64_t *all) const {
    Fiber &fiber = *current;
    if (!(mask >> here() & 1)) {
        say_thread(number_of(fiber));
        say(" comes to %s in ", what);
        say_place(*this);
        say(" with a mask, %08x, that its own lane is not in", mask);
        give_up();
    }
    fiber.at = *this;
    fiber.what = what;
    fiber.mask = mask;
    fiber.value = value;
    fiber.all = all;
    fiber.state = AT_WARP;
    complete(fiber);
    go(fiber, scheduler);
    return fiber.there;
}

namespace {

// Nobody can go on: who waits where, and for whom.
void say_stuck() {
    const Fiber *waits = nullptr, *other = nullptr;
    for (int number = 0; number < threads && !waits; ++number)
        if (fibers[number].state == AT_WARP || (fibers[number].state == AT_BLOCK && at_block < threads))
            waits = &fibers[number];
    if (!waits) waits = &fibers[0];
    if (waits->state == AT_WARP) {
        unsigned first = number_of(*waits) & ~31u;
        for (unsigned lane = 0; lane < 32 && int(first + lane) < threads; ++lane) {
            const Fiber &one = fibers[first + lane];
            bool comes = one.state == AT_WARP && one.mask == waits->mask && same(one.at, waits->at);
            if ((waits->mask >> lane & 1) && !comes && one.state != DONE) other = &one;
        }
    } else {
        for (int number = threads; number-- > 0;)
            if (fibers[number].state != AT_BLOCK || !same(fibers[number].at, waits->at)) other = &fibers[number];
    }
    say("divergent barrier: ");
    say_thread(number_of(*waits));
    say(" waits at %s in ", waits->what);
    say_place(waits->at);
    if (other) {
        say(" and ");
        say_thread(number_of(*other));
        if (other->state == DONE) {
            say(" has left the kernel");
        } else {
            say(" at %s in ", other->what);
            say_place(other->at);
        }
    }
    say_block();
    failed = true;
}

void resume(int number) {
    Fiber &fiber = fibers[number];
    if (fiber.state == FRESH) begin(number);
    fiber.state = READY;
    current = &fiber;
    thread_index = fiber.index;
    now = {phase, warp_phases[warp_of(unsigned(number))], uint16_t(number), 0};
    go(scheduler, fiber);
    if (!failed && *reinterpret_cast<uint64_t *>(stack_of(number)) != CANARY) {
        say_thread(unsigned(number));
        say(" needs more than %zu KiB of stack", STACK >> 10);
        failed = true;
    }
    // Who has left may be the last one that its warp was waiting for.
    if (fiber.state == DONE && !failed)
        for (unsigned other = unsigned(number) & ~31u; int(other) < threads && other <= (unsigned(number) | 31u); ++other)
            if (fibers[other].state == AT_WARP && complete(fibers[other])) break;
}

void poison() {
    for (const Array &array : arrays) {
        size_t low = array.offset < GUARD ? array.offset : GUARD;
        memset(shared + array.offset - low, POISON, low + size_of(array) + GUARD);
    }
}

// For what was compiled without being watched: a write just beside an array.
void look_at_guards() {
    for (const Array &array : arrays) {
        size_t low = array.offset < GUARD ? array.offset : GUARD;
        const char *start = shared + array.offset, *end = start + size_of(array);
        for (const char *at = start - low; at < end + GUARD; ++at) {
            if (at == start) at = end;
            if (static_cast<unsigned char>(*at) == POISON) continue;
            say("a thread writes outside of shared memory: ");
            if (at < start) say("%td bytes before %s", start - at, array.name);
            else say("%td bytes past the end of %s (%zu bytes)", at - end, array.name, size_of(array));
            say_block();
            failed = true;
            return;
        }
    }
}

void run_block() {
    poison();
    ready.clear();
    at_block = done = 0;
    apart = false;
    ++phase;
    for (int number = 0; number < threads; ++number) {
        fibers[number].state = FRESH;
        on_their_way[number].clear();
        ready.push_back(number);
    }
    while (done < threads) {
        if (ready.empty()) {
            if (at_block < threads || apart) return say_stuck();
            at_block = 0;
            ++phase;
            for (int number = 0; number < threads; ++number) ready.push_back(number);
        }
        std::swap(ready[below(unsigned(ready.size()))], ready.back());
        int number = ready.back();
        ready.pop_back();
        resume(number);
        if (failed) return;
    }
    look_at_guards();
}

// ------------------------------------------------------------------------------------------------------ watching

unsigned place(void *code) { return unsigned(reinterpret_cast<uintptr_t>(code) - image_low); }

// Whether a barrier lies between an access and now, or it was this thread's own.
bool ordered(const Access &before) {
    if (before.phase != now.phase || before.thread == now.thread) return true;
    if (before.thread == MANY) return false;
    unsigned warp = before.thread & MANY_OF ? before.thread ^ MANY_OF : warp_of(before.thread);
    return warp == warp_of(now.thread) && before.warp_phase != now.warp_phase;
}

[[noreturn]] __attribute__((noinline)) void say_race(
    const Array &array, size_t byte, const Access &before, bool wrote, bool write, unsigned where
) {
    say("race: byte %zu of %s is %s by ", byte, array.name, write ? "written" : "read");
    say_thread(number_of(*current));
    say(" in ");
    say_place(where);
    say(", and %s by ", wrote ? "written" : "read");
    if (before.thread & MANY_OF) say("other threads");
    else say_thread(before.thread);
    say(" in ");
    say_place(before.where);
    say(", with no barrier between the two");
    give_up();
}

[[noreturn]] __attribute__((noinline)) void say_outside_shared(size_t offset, size_t size, bool write, unsigned where) {
    const Array *near = nullptr;
    auto distance = [&](const Array &array) {
        size_t end = array.offset + size_of(array);
        return offset >= end ? offset - end : array.offset > offset ? array.offset - offset : 0;
    };
    for (const Array &array : arrays)
        if (!near || distance(array) < distance(*near)) near = &array;
    say_thread(number_of(*current));
    say(" %s %zu bytes outside of shared memory in ", write ? "writes" : "reads", size);
    say_place(where);
    if (near && offset < near->offset) say(", %zu bytes before %s", near->offset - offset, near->name);
    else if (near) say(", at byte %zu of %s, which has %zu", offset - near->offset, near->name, size_of(*near));
    give_up();
}

void no_cells_smaller_than(int log2) {
    granule = log2;
    cells.assign((shared_bytes >> granule) + 1, Cell{});
}

__attribute__((noinline)) void look_closer(Cell &cell, const Slot &slot, bool write, unsigned where) {
    size_t byte = (size_t(&cell - cells.data()) << granule) - slot.low;
    if (!ordered(cell.write)) say_race(arrays[slot.array], byte, cell.write, true, write, where);
    if (write) {
        if (!ordered(cell.read)) say_race(arrays[slot.array], byte, cell.read, false, write, where);
        cell.write = now;
        cell.write.where = where;
    } else if (ordered(cell.read)) {  // those of its own warp before a __syncwarp need not be known any more
        cell.read = now;
        cell.read.where = where;
    } else if (cell.read.thread != MANY) {
        unsigned others = cell.read.thread & MANY_OF ? cell.read.thread ^ MANY_OF : warp_of(cell.read.thread);
        cell.read.thread = others == warp_of(now.thread) ? uint16_t(MANY_OF | others) : MANY;
    }
}

inline void look_at_shared(size_t offset, size_t size, bool write, unsigned where) {
    const Slot &slot = slots[offset / SLOT];
    if (__builtin_expect(offset < slot.low || offset + size > slot.high, 0))
        say_outside_shared(offset, size, write, where);
    if (__builtin_expect(((offset | size) & ((size_t(1) << granule) - 1)) != 0, 0))
        no_cells_smaller_than((offset | size) & 1 ? 0 : 1);
    Cell *cell = &cells[offset >> granule], *end = cell + (size >> granule);
    for (; cell < end; ++cell) {
        // What is by far the most frequent: a read of what was written before the last barrier, by one of many.
        bool quiet = !write && cell->write.phase != now.phase && cell->read.phase == now.phase &&
                     cell->read.thread == MANY;
        if (!quiet) look_closer(*cell, slot, write, where);
    }
}

[[noreturn]] __attribute__((noinline)) void say_outside(uintptr_t address, size_t size, bool write, unsigned where) {
    const Range *near = nullptr;
    auto distance = [&](const Range &range) {
        return address >= range.high ? address - range.high : address < range.low ? range.low - address : 0;
    };
    for (int number = 0; number < range_count; ++number)
        if (!near || distance(ranges[number]) < distance(*near)) near = &ranges[number];
    say_thread(number_of(*current));
    say(" %s %zu bytes of global memory in ", write ? "writes" : "reads", size);
    say_place(where);
    if (!near) say(", and has none");
    else if (address < near->low) say(", %zu bytes before the start of %s", size_t(near->low - address), near->name);
    else if (address + size > near->high) say(", %td bytes past the end of %s", ptrdiff_t(address - near->high), near->name);
    else say(", which is %s's, only to be read", near->name);
    give_up();
}

void look_at_global(uintptr_t address, size_t size, bool write, unsigned where) {
    static int last = 0;
    if (last < range_count && address >= ranges[last].low && address + size <= ranges[last].high &&
        (!write || ranges[last].writable))
        return;
    for (int number = 0; number < range_count; ++number)
        if (address >= ranges[number].low && address + size <= ranges[number].high && (!write || ranges[number].writable)) {
            last = number;
            return;
        }
    if (address >= image_low && address < image_high && !write) return;
    say_outside(address, size, write, where);
}

void finish_copy(const Copy &copy) {
    if (copy.from) memcpy(copy.to, copy.from, copy.size);
    else memset(copy.to, 0, copy.size);
}

inline void look(void *at, size_t size, bool write, void *code) {
    uintptr_t address = reinterpret_cast<uintptr_t>(at);
    size_t offset = address - reinterpret_cast<uintptr_t>(shared);
    if (offset < shared_bytes) look_at_shared(offset, size, write, place(code));
    else if (address - reinterpret_cast<uintptr_t>(stacks) >= stacks_bytes && range_count >= 0)
        look_at_global(address, size, write, place(code));
}

}  // namespace

// ------------------------------------------------------------------------------------------- copies on their way
// A copy writes at any time between its start and the wait for it: here it does so first or last, drawn at random, and
// is looked at both times.

void gemmlab::copy_async(void *to, const void *from, size_t size) {
    void *code = __builtin_return_address(0);
    if (watched) {
        if (from) look(const_cast<void *>(from), size, false, code);
        look(to, size, true, code);
    }
    Copy copy = {to, from, size, place(code)};
    if (draw() & 1) finish_copy(copy);
    else on_their_way[number_of(*current)].push_back(copy);
}

void gemmlab::wait_for_copies() {
    std::vector<Copy> &copies = on_their_way[number_of(*current)];
    for (const Copy &copy : copies) {
        size_t offset = reinterpret_cast<uintptr_t>(copy.to) - reinterpret_cast<uintptr_t>(shared);
        if (watched) look_at_shared(offset, copy.size, true, copy.where);
        finish_copy(copy);
    }
    copies.clear();
}

// What -fsanitize=thread calls.
#define CODE __builtin_return_address(0)
#define ACCESS(size)                                                                       \
    extern "C" void __tsan_read##size(void *at) { look(at, size, false, CODE); }           \
    extern "C" void __tsan_write##size(void *at) { look(at, size, true, CODE); }           \
    extern "C" void __tsan_unaligned_read##size(void *at) { look(at, size, false, CODE); } \
    extern "C" void __tsan_unaligned_write##size(void *at) { look(at, size, true, CODE); } \
    extern "C" void __tsan_volatile_read##size(void *at) { look(at, size, false, CODE); }  \
    extern "C" void __tsan_volatile_write##size(void *at) { look(at, size, true, CODE); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
extern "C" void __tsan_read_range(void *at, size_t size) { look(at, size, false, CODE); }
extern "C" void __tsan_write_range(void *at, size_t size) { look(at, size, true, CODE); }
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void *) {}
extern "C" void __tsan_init() { watched = true; }  // before main, where it was compiled so
extern "C" void *__tsan_memcpy(void *to, const void *from, size_t size) {
    look(const_cast<void *>(from), size, false, CODE);
    look(to, size, true, CODE);
    return memcpy(to, from, size);
}
extern "C" void *__tsan_memset(void *to, int value, size_t size) {
    look(to, size, true, CODE);
    return memset(to, value, size);
}

// What -fsanitize=bounds and alignment call; the layout of their data is libubsan's (ubsan_handlers.h).
struct Place { const char *file; unsigned line, column; };
struct Type { uint16_t kind, info; char name[1]; };
struct OutOfBounds { Place place; const Type *array, *index; };
struct Mismatch { Place place; const Type *type; unsigned char log_alignment, kind; };

extern "C" void __ubsan_handle_out_of_bounds(OutOfBounds *data, uintptr_t index) {
    say_thread(number_of(*current));
    say(" has index %d of a %s in ", int(index), data->array->name);
    say_place(gemmlab::At{data->place.file, int(data->place.line)});
    give_up();
}

extern "C" void __ubsan_handle_type_mismatch_v1(Mismatch *data, uintptr_t address) {
    say("misaligned address: ");
    say_thread(number_of(*current));
    say(" takes what is not aligned to %u bytes for a %s in ", 1u << data->log_alignment, data->type->name);
    say_place(gemmlab::At{data->place.file, int(data->place.line)});
    if (!address) say(" (it is null)");
    give_up();
}

// -------------------------------------------------------------------------------------------------- from Python

namespace {

struct TlsIndex { unsigned long module, offset; };
extern "C" void *__tls_get_addr(TlsIndex *);

// The library's own addresses, and its number among those with thread_local variables (0: it has none).
int look_up(dl_phdr_info *info, size_t, void *found) {
    uintptr_t low = UINTPTR_MAX, high = 0, own = reinterpret_cast<uintptr_t>(&arrays);
    size_t tls = 0;
    for (int number = 0; number < info->dlpi_phnum; ++number) {
        const auto &part = info->dlpi_phdr[number];
        if (part.p_type == PT_LOAD) {
            low = std::min<uintptr_t>(low, info->dlpi_addr + part.p_vaddr);
            high = std::max<uintptr_t>(high, info->dlpi_addr + part.p_vaddr + part.p_memsz);
        } else if (part.p_type == PT_TLS) {
            tls = part.p_memsz;
        }
    }
    if (own < low || own >= high) return 0;
    image_low = info->dlpi_addr;
    image_high = high;
    shared_bytes = tls;
    *static_cast<size_t *>(found) = info->dlpi_tls_modid;
    return 1;
}

size_t module_id;

}  // namespace

// Once, before the first launch: where the arrays lie in the library's thread_local memory.
OFFERED void gemmlab_describe(const Array *described, int count) {
    arrays.assign(described, described + count);
    dl_iterate_phdr(look_up, &module_id);
    slots.assign(shared_bytes / SLOT + 1, Slot{1, 0, -1});
    for (int number = 0; number < count; ++number) {
        size_t low = arrays[number].offset, high = low + arrays[number].size;
        for (size_t at = low / SLOT; at <= (high - 1) / SLOT; ++at) slots[at] = {low, high, number};
    }
    no_cells_smaller_than(2);
}

// Returns 0, or 1 with a sentence in `text`.
OFFERED int gemmlab_launch(
    const void *with, const unsigned grid[3], const unsigned block[3], size_t dynamic, uint64_t seed,
    const Range *touchable, int touchables, char *text, size_t room
) {
    argument = with;
    ranges = touchable;
    range_count = touchables;
    message = text;
    message_room = room;
    message[0] = 0;
    failed = false;
    random_state = seed;
    dynamic_bytes = dynamic;
    for (Slot &slot : slots)
        if (slot.array >= 0) slot.high = slot.low + size_of(arrays[slot.array]);
    if (phase > 0x80000000u) {  // before it comes round
        phase = 1;
        no_cells_smaller_than(granule);
    }
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {block[0], block[1], block[2]};
    if (module_id && shared_bytes) {
        TlsIndex start = {module_id, 0};
        shared = static_cast<char *>(__tls_get_addr(&start));
    }
    threads = int(block[0] * block[1] * block[2]);
    if (fibers.size() < size_t(threads)) {
        if (stacks) munmap(stacks, stacks_bytes);
        stacks_bytes = threads * STACK;
        void *made = mmap(
            nullptr, stacks_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
        );
        if (made == MAP_FAILED) {
            stacks = nullptr;
            fibers.clear();
            say("there is no memory for the stacks of %d threads", threads);
            return 1;
        }
        stacks = static_cast<char *>(made);
        fibers.assign(size_t(threads), Fiber{});
        on_their_way.resize(size_t(threads));
    }
    for (int number = 0; number < threads; ++number)
        fibers[number].index = {
            unsigned(number) % block[0], unsigned(number) / block[0] % block[1], unsigned(number) / block[0] / block[1]
        };
    std::vector<uint64_t> order(size_t(grid[0]) * grid[1] * grid[2]);
    for (size_t number = 0; number < order.size(); ++number) {
        size_t other = size_t(draw() % (number + 1));
        order[number] = order[other];
        order[other] = number;
    }
    for (uint64_t number : order) {
        block_index = {
            unsigned(number % grid[0]), unsigned(number / grid[0] % grid[1]), unsigned(number / grid[0] / grid[1])
        };
        run_block();
        if (failed) return 1;
    }
    return 0;
}
