"""Training in a worker: a network learns on real data, and a clock runs while it makes steps.

    verify    one step of the network on this kernel, every product by the three rules (bench/timing/subjects.py)
    learn     mlp.fit; the clock counts from the first example gathered to the last update of an epoch. Validation,
              checkpoints, and whatever the parent does between two turns are not in it
    pause     after TURN_S the worker says how far it is and is stopped, so that the next kernel has its turn: what is
              drawn on the screen is drawn meanwhile

A turn ends after a step, never in one. The first steps of the next find colder caches and a pool that has slept:
together 0.3 to 1.4 ms (measured on 64-64-10 and 64-512-512-10, one thread and two), 0.3 % of a turn at most. The clock
costs 0.25 us a step.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import mlp
from bench.records import Line
from bench.timing.manners import manners
from bench.timing.subjects import TrainingStep, settle

# Seconds of a turn.
TURN_S = 0.5


class Clock(mlp.Callback):
    """Seconds of the steps of each epoch, those of an earlier process too; pauses whenever a turn is over.

    pause  called with what has happened since the last call; returns when it is this worker's turn again
    wait   returns when the steps so far are done: on a GPU they are only asked for
    """

    def __init__(self, pause: Callable[[Line], Any], wait: Callable[[], None] = lambda: None) -> None:
        self._wait = wait
        self.seconds: list[float] = []
        self.spent = 0.0
        self._pause = pause
        self._history, self._resumed = mlp.History(), 0

    @property
    def steps(self) -> int:
        """That this process has made."""
        return len(self._history.losses) - self._resumed

    def before_training(self, epochs: int, steps: int, history: mlp.History) -> None:
        self._history, self._losses, self._epochs = history, len(history.losses), history.epochs
        self._resumed = len(history.losses)
        earlier = _epochs(history, self.seconds, 0)
        self._pause({"steps_an_epoch": steps, "epochs": earlier, "losses": list(history.losses)})
        self._turn = perf_counter()

    def before_epoch(self, epoch: int) -> None:
        self._before_pause, self._mark = 0.0, perf_counter()

    def after_step(self, step: int, loss: float) -> None:
        self._last = now = perf_counter()
        if now - self._turn > TURN_S:
            self._wait()
            self._before_pause += perf_counter() - self._mark
            self._turn_over()
            self._mark = self._last = self._turn

    def after_epoch(self, epoch: int, history: mlp.History) -> None:
        self.seconds.append(self._before_pause + self._last - self._mark)
        self.spent += self.seconds[-1]
        if perf_counter() - self._turn > TURN_S:
            self._turn_over()

    def _turn_over(self) -> None:
        self._pause(self.rest())
        self._turn = perf_counter()

    def rest(self) -> Line:
        """What has not been told yet."""
        told, epochs = self._losses, self._epochs
        self._losses, self._epochs = len(self._history.losses), len(self.seconds)
        return {
            "losses": list(self._history.losses[told:]), "epochs": _epochs(self._history, self.seconds, epochs),
        }  # fmt: skip

    def state(self) -> list[float]:
        return self.seconds

    def restore(self, state: list[float]) -> None:
        self.seconds = list(state)


def _epochs(history: mlp.History, seconds: list[float], start: int) -> list[Line]:
    """The epochs from `start`, as lines of a record."""
    columns = {
        name: getattr(history, name)
        for name in ("lr", "train_loss", "validation_loss", "validation_accuracy", "test_accuracy")
    }
    return [
        {"epoch": at + 1, **{name: column[at] for name, column in columns.items()}, "seconds": seconds[at]}
        for at in range(start, len(seconds))
    ]


def learn(
    kernel: str, model: Line, fitting: Line, stopping: Line | None, pause: Callable[[Line], Any]
) -> Line:
    """Train a network; returns what happened in the end.

    model     its description, as records have it
    fitting   arguments of mlp.fit
    stopping  those of mlp.EarlyStopping; None: no early stopping

    The answer's status is "ok", "refused" (by mlp.fit, before the first step) or "diverged". Raises Wrong, Meddled, and
    whatever the kernel raises.
    """
    own = manners()
    data, when = mlp.load(model["data"]), mlp.EarlyStopping(**stopping) if stopping else None
    network = mlp.MLP(
        model["arch"], activation=model["activation"], loss=model["loss"], optimizer=model["optimizer"],
        lr=model["lr"], weight_decay=model["weight_decay"], kernel=kernel, dtype=model["dtype"], seed=model["seed"],
        device=model.get("device", "cpu"),
    )  # fmt: skip
    clock = Clock(pause, network.device.wait)
    try:
        mlp.check(
            network, data, **{key: fitting[key] for key in ("batch", "seed", "validation")}, stopping=when
        )
    except ValueError as error:
        return {"status": "refused", "reason": str(error)}
    # Steps that are checked must not diverge; how large they are is no question of the kernel's.
    lr = min(network.optimizer.lr, mlp.optimizer(model["optimizer"]).lr)
    verified: Any = TrainingStep
    if network.device.name != "cpu":
        from bench.timing.device_steps import DeviceStep as verified
    first, worst = verified(kernel, model | {"lr": lr}, model["seed"]).verify()
    footprint = mlp.memory_of(network, fitting["batch"], best=when is not None)
    pause({"first_call_s": first, "error_ratio": worst, "memory": footprint.record()})
    settle()
    ended: Line = {"status": "ok"}
    try:
        history = mlp.fit(network, data, callbacks=[clock], stopping=when, **fitting)
        ended |= {"best_epoch": history.best_epoch, "stopped": history.stopped}
    except mlp.DivergenceError as error:
        ended |= {"status": "diverged", "reason": str(error)}
    except ValueError as error:
        if clock.steps:
            raise  # the kernel's
        return {"status": "refused", "reason": str(error)}
    own.check(libraries=True)
    return ended | clock.rest() | {"steps": clock.steps, "spent_s": clock.spent}
