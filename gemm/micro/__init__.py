"""numba-micro: a matrix multiply in Python source that keeps up with the vendors' libraries, to be read.

Why a multiply is hard
----------------------
A core (a Zen 4 of 3.7 GHz, as the lab measures it: `gemmlab machine`) does 16 multiply-adds of float32 in a cycle and
reads one vector of 16 from its nearest cache in the same time; from L2 half of that, from memory a seventh. The
product has 2 m n k operations on m k + k n + m n numbers: there is work enough for every number, if each is used
again while it is near. Three loops in the order of the definition use it once. Everything here is about using it
again.

The picture
-----------
                             columns of C
                    +---------------+---------------+
     C (m x n)      |    BLOCK_N    |               |     loop 1: j0, BLOCK_N columns of B and C at a time
                    +---------------+---------------+
                                                          loop 2: p0, BLOCK_K of k at a time:
          A (m x k)                B (k x n)                      B[p0:, j0:] is now a block of
        +---+---+---+         +-----------+------+                BLOCK_K x BLOCK_N: packed, in L2 or L3
   14 { |///|   |   |         |///////////|      | } BLOCK_K
        +---+---+---+         +-----------+------+        loop 3: i, a strip of 14 rows of A: packed
        |   |   |   |         |           |      |                by the first tile that reads it
        +---+---+---+         +-----------+------+
         BLOCK_K                 BLOCK_N                  loop 4: j, two vectors of columns of B at a time

            b b b b  b b b b      two vectors of a row of B
        a   c c c c  c c c c
        a   c c c c  c c c c      loop 5, the micro-kernel: 14 x 2 vectors of C in 28 registers; for each
        a   ...                   of BLOCK_K steps 2 loads, 14 broadcasts and 28 FMAs

Of BLIS's loops around the micro-kernel (Goto and van de Geijn, ACM TOMS 34, 2008; Van Zee and van de Geijn, ACM TOMS
41, 2015) one is missing. BLIS packs a block of A for L2 and holds a strip of B in L1; here a strip of A is kept
near and B streams past it, so A needs no block: a strip is packed when its turn comes, by the tile that reads it
anyway.

Reading order
-------------
    host       what the machine has: vector width, registers, and the register tile that follows
    emit       vectors for LLVM, in a few words
    tile       the micro-kernel
    dot        a tile of inner products: for a C of a few columns, and A B^T
    sweep      long rows of C: for a small k, and a vector times a matrix
    packing    copies in the order of reading
    job        a product as numbers
    plan       which of these, what to pack, how to cut it among threads
    loops      the loops around the micro-kernels
    finish     bias, activation, derivative, while C is near
    memory     words that threads share
    hub, pool  workers, and who does what
    native     what is compiled
    product    from arrays to a job, from a job to a call
    blocking   block sizes: from the caches by a model
    tuning     ... or from this machine's tuning file

NOTES.md beside this file tells what was tried, what was expected, and what was seen.
"""
