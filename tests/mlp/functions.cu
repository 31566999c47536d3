// Every function of mlp/source behind one entry, for the emulator: the last word says which.
#include "../../mlp/source/losses.cu"
#include "../../mlp/source/rows.cu"
#include "../../mlp/source/elements.cu"
#include "../../mlp/source/sums.cu"
#include "../../mlp/source/moves.cu"
#include "../../mlp/source/updates.cu"

extern "C" __global__ void gemm(const Words words) {
    switch ((int)words.at[15]) {
    case 0: return softmax_cross_entropy(words);
    case 1: return squared_error(words);
    case 2: return logistic(words);
    case 3: return hinge(words);
    case 4: return poisson(words);
    case 5: return sum_of_squares(words);
    case 6: return column_sums(words);
    case 7: return softmax(words);
    case 8: return softmax_backward(words);
    case 9: return im2col(words);
    case 10: return col2im(words);
    case 11: return transpose(words);
    case 12: return take_rows(words);
    case 13: return add_bias(words);
    case 14: return bias_activation(words);
    case 15: return activation(words);
    case 16: return activation_backward(words);
    case 17: return hold(words);
    case 18: return sgd(words);
    case 19: return momentum(words);
    case 20: return adagrad(words);
    case 21: return rmsprop(words);
    case 22: return adam(words);
    }
}
