"""What a GPU's run is told as: in % of cuBLAS by arithmetic, under its own ceilings, with its name."""

import io

import pytest
from rich.console import Console

import reports
from bench.verdicts.statistics import results
from reports import tables
from reports.machine import machine
from reports.selection import comparisons, ladders, of_vendor
from tests.reports.conftest import ENVIRONMENT, Synthetic, every_round

RATES = {
    "cuda-warptile": (48e12, "float32"), "cublas": (50e12, "float32"), "cuda-tf32": (300e12, "tfloat32"),
    "cublas-tf32": (400e12, "tfloat32"),
}  # fmt: skip
CEILINGS = {
    "cuda-float32": ("FLOP", 60e12), "cuda-tfloat32": ("FLOP", 410e12), "cuda-dram-copy": ("B", 4.2e12),
    "cuda-l2-copy": ("B", 7e12),
}  # fmt: skip
CARD = {
    "name": "NVIDIA H200", "memory_bytes": 150 * 10**9, "sms": 132, "l2_bytes": 60 << 20, "capability": "9.0",
    "driver": "580.1", "power_limit_w": 700.0, "clock_mhz": 1980.0, "cuda": "13.0, driver 13.0",
}  # fmt: skip
DEVICE = {"threads": 0, "device": "cuda", "operands": "device", "cache": "cold"}


@pytest.fixture
def run(tmp_path):
    made = Synthetic(tmp_path / "gpu", ENVIRONMENT)
    for name, (unit, rate) in CEILINGS.items():
        for launch, round_ in every_round():
            at = {"launch": launch, "round": round_, "order": 0, "threads": 0, "dtype": None}
            made.writer.append("ceiling", "", ceiling=name, unit=unit, work=1e12, seconds=1e12 / rate, **at)
    made.writer.append("worker", "", launch=0, kernel="cublas", threads=0, libraries=[], gpu=CARD)
    for n in (2048, 4096):
        for kernel, (rate, arithmetic) in RATES.items():
            made.product(kernel, n, seconds=2 * n**3 / rate, steady=True, arithmetic=arithmetic, **DEVICE)
    made.product(
        "cublas", 4096, seconds=9e-3, steady=True, arithmetic="float32", transfer_s=6e-3, product_s=2.7e-3,
        **DEVICE | {"operands": "host", "cache": "hot"},
    )  # fmt: skip
    return made.done()


def printed(*parts):
    console = Console(file=io.StringIO(), width=110)
    for part in parts:
        console.print(part)
    return console.file.getvalue()


def row(text, kernel):
    return next(line.split() for line in text.splitlines() if line.startswith(f"{kernel} "))


def test_each_kernel_is_held_against_the_library_of_its_own_arithmetic(run):
    comparison = comparisons(run, results(run))[0]
    found = of_vendor(comparison.at((4096, 4096, 4096)))
    shares = {kernel: (vendor, round(100 * ratio.value)) for kernel, (vendor, ratio) in found.items()}
    assert shares["cuda-warptile"] == ("cublas", 96)
    assert shares["cuda-tf32"] == ("cublas-tf32", 75)


def test_the_sweeps_table_has_it_at_every_size_and_the_ladder_too(run):
    comparison = comparisons(run, results(run))[0]
    text = printed(tables.sweep(comparison))
    assert "% cuBLAS" in text
    after = text[text.index("% cuBLAS") :]
    assert row(after, "cuda-warptile") == ["cuda-warptile", "96", "96"]
    assert row(after, "cuda-tf32") == ["cuda-tf32", "75", "75"]
    assert "cublas " not in after.splitlines()[2]
    assert "float32, GPU" in text
    (first, *_) = ladders(comparison)
    assert "96" in row(printed(tables.ladder(first)), "cuda-warptile")


def test_a_share_of_peak_is_of_the_kernels_own_arithmetic(run):
    shares = {r.kernel: r.share_of_peak.value for r in results(run) if r.cell["operands"] == "device"}
    assert shares["cuda-warptile"] == pytest.approx(48 / 60, rel=0.01)
    assert shares["cuda-tf32"] == pytest.approx(300 / 410, rel=0.01)
    text = printed(tables.sweep(comparisons(run, results(run))[0]))
    assert "60,000 GFLOP/s (fused multiply-add)" in text
    assert "410,000 GFLOP/s (TF32 tensor cores)" in text


def test_host_data_are_a_table_of_their_own_that_says_what_the_transfer_takes(run):
    host = next(one for one in comparisons(run, results(run)) if "operands of the host" in one.name)
    assert (
        "cublas at n = 4096: 9.00 ms, of which the transfer takes 6.00 ms and the product 2.70 ms"
        in " ".join(printed(tables.sweep(host)).split())
    )


def test_the_machine_section_names_the_card(run):
    (told,) = [text for label, text in machine(run.environment, run.of("worker")) if label == "GPU"]
    for part in ("NVIDIA H200", "132 multiprocessors", "L2 60 MiB", "driver 580.1", "at most 700 W"):
        assert part in told


def test_the_page_has_the_gpus_ceilings_and_the_column(run):
    text = reports.page(run).read_text()
    assert "What the GPU did at most" in text
    assert "DRAM copy 4,200 GB/s" in text
    assert "% of cuBLAS" in text


def test_a_cpus_run_has_none_of_it(tmp_path):
    made = Synthetic(tmp_path / "cpu", ENVIRONMENT)
    made.ceilings()
    for kernel in ("numba-ikj", "blas"):
        made.product(kernel, 64)
    run = made.done()
    text = reports.page(run).read_text()
    assert "cuBLAS" not in text
    assert "What the GPU did" not in text
