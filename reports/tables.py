"""Tables: the same results in a terminal; plain text where there is no terminal."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.records import Run, number
from bench.verdicts.statistics import Interval, Profile, Result, Row, peak, peak_of
from reports import alike, costs, factors, remarks, wording
from reports.selection import Comparison, Ladder, label, ladders, measured, of_vendor, select
from reports.sentences import findings

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

# what stands where a number is missing: at most seven letters, for 80 columns
MARKS = {"unavailable": "n/a", "impossible": "imposs."}
COLUMNS = 7
HANDFUL = 4
OF_VENDOR = "% cuBLAS"


def sweep(comparison: Comparison) -> Group:
    """Kernels by sizes, GFLOP/s; what is missing says why. Shapes that are not square come below."""
    sizes = comparison.sizes
    parts: list[Any] = [_sizes(comparison, sizes[at : at + COLUMNS]) for at in range(0, len(sizes), COLUMNS)]
    for at in range(0, len(sizes), COLUMNS):
        parts += _vendor_shares(comparison, sizes[at : at + COLUMNS])
    if comparison.oblong:
        parts.append(_shapes(comparison))
    parts += peaks(comparison)
    parts += transfers(comparison)
    parts += _reasons(comparison)
    return titled(f"GFLOP/s: {comparison.name}", *parts)


def ladder(ladder: Ladder, told: Container[str] = ()) -> Group:
    """Slowest first: time, GFLOP/s, % of peak, times faster than the baseline, its 95 % interval, what bounds it.

    Below, but for what the reader was `told` already: what compiling costs, and what a kernel against itself came to.
    """
    title = f"{wording.shape(*ladder.shape)}, {ladder.comparison.name}: against {ladder.baseline}"
    bounds = {rung.kernel: costs.bound(rung.result, brief=True) for rung in ladder.rungs}
    known = any(bounds.values())
    vendor = of_vendor(ladder.comparison.at(ladder.shape))
    beside = [*([OF_VENDOR] if vendor else []), *(["bound by"] if known else [])]
    columns = ("time", "GFLOP/s", "% peak", "speed-up", "95 % interval", *beside)
    table = new_table("kernel", *columns, gap=2)
    for rung in ladder.rungs:
        result, speedup = rung.result, wording.factor(rung.speedup.value)
        seconds, rate, share = rung.predicted or result.seconds.value, wording.NOTHING, wording.NOTHING
        if not rung.predicted:
            rate, share = wording.gflops(result.rate.value), wording.share(result.share_of_peak.value)
        sure = ladder.sure(rung, "within noise")
        row = (
            wording.duration(seconds),
            rate,
            share,
            speedup,
            sure,
            *([_share_of_vendor(vendor, rung.kernel)] if vendor else []),
            *([bounds[rung.kernel]] if known else []),
        )
        add_row(table, rung.kernel, *row)
    return titled(title, table, *(line for line in notes(ladder) if line not in told))


def _share_of_vendor(vendor: Mapping[str, tuple[str, Interval]], kernel: str) -> str:
    return wording.share(vendor[kernel][1].value) if kernel in vendor else wording.NOTHING


def _vendor_shares(comparison: Comparison, sizes: list[int]) -> list[Any]:
    """% of NVIDIA's library of the same arithmetic at each size, where it is in the run."""
    shares = {n: of_vendor(comparison.at((n, n, n))) for n in sizes}
    if not any(shares.values()):
        return []
    table = new_table(f"{OF_VENDOR} \\ n", *map(str, sizes))
    named = dict.fromkeys(vendor for there in shares.values() for vendor, _ in there.values())
    for kernel in comparison.cells:
        if kernel not in named and any(kernel in there for there in shares.values()):
            add_row(table, kernel, *(_share_of_vendor(shares[n], kernel) for n in sizes))
    if not table.row_count:
        return []
    return ["", table]


def peaks(comparison: Comparison) -> list[str]:
    """The ceilings of a comparison's arithmetic, a line; on a GPU several kinds may be beside each other."""
    found = {peak_of(result) for row in comparison.cells.values() for result in row.values()}
    rates = {
        name: peak(comparison.run, name, dtype, threads) for name, dtype, threads in sorted(found, key=str)
    }
    told = [
        f"{wording.gflops(rate)} GFLOP/s ({wording.arithmetic(name)})"
        for name, rate in rates.items()
        if math.isfinite(rate)
    ]
    return [f"measured peak: {', '.join(told)}"] if told else []


def transfers(comparison: Comparison) -> list[str]:
    """Of host data handed to a GPU: what of the time at the largest size was getting them there and back."""
    lines = []
    for kernel, row in comparison.cells.items():
        known = [(at, r) for at, r in row.items() if measured(r) and number(r.cell.get("transfer_s"))]
        if known:
            at, result = max(known, key=lambda one: math.prod(one[0]))
            transfer, product = (number(result.cell.get(name)) for name in ("transfer_s", "product_s"))
            lines.append(
                f"{kernel} at {wording.shape(*at)}: {wording.duration(result.seconds.value)}, of which the transfer "
                f"takes {wording.duration(transfer)} and the product {wording.duration(product)}"
            )
    return lines


def notes(ladder: Ladder) -> list[str]:
    """The lines under a ladder."""
    return [*costs.compiling(ladder), remarks.floor_under(ladder)]


def doubts(results: Sequence[Result]) -> Group | None:
    """What spoils a run's results: the most serious first, alike ones together, a handful of them."""
    found = remarks.remarks(results)
    if not found:
        return None
    cells = {id(result) for remark in found for result in remark.cells}
    measured_ones = sum(map(measured, results))
    lines = [
        f"{remarks.places(remark.cells, measured_ones)}: {remark.sentence}" for remark in found[:HANDFUL]
    ]
    if len(found) > HANDFUL:
        lines.append(f"and {len(found) - HANDFUL} more in the report")
    return titled(f"In doubt: {len(cells)} of {wording.plural(measured_ones, 'measured cell')}", *lines)


def profile(profile: Profile) -> Group:
    """A row per operation of the step, their total, the remainder, and what the rows account for."""
    model = wording.architecture(profile.result.model)
    threads = wording.threads(profile.result.threads)
    title = f"{label(profile.result)}: a training step of {model}, {threads}"
    table = new_table("op", *PROFILE)
    for row in profile.rows:
        add_row(table, operation(row), *figures(row, profile.peak))
    table.add_section()
    for name, columns in sums(profile):
        add_row(table, name, *columns)
    return titled(title, table, accounted(profile))


def show(run: Run, baseline: str | None = None, brief: bool = False) -> None:
    """Print a run's tables: every comparison with its first ladder, every training step; where factors were varied,
    what came of that, and the sentences that a reader wants to have seen.

    brief  of each network only the fastest kernel's step
    """
    from rich.console import Console

    console = Console()
    (selected,) = select([run], baseline)
    told: set[str] = set()
    for comparison in selected.comparisons:
        console.print(sweep(comparison))
        for first in ladders(comparison, baseline)[:1]:
            console.print(ladder(first, told))
            told |= set(notes(first))
    if selected.explored:
        console.print(factors.table(selected.explored))
        for finding in findings([selected]):
            console.print(finding, markup=False, soft_wrap=True)
        console.print()
    if (doubted := doubts(selected.results)) is not None:
        console.print(doubted)
    if selected.explored:
        return
    for result in selected.results:
        if result.model and not measured(result):
            console.print(
                f"{label(result)}: {result.status} ({result.cell.get('reason') or 'no whole launch'})",
                markup=False, soft_wrap=True,
            )  # fmt: skip
    for training in selected.trainings:
        for one in training.profiles[-1:] if brief else training.profiles:
            console.print(profile(one))


PROFILE = ("m", "n", "k", "FLOPs", "bytes", "FLOP/B", "time", "GFLOP/s", "% peak", "% step")


def operation(row: Row) -> str:
    """1.dW, or for a fused operation 1.dX with what else is in it; 15 × 1.H where it is so many products."""
    parts = [part for part in row.parts if part != row.op]
    name = row.id if row.times == 1 else f"{row.times} × {row.id}"
    return f"{name} ({'+'.join(parts)})" if parts else name


def figures(row: Row, peak: float) -> tuple[str, ...]:
    """The columns PROFILE of one operation."""
    sides = tuple(wording.NOTHING if side is None else str(side) for side in (row.m, row.n, row.k))
    return (
        *sides,
        _compact(row.flops),
        _compact(row.bytes),
        wording.digits(row.intensity),
        wording.duration(row.seconds),
        wording.gflops(row.rate),
        wording.share(row.rate / peak),
        wording.share(row.share),
    )


def sums(profile: Profile) -> list[tuple[str, tuple[str, ...]]]:
    """The columns PROFILE of the rows' total, of the remainder and of the uninstrumented step."""
    flops, size = sum(row.flops for row in profile.rows), sum(row.bytes for row in profile.rows)
    seconds, share = (
        math.fsum(row.seconds for row in profile.rows),
        math.fsum(row.share for row in profile.rows),
    )

    def line(seconds: float, share: float, **known: float) -> tuple[str, ...]:
        rate = known.get("flops", math.nan) / seconds if seconds else math.nan
        work = (_compact(known.get(name)) for name in ("flops", "bytes"))
        intensity = known["flops"] / known["bytes"] if known.get("bytes") else math.nan
        return (
            "",
            "",
            "",
            *work,
            wording.digits(intensity),
            wording.duration(seconds),
            wording.gflops(rate),
            wording.share(rate / profile.peak),
            wording.share(share),
        )

    rest = profile.step - seconds
    return [
        ("total", line(seconds, share, flops=flops, bytes=size)),
        ("remainder", line(rest, 1 - share)),
        ("step", line(profile.step, 1.0, flops=flops, bytes=size)),
    ]


def accounted(profile: Profile) -> str:
    """How much of the uninstrumented step the rows account for, and what the recorder costs."""
    share = profile.accounted
    recorder = profile.instrumented / profile.step - 1
    cost = f"; the recorder makes the step {wording.percent(recorder)} longer" if recorder > 0 else ""
    bounds = wording.bounds(share, 100)
    return (
        f"The rows account for {wording.digits(100 * share.value)} %{f' ({bounds})' if bounds else ''} "
        f"of the uninstrumented step of {wording.duration(profile.step)}{cost}."
    )


def _sizes(comparison: Comparison, sizes: list[int]) -> Table:
    table = new_table("kernel \\ n", *map(str, sizes))
    for kernel, row in comparison.cells.items():
        results = [row.get((n, n, n)) for n in sizes]
        marks = [
            ""
            if r is None
            else wording.gflops(r.rate.value)
            if measured(r)
            else MARKS.get(r.status, r.status)
            for r in results
        ]
        if any(marks):
            add_row(table, kernel, *(mark if mark != "ok" else "no data" for mark in marks))
    return table


def _shapes(comparison: Comparison) -> Table:
    vendors = {shape: of_vendor(comparison.at(shape)) for shape in comparison.oblong}
    beside = [OF_VENDOR] if any(vendors.values()) else []
    table = new_table("m × n × k", "kernel", "time", "GFLOP/s", "% of peak", *beside)
    for shape in comparison.oblong:
        for kernel, row in comparison.cells.items():
            if shape in row and measured(row[shape]):
                result = row[shape]
                add_row(
                    table,
                    wording.shape(*shape),
                    kernel,
                    wording.duration(result.seconds.value),
                    wording.gflops(result.rate.value),
                    wording.share(result.share_of_peak.value),
                    *([_share_of_vendor(vendors[shape], kernel)] if beside else []),
                )
            elif shape in row:
                add_row(table, wording.shape(*shape), kernel, MARKS.get(row[shape].status, row[shape].status))
    return table


def _reasons(comparison: Comparison) -> list[str]:
    """One line for each kernel and status among the cells without a time, where the reasons are alike."""
    told: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for kernel, row in comparison.cells.items():
        for shape, result in row.items():
            if not measured(result):
                why = result.cell.get("reason") or ("no whole launch" if result.status == "ok" else "")
                where = wording.shape(*shape).removeprefix("n = ")
                told.setdefault((kernel, result.status, alike.template(why)), []).append((where, why))
    lines = []
    for (kernel, status, _), members in told.items():
        why = alike.together([why for _, why in members])
        at = ", ".join(where for where, _ in members)
        lines.append(f"{kernel} at {at}: {status}{f' ({why})' if why else ''}")
    return lines


def _compact(value: float | None) -> str:
    return wording.scaled(value, "").replace(" ", "")


def titled(title: str, *parts: Any) -> Group:
    from rich.console import Group
    from rich.text import Text

    return Group(
        Text(title, style="bold"), *(Text(part) if isinstance(part, str) else part for part in parts), ""
    )


def add_row(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*map(Text, cells))  # a kernel may be called [red]


def new_table(first: str, *rest: str, gap: int | None = None) -> Table:
    """`gap`: blanks between columns; default: three, and one where there are many columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    wide = 3 if len(rest) < 9 else 1  # one of them is the box's own
    right = (gap or wide) // 2
    padding = (0, right, 0, (gap or wide) - 1 - right)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    table.add_column(Text(first), overflow="fold")
    for name in rest:
        table.add_column(Text(name), justify="right", no_wrap=True)
    return table
