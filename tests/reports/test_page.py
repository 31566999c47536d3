"""The page: one file, offline, complete, and fit to be looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import reports
from bench.records import Run, RunError

VOID = {"meta", "link", "input", "br", "use", "path", "rect"}


class Elements(HTMLParser):
    """Every element with its attributes and text; fails on one that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def assert_offline(text: str) -> None:
    for tag, attributes in Elements(text).found:
        assert tag not in ("script", "iframe", "object", "embed", "img", "base"), tag
        for name in ("src", "href", "action", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import|https?://", text)


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    """No script, no request; and a policy that forbids both, whatever a record holds."""
    assert_offline(page)
    assert "default-src 'none'" in page


def test_ids_are_unique_and_every_reference_has_its_target(page: str) -> None:
    found = Elements(page).found
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = re.findall(r"url\(#([^)]+)\)", page)
    wanted += [
        (attributes["href"] or "")[1:]
        for _, attributes in found
        if (attributes.get("href") or "").startswith("#")
    ]
    wanted += [one for _, attributes in found for one in (attributes.get("aria-labelledby") or "").split()]
    assert set(wanted) <= set(ids)


def test_every_variable_that_is_used_is_set_in_light_and_in_dark(page: str) -> None:
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    light, *darks = re.findall(r"color-scheme: (?:light|dark); (.*?) }", page)
    assert len(darks) == 2  # asked for by the system, or by the reader
    for theme in (light, *darks):
        assert used <= set(re.findall(r"(--[\w-]+):", theme))
    assert {"--ink", "--k-blas", "--k-cublas", "--op-dW"} <= used


def test_every_cell_is_there_with_its_status(page: str, whole: Run) -> None:
    rows = re.findall(r"<tr>.*?</tr>", page[page.index('id="cells"') :], re.S)[1:]
    assert len(rows) == len(whole.cells)
    for row, cell in zip(rows, whole.cells):
        assert cell["kernel"] in row
        assert f"<span>{cell['status']}</span>" in row
        assert not cell["reason"] or cell["reason"] in row


def test_what_went_wrong_is_said_at_the_top_and_not_by_colour_alone(page: str) -> None:
    top = page[: page.index("<main>")]
    assert "row 511 of C is not written" in top
    marks = dict(re.findall(r'data-mark="(.)"><span>(\w+)</span>', page))
    assert marks == {"✓": "ok", "↷": "skipped", "○": "unavailable", "✗": "wrong"}


def test_a_skipped_cell_shows_its_prediction(page: str) -> None:
    assert "2.6 min predicted" in page


def test_findings_figures_and_tables_come_in_a_speakers_order(page: str, whole: Run) -> None:
    text = Elements(page).text
    headings = ["How fast, and how near", "What each rung", "What a training step is", "The machine, and the command",
                "How to read this", "Every cell"]  # fmt: skip
    places = [text.index(words) for words in (*reports.findings(whole), *headings)]
    assert places == sorted(places)
    assert "three nested loops" in text  # the idea of a rung
    assert "gemmlab sweep --out /home/ada/runs/first" in text
    assert re.search(r"The rows account for 97\.\d %", text)


def test_wide_tables_scroll_inside_their_own_box(page: str) -> None:
    """Each can be reached and read out without a mouse."""
    for before in page.split("<table>")[:-1]:
        box = before[before.rindex("<div") :]
        assert 'class="box"' in box
        assert 'tabindex="0"' in box
        assert "aria-label=" in box


def test_a_public_page_does_not_tell_who_or_where(degenerate: dict[str, Run], tmp_path: Path) -> None:
    run = degenerate["one cell"]
    for line in run.of("cell")[:1]:
        line["reason"] = "ada on difference-engine: /home/ada/lab/secret/kernel.py is broken"
        line["kernel"] = "/home/ada/secret/mine.py:fn"
    run.environment["variables"]["LD_PRELOAD"] = "/home/ada/lib/x.so:~/secret/y.so"
    text = reports.page(run, tmp_path / "public.html", public=True).read_text(encoding="utf-8")
    for secret in ("ada", "difference-engine", "/home", "secret", ".venv", "lab/"):
        assert not re.search(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", text), secret
    for kept in (
        "mine.py:fn",
        "kernel.py is broken",
        "openblas 0.3.31",
        "Synthetic EPYC",
        "gemmlab sweep",
        "x.so",
    ):
        assert kept in text
    private = reports.page(run, tmp_path / "private.html").read_text(encoding="utf-8")
    assert "difference-engine" in private
    assert "/home/ada" in private
    assert run.environment["host"] == "difference-engine"  # and the run itself is as it was


@pytest.mark.parametrize("home", ["/home/grace", "/Users/grace", "/root", "C:\\Users\\grace"])
def test_a_home_folder_is_left_out_also_where_the_user_is_not_on_record(home: str) -> None:
    from bench.exchange.public import without_places

    run = Run(Path("runs"), {"command": ["gemmlab", f"--out={home}"]}, {}, [], [f"{home} x: unreadable"])
    run.environment["host"] = "eve"
    assert "host" not in without_places(run).environment
    shown = str(without_places(run))
    assert home not in shown
    assert "grace" not in shown
    assert "unreadable" in shown


def test_records_cannot_write_into_the_page(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("<script>alert(1)</script>", 64, seconds=1e-3)
    run.product("blas", 64, "failed", reason="<img src=http://evil.example onerror=alert(1)>")
    text = reports.page(run.done()).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img" not in text


DEGENERATE = ("empty", "one cell", "only unavailable", "no environment", "only a profile")


@pytest.mark.parametrize("what", DEGENERATE)
def test_next_to_nothing_makes_a_page_too(degenerate: dict[str, Run], what: str) -> None:
    run = degenerate[what]
    text = reports.page(run).read_text(encoding="utf-8")
    assert_offline(text)
    for cell in run.cells:
        assert f"<span>{cell['status']}</span>" in text
    if what in ("empty", "only unavailable"):
        assert "nothing to compare" in text
    if what == "no environment":
        assert "environment.json: missing" in text
        assert "Nothing is on record" in text


@pytest.mark.parametrize("what", DEGENERATE)
def test_next_to_nothing_makes_figures_and_tables_too(degenerate: dict[str, Run], what: str, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    drawn = reports.figures(degenerate[what], tmp_path)
    assert bool(drawn) == (what not in ("empty", "only unavailable"))
    reports.show(degenerate[what])
    assert bool(capsys.readouterr().out) == (what != "empty")


def test_every_key_of_the_environment_may_be_missing_or_strange(synthetic: Callable[..., Any]) -> None:
    from reports.machine import machine

    run = synthetic()
    run.product("blas", 64)
    full = dict(run.done().environment)
    for key in full:
        assert machine({name: value for name, value in full.items() if name != key})
        machine(full | {key: None})
        machine(full | {key: "a word"})
        machine(full | {key: {"a": {"b": [1, 2]}}})
    assert machine({}) == []


def test_lines_that_were_left_out_are_named(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("blas", 64)
    run.done()
    with open(run.folder / "records.jsonl", "a") as file:
        file.write('{"cut": ')
    assert "cut short; left out" in reports.page(run.folder).read_text(encoding="utf-8")


def test_several_runs_stand_side_by_side_under_their_names(whole: Run, another: Run, tmp_path: Path) -> None:
    text = reports.page([whole, another.path], tmp_path / "both.html").read_text(encoding="utf-8")
    assert text.count("GFLOP/s against size: float32, 2 threads – whole (difference-engine)") > 0
    assert text.count("GFLOP/s against size: float32, 2 threads – another (analytical-engine)") > 0
    rows = re.findall(r"<tr>.*?</tr>", text[text.index('id="cells"') :], re.S)
    assert len(rows) == 2 + len(whole.cells) + len(another.cells)
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_a_page_of_one_run_lies_in_its_folder_and_of_several_in_the_current_one(
    degenerate: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = degenerate["one cell"], degenerate["empty"]
    monkeypatch.chdir(tmp_path)
    assert reports.page(one) == one.path / "report.html"
    assert reports.page([one, other]).resolve() == tmp_path / "report.html"


def test_a_baseline_that_was_not_measured_is_refused(whole: Run) -> None:
    with pytest.raises(
        ValueError, match=r"baseline 'cublas' was not measured .* measured kernels: python, numpy-dot"
    ):
        reports.page(whole, baseline="cublas")


def test_a_page_that_cannot_be_written_is_one_sentence(degenerate: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        reports.page(degenerate["one cell"], tmp_path / "no" / "such" / "folder.html")


def picture(path: Path) -> tuple[int, float]:
    """Number of colours, and the share of pixels that are not the most frequent one's."""
    from PIL import Image

    with Image.open(path) as image:
        counts = [count for count, _ in image.convert("RGB").getcolors(1 << 24)]
    return len(counts), 1 - max(counts) / sum(counts)


def console(said: str) -> list[str]:
    return [line for line in said.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_chromium_shows_the_page_without_a_complaint(
    page: str, whole: Run, chromium: Callable[..., str], tmp_path: Path, scheme: int
) -> None:
    shot = tmp_path / "shot.png"
    said = chromium(whole.path / "report.html", f"--screenshot={shot}", "--window-size=1280,1600",
                    f"--blink-settings=preferredColorScheme={scheme}")  # fmt: skip
    assert console(said) == []
    colours, inked = picture(shot)
    assert colours > 50
    assert 0.02 < inked < 0.6


WIDTHS = (360, 390, 768, 850, 1280)
MEASURE = """
onload = () => {
  document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument
    const texts = [...page.querySelectorAll("figure text")].filter(text => text.getClientRects().length)
    const cut = texts.filter(text => {
      const box = text.getBoundingClientRect(), around = text.closest("svg").getBoundingClientRect()
      return box.left < around.left - 1 || box.right > around.right + 1
    })
    return {
      wide: page.documentElement.scrollWidth, shown: texts.length, cut: cut.map(text => text.textContent),
      least: Math.min(...texts.map(text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)),
    }
  }))
}
"""


@pytest.mark.parametrize("what", ["whole", "later"])
def test_nothing_sticks_out_and_letters_stay_readable(
    page: str, whole: Run, later: Run, chromium: Callable[..., str], tmp_path: Path, what: str
) -> None:
    """In frames as wide as phones, a tablet, desktops: no sideways scrolling, no letter below 10 pixels."""
    source = (whole.path / "report.html" if what == "whole" else reports.page(later)).as_uri()
    frames = (
        f'<iframe src="{source}" style="width:{width}px;height:800px;border:0"></iframe>' for width in WIDTHS
    )
    holder = tmp_path / "frames.html"
    holder.write_text(f"{''.join(frames)}<script>{MEASURE}</script>")
    said = chromium(holder, "--allow-file-access-from-files", "--dump-dom", "--virtual-time-budget=5000")
    found = re.search(r"<title>(.*?)</title>", said)
    assert found, said
    for width, measured in zip(WIDTHS, json.loads(found[1]), strict=True):
        assert measured["wide"] <= width
        assert measured["shown"] > 40
        assert measured["least"] >= 10, width
        assert measured["cut"] == [], width


DOUBT = {"kind": "drift", "sentence": "the machine changed speed while it ran"}
SECOND = {"kind": "foreign-load", "sentence": "others kept 1.2 of 2 cores busy"}
BOUND = {
    "by": "arithmetic",
    "level": "L2",
    "shares": {"arithmetic": 0.84, "bandwidth": 0.2, "overhead": 0.01},
}


@pytest.fixture
def later(synthetic: Callable[..., Any]) -> Run:
    """A run with everything that later records have."""
    run = synthetic()
    run.ceilings()
    run.bandwidths()
    run.writer.append("worker", "", launch=0, kernel="blas", threads=2, threading_layer=None, twin=False, libraries=[
        {"api": "blas", "name": "openblas", "version": "0.3.31", "core_type": "Zen", "threads": 2,
         "path": "/home/ada/.venv/lib/libopenblas.so"}])  # fmt: skip
    run.product("numba-blocked", 512, seconds=2e-3, bound=BOUND, payback={"blas": 1240}, first_call_s=2.1,
                first_call_cached_s=0.4, doubts=[SECOND, DOUBT], ended="narrow")  # fmt: skip
    run.product(
        "blas", 512, seconds=1e-3, bound=BOUND | {"by": "itself"}, payback={}, twin=1.02, ended="launches"
    )
    run.product("blas", 64, twin=1.3, ended="budget", cache="cold", problem={"data": "zeros", "op_b": "t"})
    run.product("blas", 512, seconds=1.1e-3, revision="0123456789abcdef")
    return run.done()


@pytest.fixture
def later_page(later: Run, tmp_path: Path) -> str:
    return reports.page(later, tmp_path / "later.html").read_text(encoding="utf-8")


def row(page: str, *words: str) -> str:
    """The row of the table of every cell with these words in it, as plain text."""
    rows = re.findall(r"<tr>.*?</tr>", page[page.index('id="cells"') :], re.S)
    (found,) = (text for one in rows if all(word in (text := Elements(one).text) for word in words))
    return found


def test_a_doubt_stands_beside_its_cell_and_what_it_means_for_the_findings_on_top(later_page: str) -> None:
    text = row(later_page, "numba-blocked", "n = 512")
    assert "2.00 ms" in text or "ms ?" in text
    assert "others kept 1.2 of 2 cores busy" in text
    assert "the machine changed speed while it ran" in text
    assert 'data-mark="?"><span>ok</span>' in later_page
    assert "?" not in row(later_page, "n = 64")
    top = Elements(later_page[: later_page.index("<main>")] + "</div></body></html>").text
    assert "numba-blocked at n = 512 on 2 threads: the machine changed speed while it ran" in top
    assert "something disturbed 1 of 4 cells" in top
    assert "In doubt: the machine changed speed, other load." in top
    assert top.index("In doubt: ") < top.index("numba-blocked at n = 512 on 2 threads: ")  # the answer first


def test_a_run_without_doubts_has_no_notice_of_them(page: str) -> None:
    assert "In doubt" not in page
    assert 'class="notice quiet"' not in page


def test_each_cell_says_what_bounds_it_and_what_ended_its_sampling(later_page: str) -> None:
    assert "arithmetic 84 %" in row(later_page, "numba-blocked")
    assert "stopped: narrow enough" in row(later_page, "numba-blocked")
    assert "stopped: no time left" in row(later_page, "n = 64")
    assert "stopped" not in row(later_page, "blas n = 512", "itself")
    assert "84 % of its time is what the multiply-adds alone need" in later_page


def test_axes_that_are_not_plain_are_told_in_titles_and_cells(later_page: str) -> None:
    assert "float32, 2 threads, A Bᵀ, cold cache, zeros data" in later_page
    assert "n = 64 float32, A Bᵀ, zeros data 2 threads, cold cache" in row(later_page, "n = 64")
    assert "hot" not in row(later_page, "numba-blocked")
    assert "blas 0123456789ab" in row(later_page, "0123456789ab")
    assert "0123456789abc" not in later_page[later_page.index('id="cells"') :]


def test_the_floor_is_a_table_and_a_sentence(later_page: str) -> None:
    table = later_page[later_page.index("How small a difference means something") :]
    text = Elements(table[table.index("<table") : table.index("</table>") + 8]).text
    assert "blas 64 ≤ n < 256, cold 2 30 % 0.769 0.769–0.769" in text
    assert "blas n ≥ 256 2 2.0 % 0.980 0.980–0.980" in text
    assert "A/A: blas against itself differs by up to 2.0 % at n ≥ 256 on 2 threads" in later_page


def test_first_calls_and_what_they_pay_are_a_table(later_page: str) -> None:
    table = later_page[later_page.index("What the first call costs") :]
    text = Elements(table[table.index("<table") : table.index("</table>") + 8]).text
    assert re.search(r"numba-blocked 2\.10 s 400 ms \S+ ms after 1,240 calls against blas", text)
    assert re.search(r" blas 400 ms – \S+ (ms|µs) starts first", text)


def test_ceilings_are_one_compact_table(later_page: str) -> None:
    table = later_page[later_page.index('aria-label="ceilings') :]
    text = Elements(table[table.index("<table") : table.index("</table>") + 8]).text
    assert re.fullmatch(
        r"2 threads float32 15\d GFLOP/s GB/s read write copy L1 320 200 400 L2 160 100 200 L3 80\.0 50\.0 100 "
        r"DRAM 21\.0 10\.5 21\.0",
        text,
    )


def test_a_public_page_leaves_out_where_libraries_lie(later: Run, later_page: str, tmp_path: Path) -> None:
    assert "/home/ada/.venv/lib/libopenblas.so" in later_page
    later.environment["executable"] = "/home/ada/.venv/bin/python"
    later.environment["kernel_options"] = ["isolcpus=1", "tsc=/home/ada/x"]
    text = reports.page(later, tmp_path / "public.html", public=True).read_text(encoding="utf-8")
    assert "openblas 0.3.31, Zen (by blas)" in text
    assert "isolcpus=1" in text
    assert not re.search(r"/home|(?<![\w-])ada(?![\w-])|difference-engine|\.venv", text)
