"""mlp: the room with weights. Layers, losses, optimizers, models, data; every product through gemm.

    model = mlp.MLP([64, 100, 10], lr=0.5, kernel="numba-blocked")
    history = mlp.fit(model, mlp.load("digits"), epochs=20, batch=50)

A step is a static list of operations (`model.operations(batch)`): what is multiplied, how large, for how
many FLOPs and bytes. A `Recorder` is called around each; there is no clock in this room.
"""

from mlp.data import Dataset, load
from mlp.footprint import Memory, memory, memory_of
from mlp.gradient import directional_error, elementwise_error
from mlp.losses import LOSSES
from mlp.model import MLP, widths
from mlp.operations import KINDS, PRODUCTS, Operation
from mlp.optimizers import OPTIMIZERS, Optimizer, optimizer
from mlp.plan import Bound, Plan
from mlp.recorder import Recorder
from mlp.schedules import SCHEDULES, schedule
from mlp.stopping import EarlyStopping
from mlp.training import Callback, DivergenceError, History, accuracy, check, fit

__all__ = [
    "KINDS",
    "LOSSES",
    "MLP",
    "OPTIMIZERS",
    "PRODUCTS",
    "SCHEDULES",
    "Bound",
    "Callback",
    "Dataset",
    "DivergenceError",
    "EarlyStopping",
    "History",
    "Memory",
    "Operation",
    "Optimizer",
    "Plan",
    "Recorder",
    "accuracy",
    "check",
    "directional_error",
    "elementwise_error",
    "fit",
    "load",
    "memory",
    "memory_of",
    "optimizer",
    "schedule",
    "widths",
]
