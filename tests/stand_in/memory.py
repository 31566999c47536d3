"""The stand-in's memory, streams and clock: host memory that only the device may read, work that is done in order.

Addresses are real, so what is handed an address (cuBLAS, a kernel) finds the numbers; an address that is in no live
allocation is an error, as it is on a GPU. With `QUEUE.slow` set to seconds, launched work is done when somebody waits
for it, and takes that long at least: whoever forgets to wait reads what was there before.
"""

import threading
import time
import weakref

import numpy as np

ALIGNMENT = 512
# What freshly allocated memory holds: NaN in every float format.
POISON = 0xFF


class IllegalAddress(RuntimeError):
    """What a GPU reports as cudaErrorIllegalAddress."""


class Memory:
    """An allocation. `bytes` is its host memory, `ptr` its address."""

    live = weakref.WeakSet()  # noqa: RUF012 - one for all

    def __init__(self, size):
        self.size, self.device_id = size, 0
        whole = np.empty(size + ALIGNMENT, np.uint8)
        start = -whole.ctypes.data % ALIGNMENT
        self.bytes = whole[start : start + size]
        self.bytes[...] = POISON
        self.ptr = self.bytes.ctypes.data
        Memory.live.add(self)

    @classmethod
    def around(cls, start, end):
        """The allocation that holds the bytes from start to end; IllegalAddress if none does."""
        for memory in list(cls.live):
            if memory.ptr <= start and end <= memory.ptr + memory.size:
                return memory
        raise IllegalAddress(f"no device memory is allocated from {start:#x} to {end:#x}")


class MemoryPointer:
    def __init__(self, mem, offset):
        self.mem, self.device_id, self.ptr = mem, mem.device_id, mem.ptr + offset

    def __add__(self, offset):
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    def __int__(self):
        return self.ptr


def at(ptr, dtype, shape, strides):
    """The host's view of device memory, and the allocation it is in; IllegalAddress where that does not hold it."""
    itemsize = np.dtype(dtype).itemsize
    ends = [(size - 1) * stride for size, stride in zip(shape, strides)]
    low = ptr + sum(end for end in ends if end < 0)
    high = ptr + sum(end for end in ends if end > 0) + itemsize
    memory = Memory.around(low, high)
    return np.ndarray(shape, dtype, memory.bytes, ptr - memory.ptr, strides), memory


class Queue:
    """All streams' work, in the order in which it was launched."""

    def __init__(self):
        self.waiting, self.slow, self.lock = [], 0.0, threading.RLock()

    def launch(self, work, seconds=None):
        """Do it, now or when it is waited for; events take no time."""
        if not self.slow:
            work()
            return
        with self.lock:
            assert len(self.waiting) < 20_000, "the device is given work and nobody waits for it"
            self.waiting.append((work, self.slow if seconds is None else seconds))

    def wait(self):
        with self.lock:
            while self.waiting:
                work, seconds = self.waiting.pop(0)
                time.sleep(seconds)
                work()


QUEUE = Queue()
current = threading.local()


class BaseStream:
    def __init__(self, ptr, device_id=-1):
        self.ptr, self.device_id = ptr, device_id

    def __eq__(self, other):
        return isinstance(other, BaseStream) and self.ptr == other.ptr

    def __hash__(self):
        return self.ptr

    def __enter__(self):
        current.stack = [*getattr(current, "stack", [Stream.null]), self]
        return self

    def __exit__(self, *error):
        current.stack.pop()

    def __cuda_stream__(self):
        return (0, self.ptr)

    def use(self):
        current.stack = [*getattr(current, "stack", [Stream.null])[:-1], self]
        return self

    def synchronize(self):
        QUEUE.wait()

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        pass  # all streams are one queue


class Stream(BaseStream):
    null = None
    made = 0

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        Stream.made += not null
        super().__init__(0 if null else 0x5000 + 16 * Stream.made, -1 if null else 0)


Stream.null = Stream(null=True)


def get_current_stream(device_id=-1):
    return getattr(current, "stack", [Stream.null])[-1]


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.time, self.recorded, self.timed = None, False, not disable_timing
        self.ptr = id(self)

    @property
    def done(self):
        return not self.recorded or self.time is not None

    def record(self, stream=None):
        self.time, self.recorded = None, True
        QUEUE.launch(self._now, 0.0)

    def _now(self):
        self.time = time.perf_counter()

    def synchronize(self):
        if not self.done:
            QUEUE.wait()


def get_elapsed_time(start_event, end_event):
    """Milliseconds."""
    for event in (start_event, end_event):
        if not event.timed or not event.recorded:
            raise RuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
        if event.time is None:
            raise RuntimeError("cudaErrorNotReady: device not ready")
    return (end_event.time - start_event.time) * 1e3
