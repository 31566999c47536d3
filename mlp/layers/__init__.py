"""Layers: what is multiplied, and by what, in a network's forward and backward pass.

    dense.py         Z = X W + b                          every output looks at every input
    convolution.py   the same W at every place            im2col, then a dense layer on more rows
    recurrent.py     H_t = f(X_t W + H_{t-1} U + b)       feedback over time: a product for every step
    buffers.py       what they compute on, and what a product multiplies

A layer is pure: it emits its operations for a batch size, and binds one of them to given buffers.
"""

from mlp.layers.buffers import Buffers, Product
from mlp.layers.convolution import Convolution, Window
from mlp.layers.dense import Dense, Full
from mlp.layers.recurrent import Recurrent, Sequence

__all__ = ["Buffers", "Convolution", "Dense", "Full", "Product", "Recurrent", "Sequence", "Window"]
