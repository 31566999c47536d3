"""bench: the only room with a clock. Plan -> workers -> samples -> records.

run = bench.sweep(kernels=["blas", "numba-blocked"], sizes=[64, 256])
run = bench.profile(arch=[784, 512, 512, 10], batch=128, kernels=["blas"])
run = bench.explore("784-512-512-10", 128, only=["width", "batch"])
run = bench.load("runs/20260101-120000-sweep")
run.frame()                        every line in one pandas frame
bench.results(run), bench.speedup(base, other), bench.profiles(run), bench.exploration(run)
bench.compare("blas", "numba-blocked", run), bench.compare(one, other)
bench.compare(["cblas:openblas", "cblas:mkl"], "numba-micro", run)     against the best of several
bench.steps(["numba-ikj", "numba-blocked", "numba-micro"], run)        each against the one before
bench.predict([784, 512, 10], 128, "numba-micro")   a step's cost before it is run (after `gemmlab predict --calibrate`)
bench.select([run])                which kernel `auto` shall use; bench.selection.keep(...) has it used
bench.export(run, "mine.json")     for pytest-benchmark; .csv and .parquet for everybody else

README.md says how a number comes about. The room's wings, each of which uses those before it only:

    records.py    what is on disk
    host/         what this machine is, and what else it was doing
    peers/        the same training step in other people's libraries
    isolation/    processes for code that may do anything
    plans/        from what a user writes to a list of cells; suites
    verdicts/     what samples say, and what may spoil it
    timing/       samples, taken in turn
    exchange/     records for other tools
    evidence/     what the lab claims of its own numbers, to be run; benchmarks/ for pytest-benchmark

and above them the commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records import Interrupted, Run, RunError, load

if TYPE_CHECKING:
    from bench.timing.progress import Progress
    from bench.verdicts.best import Best
    from bench.verdicts.compare import Comparison
    from bench.verdicts.steps import Steps

__all__ = [
    "Interrupted",
    "Run",
    "RunError",
    "compare",
    "exploration",
    "explore",
    "export",
    "floors",
    "load",
    "peak",
    "predict",
    "profile",
    "profiles",
    "results",
    "resume",
    "select",
    "speedup",
    "steps",
    "sweep",
]


# What the settings of an exploration are where nobody says: some forty cells in three minutes.
EXPLORE = {"sample_s": 0.05, "rounds": 3, "cell_s": 10.0}


def sweep(
    kernels: Sequence[str] = (),
    sizes: Sequence[int | str] = (),
    shapes: Sequence[Sequence[int] | str] = (),
    dtypes: Sequence[str] | None = None,
    threads: Sequence[int | str] = (),
    orders: Sequence[str] | None = None,
    *,
    groups: Mapping[str, Sequence[Any]] | None = None,
    suite: str | None = None,
    cache: Sequence[str] | str | None = None,
    operands: Sequence[str] | str | None = None,
    data: Sequence[str] | str | None = None,
    batch: Sequence[int] | int | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Time kernels on products and return the run, which is also in its folder.

    kernels   names, or paths `file.py:function`; default: the ladder
    sizes     n of square products, or ranges: "64:4096:*2", "100:1000:+100"
    shapes    (m, n, k), or text: "784x512x128", with ranges and an order and a batch of their own: "64x64x64 tn *16"
    dtypes    default: float32
    threads   counts, or "all", the default: all cores of this process; of no meaning to kernels on a GPU
    orders    nn (the default), tn, nt, tt: operands stored transposed and handed over as views
    groups    name -> sizes and shapes: the rows of a table that `compare` makes of the run
    suite     a named sweep (bench/plans/suites/), whose axes and settings stand wherever none are given here
    cache     "hot" (the default), "cold": operands evicted before every call; on a GPU cold is the default
    operands  of kernels on a GPU: "device" (the default), "host": NumPy arrays, taken there and back in every call
    data      kinds: normal (the default), uniform, integers, zeros, significands, denormals, wide
    batch     products in a stack that one call multiplies (1)
    alpha, beta  C <- alpha A B + beta C (1 and 0)
    settings  precision (quick, default, precise) or launches, rounds, sample_s, cell_s, budget_s, timeout_s, seed
              (bench.plans.plan.Plan)

    Raises ValueError for what cannot be planned, gemm.UnknownKernel, RunError for the folder.
    """
    from bench.plans import axes, plan
    from bench.timing import engine

    given = {
        "kernels": kernels, "sizes": sizes, "shapes": shapes, "dtypes": dtypes, "threads": threads,
        "orders": orders, "groups": groups, "suite": suite, "cache": cache, "operands": operands, "data": data,
        "batch": batch, "alpha": alpha, "beta": beta,
    }  # fmt: skip
    chosen = axes.make_sweep(given, "sweep")
    settings = axes.settings_over(axes.suite_settings(suite, "sweep"), settings, "sweep")
    whole = plan.Plan(cells=chosen.cells(), groups=chosen.grouped(), **settings)
    return engine.start(whole, out, stem=suite or "sweep", progress=progress)


def profile(
    arch: Sequence[int] | str,
    batch: int,
    kernels: Sequence[str] = ("blas",),
    *,
    threads: int | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    settings: dict[str, Any] | None = None,
    **model: Any,
) -> Run:
    """Time a network's training step, operation by operation, on one kernel after another.

    arch      widths, inputs first: [784, 512, 512, 10] or "784-512-512-10"
    kernels   names or mappings (`blas,1=numba-ikj,*.dW=python`), timed in turn
    model     activation, loss, optimizer, lr, dtype, data ("random", "digits" or a folder of IDX files), device
    settings  as of `sweep`; a sample is 0.1 s of steps, because rows are means and means need many

    Raises ValueError, gemm.UnknownKernel, RunError.
    """
    from bench.plans import axes, network, plan
    from bench.timing import engine

    cells = network.cells(arch, batch, kernels, threads, **model)
    whole = plan.Plan(cells=cells, **axes.settings({"sample_s": 0.1} | (settings or {}), "profile"))
    return engine.start(whole, out, stem="profile", progress=progress)


def explore(
    arch: Sequence[int] | str = "784-512-512-10",
    batch: int = 128,
    kernel: str = "numba-micro",
    *,
    threads: int | None = None,
    only: Sequence[str] = (),
    values: Mapping[str, Sequence[Any]] | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    settings: dict[str, Any] | None = None,
    **model: Any,
) -> Run:
    """Time a network's training step, and what it becomes when one thing at a time is changed.

    arch, batch, kernel, threads, model   the base, as of `profile`, but for a learning rate so small that nothing
              is learnt
    only      the factors to vary (bench.plans.factors.FACTORS); default: those that have values, or else all
    values    factor -> its values, in place of the usual ones: {"batch": [1, 32], "width": ["64:1024:*2"]}
    settings  as of `sweep`; by default those of EXPLORE, and without a budget precision quick

    All variants are sampled in turn with the base; `exploration` says what came of it. Raises ValueError for what
    cannot be varied, gemm.UnknownKernel, RunError.
    """
    from bench.plans import axes, factors, network, plan
    from bench.timing import engine

    settings = EXPLORE | (settings or {})
    if not settings.keys() & {"precision", "launches", "budget_s"}:
        settings["precision"] = "quick"
    (base,) = network.cells(arch, batch, [kernel], threads, **({"lr": factors.LR} | model))
    # A round is as long as all variants together: what was disturbed in it is left out, and no other round is begun.
    varied = factors.plan(base, only, values) | {"more_s": 0.0}
    whole = plan.Plan(**varied, **axes.settings(settings, "explore"))
    return engine.start(whole, out, stem="explore", progress=progress)


def compare(
    base: str | Path | Run | Sequence[str],
    new: str | Path | Run,
    run: str | Path | Run | None = None,
    *,
    reference: str | None = None,
    same_within: float = 0.02,
) -> Comparison | Best:
    """NEW against BASE: two kernels of a run (by name), or two runs (read, or folders that hold records).

    BASE may be several kernels, as a sequence or with commas between: NEW is then held against the best of them at
    each shape (`bench.verdicts.best`).

    run          where the kernels are (default: the newest run)
    reference    of two runs, the kernel to whose times theirs are held (default: one that is the same in both)
    same_within  what still counts as the same, as a fraction

    Raises ValueError for kernels that are not there, RunError for what is no run.
    """
    from bench.records import latest, opened
    from bench.verdicts import best, compare

    if not isinstance(base, Path | Run):
        peers = best.several(base) if isinstance(base, str) else list(base)
        if peers is not None:
            return best.against(opened(run or latest()), peers, str(new), same_within)
        base = str(base)
    if any(isinstance(side, Run) or (Path(side) / "records.jsonl").exists() for side in (base, new)):
        return compare.runs(opened(base), opened(new), reference, same_within=same_within)
    return compare.kernels(opened(run or latest()), str(base), str(new), same_within)


def steps(kernels: Sequence[str], run: str | Path | Run | None = None, *, same_within: float = 0.02) -> Steps:
    """What each kernel brought over the one before (`KERNEL@2`: on two threads), on the shapes that all have.

    run  default: the newest run

    Raises ValueError for kernels that are not there, RunError for what is no run.
    """
    from bench.records import latest, opened
    from bench.verdicts import steps

    return steps.steps(opened(run or latest()), kernels, same_within)


def resume(folder: str | Path, progress: Progress | None = None) -> Run:
    """Finish a run that was killed."""
    from bench.timing import engine

    return engine.resume(folder, progress)


def __getattr__(name: str) -> Any:
    if name in ("floors", "peak", "profiles", "results", "speedup"):
        from bench.verdicts import statistics

        return getattr(statistics, name)
    if name == "exploration":
        from bench.verdicts.exploration import exploration

        return exploration
    if name == "export":
        from bench.exchange.interchange import export

        return export
    if name == "predict":
        from bench.prediction import predict

        return predict
    if name == "select":
        from bench.selection import select

        return select
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
