// Which tile of C a block computes, and which way an operand lies in memory.
#pragma once

// Of a tile of A or B, which direction threads walk so that neighbours read neighbouring memory: along k (A in rows,
// B in columns) or across it (A in columns, B in rows). The host says so by A_ORDER and B_ORDER; ANY: neither direction
// is contiguous, and threads walk along k.
enum Order : int { ANY = 0, ALONG = 1, ACROSS = 2 };

struct Corner {
    int row, column;
};

// The first row and column of this block's tile. Grids have one dimension (the others end at 65535 blocks), and blocks
// start in its order: row of tiles by row of tiles, or in bands of several rows, each walked down and then to the right. The
// blocks that run at one time then need few rows of A and few columns of B, which stay in the L2 cache.
// (Template parameters are in lower case: BM and its like are macros.)
template <int rows, int columns, int band = 1>
__device__ inline Corner corner(int m, int n) {
    int high = (m - 1) / rows + 1, wide = (n - 1) / columns + 1;
    int first = blockIdx.x / (band * wide) * band, inside = blockIdx.x % (band * wide);
    int tall = high - first < band ? high - first : band;  // the last band may have fewer
    return {(first + inside % tall) * rows, inside / tall * columns};
}
