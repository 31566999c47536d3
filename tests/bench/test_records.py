"""Records: nothing measured is lost, whatever happens to the file."""

import json
import math

import pytest

from bench import records
from bench.records import RunError, Writer, cell_id, load


@pytest.fixture
def folder(tmp_path):
    """A run folder with three lines."""
    writer = Writer(tmp_path, "r")
    for number in range(3):
        writer.append("sample", "c", launch=0, round=number, order=0, loops=1, seconds=0.5)
    writer.close()
    for name in ("environment", "plan"):
        records.write_json(tmp_path / f"{name}.json", {"rounds": 3})
    return tmp_path


def test_every_line_is_in_the_file_when_append_returns(tmp_path):
    """Not when the file is closed: a killed run loses nothing."""
    writer = Writer(tmp_path, "r")
    writer.append("sample", "c", seconds=1.0)
    line = json.loads((tmp_path / "records.jsonl").read_text())
    assert {"schema", "kind", "run", "cell", "time"} <= line.keys()
    writer.close()


def test_non_finite_numbers_are_strings_and_come_back_as_numbers(tmp_path):
    """JSON has no NaN."""
    writer = Writer(tmp_path, "r")
    values = [math.nan, math.inf, -math.inf, 1.5]
    problem = {"m": 1, "n": 1, "k": 1, "dtype": "float32"}
    writer.append("cell", "c", kernel="k", threads=1, status="ok", problem=problem, values=values)
    writer.close()
    (line,) = load(tmp_path).lines
    assert line["values"] == ["nan", "inf", "-inf", 1.5]
    assert math.isnan(records.number("nan"))
    assert records.number("-inf") == -math.inf


def test_a_cut_last_line_is_named_and_the_rest_used(folder):
    """What a SIGKILL in the middle of a write leaves behind."""
    path = folder / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    run = load(folder)
    assert len(run.lines) == 2
    assert run.warnings == ["records.jsonl line 3: cut short; left out"]


def test_writing_on_after_a_cut_line_starts_a_new_one(folder):
    """The next record does not stick to the half of another."""
    path = folder / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    writer = Writer(folder, "r")
    writer.append("sample", "d", launch=0, round=0, order=0, loops=1, seconds=1.0)
    writer.close()
    assert [line["cell"] for line in load(folder).lines] == ["c", "c", "d"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"name": "something else"}', "not a record of gemmlab's"),
        ("[1, 2]", "not a record of gemmlab's"),
        ('{"schema": 99, "kind": "cell", "cell": "x"}', "of schema 99, this gemmlab reads 1"),
        ("\x00\x01", "not JSON"),
        ('{"schema": 1, "kind": "sample", "cell": "x", "round": 0}', "a sample without launch"),
        (
            '{"schema": 1, "kind": "cell", "cell": "x", "kernel": "k", "threads": 1, "status": "ok", "problem": 3}',
            "a cell without problem.m",
        ),
        (
            '{"schema": 1, "kind": "sample", "cell": "x", "launch": 0, "round": 0, "order": 0, "loops": 1, "seconds": 0}',  # noqa: E501
            "a sample whose seconds is 0",
        ),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_foreign_line_is_named_and_the_rest_used(folder, text, why):
    """With its line number."""
    with open(folder / "records.jsonl", "a") as file:
        file.write(text + "\n")
    run = load(folder)
    assert len(run.lines) == 3
    assert run.warnings == [f"records.jsonl line 4: {why}; left out"]


def test_a_run_whose_only_line_was_cut_can_still_be_read(tmp_path):
    """Killed in the middle of the first write: there is nothing yet, and it can be resumed."""
    (tmp_path / "records.jsonl").write_text('{"cell":"c","ki')
    assert load(tmp_path).lines == []


def test_two_writers_of_one_run_are_one_too_many(folder):
    """The second refuses: launches would be recorded twice."""
    writer = Writer(folder, "r")
    with pytest.raises(RunError, match="another process is writing this run"):
        Writer(folder, "r")
    writer.close()
    Writer(folder, "r").close()


def test_a_file_of_something_else_is_refused(tmp_path):
    """One sentence, with what its first line is."""
    (tmp_path / "records.jsonl").write_text("name,value\na,1\n")
    with pytest.raises(RunError, match="holds no record of gemmlab's"):
        load(tmp_path)


def test_a_folder_without_records_is_refused(tmp_path):
    """It says what a run is."""
    with pytest.raises(RunError, match=r"no records\.jsonl there"):
        load(tmp_path)


def test_a_missing_environment_is_a_warning(folder):
    """The records are still worth reading."""
    (folder / "environment.json").unlink()
    run = load(folder)
    assert len(run.lines) == 3
    assert "environment.json: missing" in run.warnings[0]


def test_a_cells_id_is_of_its_content_not_of_its_order():
    """Canonical JSON: the same cell, the same id, on any machine."""
    assert cell_id({"a": 1, "b": [2.0, None]}) == cell_id({"b": [2.0, None], "a": 1})
    assert cell_id({"a": 1}) != cell_id({"a": 2})


def test_a_folder_that_holds_a_run_is_not_written_over(folder):
    """It says how to go on."""
    with pytest.raises(RunError, match="already holds a run; finish it with --resume"):
        records.new_folder(folder, "x")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    """Here: a file is in the way."""
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        records.new_folder(tmp_path / "file" / "run", "x")


def test_new_folders_do_not_collide(tmp_path, monkeypatch):
    """Two runs begun in the same second get two folders."""
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        folders.append(records.new_folder(None, "x"))
        (folders[-1] / "records.jsonl").touch()
    assert len(set(folders)) == 3
    assert records.latest() in folders


def test_no_runs_yet_is_a_sentence(tmp_path):
    """It says what makes one."""
    with pytest.raises(RunError, match="holds no run yet"):
        records.latest(tmp_path)
