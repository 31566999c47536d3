"""The pool: workers that claim parts of a job, and workspaces that belong to whoever multiplies.

All of it is one block of memory, the hub, which native code reaches by its address:

    a ticket   generation (32 bits) | parts (16) | next part to claim (16). A part is claimed by writing the ticket
    with the next number;
               whoever is first has it. The caller claims too, so a product never waits for a worker that sleeps or
               that the system has put aside: it only waits for parts that someone has begun
    the lock   one job at a time; who finds it taken does all parts himself
    slots      workspaces, each taken while a product runs in it and kept for the next

A worker that finds nothing to do looks at the ticket PATIENCE times and then sleeps until it changes.
Nothing here is Numba's own threading: its omp layer does not survive a fork, and its workqueue no second caller. A
forked child has no workers and multiplies alone.
"""

from __future__ import annotations

from numba.extending import register_jitable

from gemm.micro.hub import (
    ADDRESS,
    BUSY,
    CAPACITY,
    DONE,
    HUB_WORDS,
    JOB,
    LINE,
    LOCK,
    SLEEPERS,
    SLOTS,
    SPACE_AT,
    SPACES,
    STOP,
    TICKET,
    WORKERS,
)
from gemm.micro.job import HUB, PART, SHARED, SPACE, SPLIT_K, SPLIT_M, SPLIT_N, TABLE
from gemm.micro.memory import (
    WORD,
    add_to,
    allocate,
    call_at,
    get,
    give_way,
    jump,
    observe,
    pause,
    publish,
    put,
    release,
    replace,
    sleep_while,
    wake,
)

# Looks at the ticket before sleeping, and at the work of others before giving way.
PATIENCE = 2000
# A workspace grows in steps of large pages.
STEP = 1 << 21


@register_jitable
def take_slot(hub, needed):
    """A free workspace of at least so many bytes: its slot, or -1."""
    for slot in range(SLOTS, HUB_WORDS, LINE):
        if observe(hub, slot + BUSY) == 0 and replace(hub, slot + BUSY, 0, 1):
            if get(hub, slot + CAPACITY) < needed:
                old = get(hub, slot + ADDRESS)
                put(hub, slot + CAPACITY, 0)
                put(hub, slot + ADDRESS, 0)  # a child forked meanwhile must not find what is given back
                if old:
                    release(old)
                size = (needed + STEP - 1) // STEP * STEP
                address = allocate(size)
                put(hub, slot + ADDRESS, address)
                put(hub, slot + CAPACITY, size if address else 0)
                if address == 0:
                    publish(hub, slot + BUSY, 0)
                    return -1
            return slot
    return -1


@register_jitable
def do_parts(hub, me):
    """Claim parts of the posted job and do them, in workspace number `me`, until none is left."""
    while True:
        ticket = observe(hub, TICKET)
        part, parts = ticket & 0xFFFF, (ticket >> 16) & 0xFFFF
        job, space, spaces = get(hub, JOB), get(hub, SPACE_AT), get(hub, SPACES)
        if part >= parts or me >= spaces:  # a worker that came after the job has no workspace in it
            return
        # JOB is written anew only when every part is claimed: if this one was not, what was read before holds, and
        # the job cannot end before this part is done.
        if replace(hub, TICKET, ticket, ticket + 1):
            size = get(job, SPACE)
            jump(get(get(job, TABLE), PART), job, part, space + me * size, space + spaces * size)
            add_to(hub, DONE, 1)


@register_jitable
def together(hub, job, parts, spaces, space):
    """All parts of a job, with the workers where they are free; alone where they are not."""
    shared = space + spaces * get(job, SPACE)
    if spaces == 1 or observe(hub, STOP) or not replace(hub, LOCK, 0, 1):
        for part in range(parts):
            jump(get(get(job, TABLE), PART), job, part, space, shared)
    else:
        put(hub, JOB, job)
        put(hub, SPACE_AT, space)
        put(hub, SPACES, spaces)
        publish(hub, DONE, 0)
        publish(hub, TICKET, (((observe(hub, TICKET) >> 32) + 1) << 32) | (parts << 16))
        if observe(hub, SLEEPERS):
            wake(hub + TICKET * WORD, parts - 1)
        do_parts(hub, 0)
        looks = 0
        while observe(hub, DONE) < parts:
            looks += 1
            if looks < PATIENCE:
                pause()
            else:
                give_way()
        publish(hub, LOCK, 0)
    if get(job, SPLIT_K) > 1:
        jump(get(get(job, TABLE), PART), job, -1, space, shared)


@register_jitable
def do_job(job):
    """Do a job. Raises MemoryError where there is no memory for its workspace."""
    parts = get(job, SPLIT_M) * get(job, SPLIT_N) * get(job, SPLIT_K)
    hub = get(job, HUB)
    spaces = min(parts, get(hub, WORKERS) + 1)
    needed = spaces * get(job, SPACE) + get(job, SHARED)
    if needed == 0:
        together(hub, job, parts, spaces, 0)
        return
    slot = take_slot(hub, needed)
    if slot >= 0:
        together(hub, job, parts, spaces, get(hub, slot + ADDRESS))
        publish(hub, slot + BUSY, 0)
        return
    space = allocate(needed)  # more callers than slots
    if space == 0:
        raise MemoryError("there is no memory for the workspace of a product")
    together(hub, job, parts, spaces, space)
    release(space)


def do_call(function, argument):
    """Call a compiled function."""
    call_at(function, argument)


def do_program(words, count):
    """Do so many calls, each two words: a function's address and its argument; 0 and a job's address for a job.

    Raises MemoryError as `do_job` does; what comes after it is not done.
    """
    for at in range(0, 2 * count, 2):
        function, argument = get(words, at), get(words, at + 1)
        if function:
            call_at(function, argument)
        else:
            do_job(argument)


def do_small_job(job):
    """Do a job of one part that needs no workspace: nothing but the jump."""
    jump(get(get(job, TABLE), PART), job, 0, 0, 0)


def work(hub, me):
    """What worker `me` (from 1) does until it is told to stop."""
    looks = 0
    while observe(hub, STOP) == 0:
        ticket = observe(hub, TICKET)
        if (ticket & 0xFFFF) < ((ticket >> 16) & 0xFFFF):
            do_parts(hub, me)
            looks = 0
        elif looks < PATIENCE:
            looks += 1
            pause()
        else:
            add_to(hub, SLEEPERS, 1)
            if observe(hub, STOP) == 0:
                sleep_while(hub + TICKET * WORD, ticket & 0xFFFFFFFF)
            add_to(hub, SLEEPERS, -1)
            looks = 0


def stop(hub):
    """Tell the workers to stop, the sleeping ones too; jobs from now on go without them."""
    publish(hub, STOP, 1)
    while not replace(hub, LOCK, 0, 1):  # of the job at hand, parts may still have to be claimed
        give_way()
    ticket = observe(hub, TICKET)
    # No parts to claim, and a word that no worker can be about to sleep on: that of another generation.
    generation = (ticket >> 32) + 1
    publish(hub, TICKET, (generation << 32) | (generation & 0xFFFF))
    wake(hub + TICKET * WORD, 1 << 30)
    publish(hub, LOCK, 0)
