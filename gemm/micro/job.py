"""A job: one product, written down as words that native code reads.

Everything that depends on the operands alone is settled once, when a call is bound, and laid out here; doing the
product is then one jump with the address of these words. ROWS is the height of the tiles, 0 for the register tile's
own; STREAM is read where PATH is SWEEPS. Addresses and strides are in bytes.
"""

from __future__ import annotations

# The words of a job, by number.
(
    M,
    N,
    K,
    A,
    A_ROW,
    A_COLUMN,
    B,
    B_ROW,
    B_COLUMN,
    C,
    C_ROW,
    C_COLUMN,
    ALPHA,
    BETA,
    UNIT,
    PATH,
    PACK_A,
    PACK_B,
    ROWS,
    STREAM,
    BLOCK_N,
    BLOCK_K,
    SPLIT_M,
    SPLIT_N,
    SPLIT_K,
    SPACE,
    SHARED,
    TABLE,
    HUB,
    EPILOGUE,
    BIAS,
    ACTIVATION,
    AUX_OUT,
    AUX_OUT_ROW,
    GRADIENT,
    AUX_IN,
    AUX_IN_ROW,
    LENGTH,
) = range(38)

# The words of a dtype's table: addresses of its compiled code, then its block sizes (`blocking.py`).
PART, TILE, DOT, SWEEP, PACK, FINISH, SETTLE = range(7)
B_NEAR, MOST_COLUMNS, MOST_DEPTH, B_IN_PLACE, FEW_ROWS, WORTH_A_THREAD = range(7, 13)
TABLE_LENGTH = 13

# PACK_A: by the first tile that reads a strip, or before it
ALONG, BEFORE = 1, 2

# PATH
TILES, DOTS, SWEEPS = 0, 1, 2

# ACTIVATION and GRADIENT: 0 is none
RELU, TANH, SIGMOID, IDENTITY, LEAKY, GELU = 1, 2, 3, 4, 5, 6
CODES = {
    "relu": RELU, "leaky-relu": LEAKY, "gelu": GELU, "tanh": TANH, "sigmoid": SIGMOID, "identity": IDENTITY
}  # fmt: skip

# The deepest strip, and the elements of workspace that one of A takes; not a multiple of a page, so that the first
# lines of the workspaces of A and B are not in the same cache set.
DEEPEST = 2048
A_SPACE = DEEPEST * 32 + 32
