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
// start in its order: row of tiles by row of tiles, or in bands of BAND rows, each walked down and then to the right. The
// blocks that run at one time then need BAND rows of A and few columns of B, which stay in the L2 cache.
template <int BM, int BN, int BAND = 1>
__device__ inline Corner corner(int m, int n) {
    int high = (m - 1) / BM + 1, wide = (n - 1) / BN + 1;
    int band = blockIdx.x / (BAND * wide), inside = blockIdx.x % (BAND * wide);
    int rows = high - band * BAND < BAND ? high - band * BAND : BAND;
    return {(band * BAND + inside % rows) * BM, inside / rows * BN};
}
