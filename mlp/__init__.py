"""mlp: the room with weights. Layers, losses, optimizers, models, data; every product through gemm.

    model = mlp.MLP([64, 100, 10], lr=0.5, kernel="numba-blocked")
    history = mlp.fit(model, mlp.load("digits"), epochs=20, batch=50)

A step is a static list of operations (`model.operations(batch)`): what is multiplied, how large, for how
many FLOPs and bytes. A `Recorder` is called around each; there is no clock in this room.
"""

from typing import TYPE_CHECKING, Any

from mlp.activations import ACTIVATIONS
from mlp.architectures import Architecture, architecture, widths
from mlp.data import Dataset, load
from mlp.footprint import Memory, memory, memory_of
from mlp.gradient import directional_error, elementwise_error
from mlp.losses import LOSSES, weighted
from mlp.model import MLP
from mlp.operations import KINDS, PRODUCTS, Operation
from mlp.optimizers import OPTIMIZERS, Optimizer, optimizer
from mlp.plan import Bound, Plan
from mlp.recorder import Recorder
from mlp.schedules import SCHEDULES, schedule
from mlp.stopping import EarlyStopping
from mlp.training import Callback, DivergenceError, History, accuracy, check, fit

if TYPE_CHECKING:
    from mlp.estimators import MLPClassifier, MLPRegressor

__all__ = [
    "ACTIVATIONS",
    "KINDS",
    "LOSSES",
    "MLP",
    "OPTIMIZERS",
    "PRODUCTS",
    "SCHEDULES",
    "Architecture",
    "Bound",
    "Callback",
    "Dataset",
    "DivergenceError",
    "EarlyStopping",
    "History",
    "MLPClassifier",
    "MLPRegressor",
    "Memory",
    "Operation",
    "Optimizer",
    "Plan",
    "Recorder",
    "accuracy",
    "architecture",
    "check",
    "directional_error",
    "elementwise_error",
    "fit",
    "load",
    "memory",
    "memory_of",
    "optimizer",
    "schedule",
    "weighted",
    "widths",
]


def __getattr__(name: str) -> Any:
    """The estimators when they are asked for: they need scikit-learn, which takes a second to import."""
    if name in ("MLPClassifier", "MLPRegressor"):
        from mlp import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
