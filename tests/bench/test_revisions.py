"""Revisions: another commit's kernels with this bench, and a sentence for each way in which they do not fit."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench.isolation import processes
from bench.plans.axes import Sweep
from bench.plans.plan import names_in
from bench.timing import revisions
from bench.verdicts import compare

ROOT = Path(processes.ROOT)


def git(folder, *arguments):
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of these rooms with one commit, which the working tree is told to be."""
    folder = tmp_path / "checkout"
    for room in ("gemm", "mlp", "bench"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path, "init", "--quiet", str(folder))
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(revisions, "ROOT", folder)
    return folder


def cells(*kernels):
    return Sweep(kernels=kernels, sizes=(4, 8), threads=(1,)).cells()


def commit(folder, path, old, new):
    """Edit a file and commit it."""
    text = (folder / path).read_text()
    assert old in text
    (folder / path).write_text(text.replace(old, new))
    git(folder, "commit", "--all", "--quiet", "--message", "edited")


def test_each_cell_stands_beside_the_same_of_the_revision(checkout):
    """In one group, so that they are timed in turn; another cell by its id, with the code that was there."""
    with revisions.unpacked("HEAD") as tree:
        both = revisions.beside(cells("blas", "numba-ikj"), tree)
    assert tree.revision == git(checkout, "rev-parse", "HEAD")
    assert len(both) == 8
    for ours, theirs in zip(both[::2], both[1::2]):
        assert (ours.revision, theirs.revision) == ("", tree.revision)
        assert ours.group == theirs.group
        assert ours.source == theirs.source
        assert ours.id != theirs.id
        assert theirs.identity["revision"] == tree.revision
        assert "revision" not in ours.identity


def test_the_revisions_code_is_asked_from_the_revision(checkout):
    """Not from this process, which has imported its own."""
    commit(checkout, "gemm/ladder/blas.py", '"""blas', '"""blas of yore')
    with revisions.unpacked("HEAD") as edited, revisions.unpacked("HEAD~1") as first:
        (now, then), (_, before) = (revisions.beside(cells("blas")[:1], tree) for tree in (edited, first))
    assert now.source != then.source
    assert now.source == before.source
    assert not Path(edited.root).exists()


def test_a_worker_of_the_revision_runs_its_gemm_with_this_bench(checkout):
    """`root` is all that it takes."""
    with revisions.unpacked("HEAD") as tree:
        code = "import bench, gemm, mlp; print(bench.__file__, gemm.__file__, mlp.__file__, sep='\\n')"
        done = subprocess.run(
            [sys.executable, "-c", code], env=processes.environment(tree.root), capture_output=True, text=True
        )
        of_bench, *others = map(Path, done.stdout.split())
        assert of_bench.resolve().parent == (checkout / "bench").resolve()
        assert [path.parent.parent for path in others] == [Path(tree.root)] * 2


def test_a_kernel_that_the_revision_lacks_is_a_sentence_or_left_out(checkout):
    """Left out only where nobody has asked for it by name."""
    git(checkout, "rm", "--quiet", "gemm/ladder/numba_ijk.py")
    git(checkout, "commit", "--quiet", "--message", "without a rung")
    with revisions.unpacked("HEAD") as tree:
        with pytest.raises(ValueError, match=rf"revision {tree.short} has no kernel 'numba-ijk' \(unknown"):
            revisions.beside(cells("blas", "numba-ijk"), tree)
        kept = revisions.beside(cells("blas", "numba-ijk"), tree, shared=True)
    assert {name for cell in kept for name in names_in(cell.kernel)} == {"blas"}


MISFITS = {
    "an import": ("gemm/correctness.py", "integers_agree", "integers_equal", "cannot import name"),
    "operands": ("gemm/problems.py", "default_rng([seed, ", "default_rng([1 + seed, ", "other operands"),
    "a record": (
        "gemm/problems.py",
        "return asdict(self)",
        "return {'old': 1} | asdict(self)",
        "other operands",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_revision_that_this_bench_does_not_fit_is_refused_in_one_sentence(checkout, misfit):
    """Before anything is timed: its records would be those of another instrument."""
    path, old, new, says = MISFITS[misfit]
    commit(checkout, path, old, new)
    with revisions.unpacked("HEAD") as tree, pytest.raises(ValueError, match=says) as raised:
        revisions.beside(cells("blas"), tree)
    assert tree.short in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_git_does_not_have_is_a_sentence(checkout, tmp_path, monkeypatch):
    """An unknown name, a revision without the rooms, a folder that is no checkout, no git at all."""
    for name in ("nowhere", "--help", ""):
        with pytest.raises(ValueError, match="git knows no such revision here"), revisions.unpacked(name):
            pass
    git(checkout, "rm", "-r", "--quiet", "--cached", "mlp")
    git(checkout, "commit", "--quiet", "--message", "one room")
    git(checkout, "add", "mlp")
    with pytest.raises(ValueError, match="it has not both rooms gemm and mlp"), revisions.unpacked("HEAD"):
        pass
    monkeypatch.setattr(revisions, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="is not a git checkout of gemmlab"), revisions.unpacked("HEAD"):
        pass
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="git is not installed"), revisions.unpacked("HEAD"):
        pass


def test_an_interpreter_that_is_none_is_a_sentence(checkout, tmp_path):
    """Missing, or one without NumPy."""
    missing, other = str(tmp_path / "python"), shutil.which("false")
    for python, says in ((missing, "cannot be run"), (other, "does not fit the working tree's bench")):
        with revisions.unpacked("HEAD", python) as tree, pytest.raises(ValueError, match=says):
            revisions.beside(cells("blas"), tree)


def test_a_kernel_of_a_file_is_no_part_of_a_revision(checkout, tmp_path):
    """It says what to do instead."""
    (tmp_path / "mine.py").write_text("def f(a, b):\n    return a @ b\n")
    with (
        revisions.unpacked("HEAD") as tree,
        pytest.raises(ValueError, match="sweep two files and compare them"),
    ):
        revisions.beside(cells(f"{tmp_path}/mine.py:f"), tree)


def test_trees_of_a_killed_run_are_unpacked_anew(checkout):
    """Their folders went with the process that made them; the commit is in git."""
    with revisions.unpacked("HEAD") as tree:
        trees = {tree.revision: {"root": tree.root, "python": tree.python}}
    with revisions.restored(trees) as again:
        assert again.keys() == trees.keys()
        assert (Path(again[tree.revision]["root"]) / "gemm" / "__init__.py").exists()
    assert not Path(again[tree.revision]["root"]).exists()


@pytest.mark.slow
def test_a_revision_and_the_working_tree_are_timed_in_one_run_and_a_killed_one_is_resumed(checkout, tmp_path):
    """Each with its own code, in the same rounds: what the commit made slow is found faster here.

    When the run is resumed, the folder of the revision is gone: it is unpacked anew from git.
    """
    loops = "gemm/ladder/python_loops.py"
    commit(checkout, loops, "for p in range(len(row))", "for p in 5 * list(range(len(row)))")
    commit(checkout, loops, "c[i, j] = alpha", "total /= 5; c[i, j] = alpha")
    head = git(checkout, "rev-parse", "HEAD")
    planned = Sweep(kernels=("python", "blas"), sizes=(24,), threads=(1,)).cells()
    settings = {"launches": 2, "rounds": 2, "sample_s": 0.002, "more_s": 0.0}
    run = revisions.sweep("HEAD", planned, settings, out=tmp_path / "run")
    by = {(result.kernel, result.cell.get("revision")): result for result in bench.results(run)}
    assert by.keys() == {(kernel, revision) for kernel in ("python", "blas") for revision in (None, head)}
    # 5, but for what two launches on a busy machine come to
    assert 2 < bench.speedup(by["python", head], by["python", None]).value < 10
    assert 0.2 < bench.speedup(by["blas", head], by["blas", None]).value < 5
    found = compare.against(run)
    assert (found.base, [pair.kernel for pair in found.pairs]) == (head, ["python", "blas"])
    taken = {(line["cell"], line["launch"], line["round"]) for line in run.of("sample")}
    assert len(taken) == 4 * 2 * 2

    lines = (run.path / "records.jsonl").read_text().splitlines(keepends=True)
    kept = [text for text in lines if '"kind":"cell"' not in text and '"launch":1' not in text]
    (run.path / "records.jsonl").write_text("".join(kept))
    again = bench.resume(run.path)
    assert {cell["cell"] for cell in again.cells} == {cell["cell"] for cell in run.cells}
    assert [len(result.samples) for result in bench.results(again)] == [2] * 4
