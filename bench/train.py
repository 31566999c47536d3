"""Train: a network learns on real data while a clock runs. The kernel changes the clock, not the learning.

Each kernel has a process of its own (`bench.timing.training`), as in a sweep: its crash or its thread pool is its
own, threads are set before it starts, and while one takes its turn of half a second the others are stopped. So
what disturbs the machine for a while disturbs all of them. Every product is verified before the first step. There is
one process of each kernel and so no interval: the seconds of two trainings that differ by little say nothing
(`gemmlab profile` compares steps).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import gemm
import mlp
from bench.host.environment import environment
from bench.isolation import trial
from bench.isolation.guardian import end_all
from bench.isolation.processes import Gone, Worker
from bench.peers import is_peer
from bench.plans import network
from bench.plans.plan import Cell, check_memory, frozen, names_in, unfrozen
from bench.records import SCHEMA, TRAININGS, Interrupted, Line, RunError, not_over_records, now, write_json
from gemm.threads import available_cores
from mlp.mistakes import positive, whole

# Seconds that a worker may take for an answer: a turn is half a second, or one step if that takes longer.
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number from 1, learning rate, mean losses, accuracies (0 to 1), and seconds in its steps.

    validation_* and test_accuracy are None where there is nothing to look at; cumulative_s counts from the first epoch.
    """

    epoch: int
    lr: float
    train_loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    test_accuracy: float | None
    seconds: float
    cumulative_s: float


@dataclass
class Training:
    """A network trained on one kernel.

    status        ok, diverged, wrong, failed, crashed, timeout or unavailable; reason says why
    first_call_s  seconds of the first step, before the training: with it come imports and compilation
    error_ratio   the largest of any product of a step
    memory        bytes that the training takes by part, and in total (mlp.footprint)
    losses        of every step
    steps         that this process did, and spent_s in them: less than there are losses if a checkpoint had the others
    best_epoch    with early stopping, the epoch whose weights the model has in the end
    worker        what its process had loaded
    """

    cell: Cell
    model: Line
    status: str = "ok"
    reason: str | None = None
    epochs: list[Epoch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    first_call_s: float | None = None
    error_ratio: float | None = None
    memory: Line = field(default_factory=dict)
    steps: int = 0
    spent_s: float = 0.0
    best_epoch: int | None = None
    stopped: bool = False
    worker: Line = field(default_factory=dict)

    @property
    def kernel(self) -> str:
        return self.cell.kernel

    @property
    def seconds(self) -> float:
        """In the steps of all epochs."""
        return self.epochs[-1].cumulative_s if self.epochs else 0.0

    @property
    def step_s(self) -> float | None:
        """Mean seconds of a step."""
        return self.spent_s / self.steps if self.steps else None

    def record(self, run: str) -> Line:
        """The line of kind `training`."""
        kept = {
            name: value
            for name, value in vars(self).items()
            if name not in ("cell", "epochs", "model", "spent_s")
        }
        return {
            "schema": SCHEMA, "kind": "training", "run": run, "cell": self.cell.id, "time": now(),
            "kernel": self.kernel, "source": self.cell.source, "tuning": self.cell.tuning,
            "threads": self.cell.threads, "model": self.model, **kept,
            "epochs": [asdict(epoch) for epoch in self.epochs], "seconds": self.seconds, "step_s": self.step_s,
        }  # fmt: skip


class Watcher(Protocol):
    """Is told how far the trainings are."""

    def begin(self, training: Training, steps: int) -> None:
        """This kernel will make at most so many steps."""

    def advance(self, training: Training, steps: int) -> None:
        """It has made so many more; the last loss and epoch are in the training."""

    def epochs(self, training: Training, ended: Sequence[Epoch]) -> None:
        """It has ended these epochs since the last turn."""

    def end(self, training: Training) -> None:
        """It is over."""


class Unwatched:
    """Nobody is told."""

    def begin(self, training: Training, steps: int) -> None: ...
    def advance(self, training: Training, steps: int) -> None: ...
    def epochs(self, training: Training, ended: Sequence[Epoch]) -> None: ...
    def end(self, training: Training) -> None: ...


def train(
    data: str = "digits",
    arch: str | None = None,
    kernels: Sequence[str] = ("blas",),
    *,
    epochs: int = 20,
    batch: int = 32,
    activation: str = "relu",
    loss: str = "softmax-cross-entropy",
    optimizer: str = "sgd",
    lr: float | None = None,
    weight_decay: float = 0.0,
    schedule: str = "constant",
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    validation: float = 0.0,
    stopping: mlp.EarlyStopping | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    watcher: Watcher | None = None,
) -> list[Training]:
    """Train a network on one kernel after another, in turn, and return what happened to each.

    data     "digits", "synthetic" or a folder of IDX files
    arch     "64-64-10" and the like (mlp.architectures); default: one hidden layer of 64
    kernels  names, mappings or `file.py:function`
    lr       default: the optimizer's own
    threads  default: all cores
    device   "cpu", or "cuda": where the network lives

    schedule, validation, stopping, checkpoint and resume are mlp.fit's.

    A kernel that cannot be used, is wrong, fails or diverges has a status and a reason, and the others go on. Raises
    ValueError for names, numbers and data that do not fit, gemm.UnknownKernel, and Interrupted for Ctrl-C where there
    is a checkpoint to go on from.
    """
    found = mlp.load(data)
    shape = mlp.architecture(arch or [found.x_train.shape[1], 64, found.classes or 1])
    del found  # each worker has its own
    if checkpoint is not None and len(kernels) > 1:
        raise ValueError("a checkpoint is of one training; train one kernel at a time with it")
    if peers := [kernel for kernel in kernels if is_peer(kernel)]:
        raise ValueError(f"{peers[0]} is a step in another library, which gemmlab times and does not train")
    epochs, batch, seed = positive("epochs", epochs), positive("batch", batch), whole("seed", seed, 0)
    mlp.schedule(schedule)
    names = {"activation": activation, "loss": loss, "optimizer": optimizer, "dtype": dtype, "device": device}
    own = mlp.optimizer(optimizer, lr, weight_decay)
    cells = network.cells(shape.parts, batch, kernels, threads, lr=own.lr, **names)
    described = {
        **unfrozen(cells[0].model), "data": data, "seed": seed, "weight_decay": weight_decay, "schedule": schedule,
        "epochs": epochs, "validation": validation, "stopping": asdict(stopping) if stopping else None,
    }  # fmt: skip
    fitting = {
        "epochs": epochs, "batch": batch, "seed": seed, "schedule": schedule, "validation": validation,
        "checkpoint": str(checkpoint) if checkpoint is not None else None, "resume": resume,
    }  # fmt: skip
    kept = frozen(unfrozen(cells[0].model) | {"best": stopping is not None})
    check_memory([Cell(cell.kernel, cell.threads, model=kept) for cell in cells])
    trainings = [Training(cell, described) for cell in cells]
    request = {"model": described, "fitting": fitting, "stopping": described["stopping"]}
    try:
        _in_turn(trainings, request, watcher or Unwatched())
    except KeyboardInterrupt:
        if checkpoint is None or not Path(checkpoint).exists():
            raise
        raise Interrupted(
            f"{checkpoint} has every whole epoch: the same command with --resume goes on"
        ) from None
    return trainings


def _in_turn(trainings: list[Training], request: Line, watcher: Watcher) -> None:
    """Have each kernel's worker take its turn until all are done."""
    workers: dict[int, Worker] = {}
    try:
        for at, training in enumerate(trainings):
            if _usable(training):
                workers[at] = Worker(training.cell.threads or available_cores())
                workers[at].tell(do="hello", ceiling=False)
        going = list(workers)
        for at in workers:
            _ask(trainings[at], workers[at], None)
        while going := [at for at in going if trainings[at].status == "ok"]:
            for at in list(going):
                what = {"do": "go on"} if trainings[at].memory else {"do": "train", **request}
                answer = _ask(trainings[at], workers[at], what | {"kernel": trainings[at].kernel})
                _take(trainings[at], answer, watcher)
                if not answer.get("more"):
                    going.remove(at)
                    watcher.end(trainings[at])
                    _describe(trainings[at], workers[at])
    finally:
        for worker in workers.values():
            worker.kill()
            end_all(worker.entry)


def _usable(training: Training) -> bool:
    """Whether there is anything to start; a reason stands in the training otherwise."""
    for name in names_in(training.kernel):
        outcome = trial.outcome(name)
        if outcome.status != "ok":
            training.status, training.reason = outcome.status, outcome.reason
    return training.status == "ok"


def _ask(training: Training, worker: Worker, request: Line | None) -> Line:
    """The worker's answer; of one that is gone, its status and reason. None: to what it was asked before."""
    try:
        return worker.hear(TIMEOUT_S) if request is None else worker.ask(TIMEOUT_S, **request)
    except Gone as gone:
        return {"status": gone.status, "reason": str(gone)}


def _take(training: Training, answer: Line, watcher: Watcher) -> None:
    """Add what a turn has brought."""
    if answer["status"] == "refused":  # it is the data's or the user's, and the same for every kernel
        raise ValueError(answer["reason"])
    for name in ("status", "reason", "memory", "first_call_s", "error_ratio", "best_epoch", "stopped"):
        if name in answer:
            setattr(training, name, answer[name])
    losses, lines = answer.get("losses", ()), answer.get("epochs", ())
    before = len(training.epochs)
    training.losses += losses
    for line in lines:
        training.epochs.append(Epoch(**line, cumulative_s=training.seconds + line["seconds"]))
    if lines:
        watcher.epochs(training, training.epochs[before:])
    if "steps_an_epoch" in answer:  # with what an earlier process did
        watcher.begin(training, answer["steps_an_epoch"] * (training.model["epochs"] - len(lines)))
    else:
        training.steps += len(losses)
        watcher.advance(training, len(losses))
    training.spent_s = answer.get("spent_s", training.spent_s)


def _describe(training: Training, worker: Worker) -> None:
    """What its process has loaded."""
    if worker.alive:
        answer = _ask(training, worker, {"do": "describe"})
        if answer.pop("status") == "ok":
            training.worker = answer


def record(trainings: Sequence[Training], command: Sequence[str] | None = None) -> Line:
    """The trainings and the machine that they ran on: what `--out` writes and `bench.load` reads."""
    run = now()
    about = environment(run, list(command or sys.argv))
    return {
        "gemmlab": TRAININGS, "schema": SCHEMA, "run": run, "time": about["time"], "environment": about,
        "trainings": [training.record(run) for training in trainings],
    }  # fmt: skip


def writable(out: Path) -> Path:
    """The file, if a record can be written there. Raises RunError: now, or a training would be lost."""
    if not not_over_records(out).absolute().parent.is_dir():
        raise RunError(f"{out}: its folder does not exist; make it or give another file with --out")
    if out.exists() and not out.is_file():
        raise RunError(f"{out}: is no file that could be written; give another with --out")
    if out.suffix != ".json":
        raise RunError(f"{out}: a record of trainings is JSON; give a name that ends in .json with --out")
    return out


def write(trainings: Sequence[Training], out: Path) -> None:
    """Write the record, whole or not at all. Raises RunError."""
    try:
        write_json(writable(out), record(trainings))
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); give another file") from error


def refused(training: Training) -> Exception:
    """What a training that came to nothing is raised as, where it is the only one."""
    what = training.reason or training.status
    if training.status == "unavailable":
        return gemm.KernelUnavailable(what)
    if training.status in ("failed", "crashed", "timeout") and not what.startswith(training.kernel):
        return ValueError(f"kernel {training.kernel!r} failed in training: {what}")
    return ValueError(
        what if training.status == "diverged" else f"kernel {training.kernel!r} is wrong: {what}"
    )
