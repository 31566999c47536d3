"""The house: imports only go down, never up and never in a circle; only bench has a clock."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bench

ROOT = Path(__file__).parent.parent
ROOMS = ["gemm", "mlp", "bench", "reports", "gemmlab"]  # from the ground up
FILES = [path for room in ROOMS[:-1] for path in sorted((ROOT / room).rglob("*.py"))] + [ROOT / "gemmlab.py"]


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path, outside_functions=False):
    """Modules that a file imports; with `outside_functions`, only when it is itself imported."""
    tree = ast.parse(path.read_text())
    if outside_functions:
        nodes = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If)]
    else:
        nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_only_go_down(path):
    """reports -> bench -> mlp -> gemm; the front door sees all of them."""
    here = ROOMS.index(module(path).partition(".")[0])
    rooms = {name.partition(".")[0] for name in imports(path)} & set(ROOMS)
    above = [room for room in rooms if ROOMS.index(room) > here]
    assert not above, f"{module(path)} imports upward: {above}"


WINGS = ["records", "host", "peers", "isolation", "plans", "verdicts", "timing", "exchange"]  # of bench


@pytest.mark.parametrize(
    "path", [p for p in FILES if module(p).startswith(tuple(f"bench.{wing}" for wing in WINGS))], ids=module
)
def test_a_wing_of_bench_uses_those_before_it_only(path):
    """Nothing in them knows of the commands above."""
    here = WINGS.index(module(path).split(".")[1])
    used = {name.split(".")[1] for name in imports(path) if name.startswith("bench.")}
    known = set(WINGS[: here + 1]) | set(bench.__all__)
    assert not used - known, f"{module(path)} imports {sorted(used - known)}"


def test_no_module_imports_in_a_circle():
    """Within rooms too, at import time."""
    known = {module(path): path for path in FILES}
    edges = {
        name: {found for found in imports(path, outside_functions=True) if found in known and found != name}
        for name, path in known.items()
    }
    # `from gemm import threads` imports the package first, which is not a dependency on all of it
    done, walking = set(), []

    def visit(name):
        assert name not in walking, " -> ".join([*walking[walking.index(name) :], name])
        if name not in done:
            walking.append(name)
            for target in sorted(edges[name]):
                if not name.startswith(f"{target}."):
                    visit(target)
            done.add(walking.pop())

    for name in edges:
        visit(name)


@pytest.mark.parametrize(
    "path", [p for p in FILES if module(p).partition(".")[0] in ("gemm", "mlp", "reports")], ids=module
)
def test_only_bench_has_a_clock(path):
    """A kernel, a layer or a figure never times itself."""
    clocks = {name.partition(".")[0] for name in imports(path)} & {"time", "timeit", "datetime"}
    assert not clocks


@pytest.mark.parametrize("path", FILES, ids=module)
def test_every_file_says_its_idea_in_its_first_line(path):
    """One idea a file, one sentence."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].rstrip().endswith((".", ":", "?")), docstring.splitlines()[0]


def test_no_module_bears_the_name_of_a_public_function():
    """`gemm/kernels/` would shadow `gemm.kernels()`."""
    import bench
    import gemm
    import mlp
    import reports

    for room in (gemm, mlp, bench, reports):
        modules = {path.stem for path in (ROOT / room.__name__).iterdir()}
        for name in modules & set(dir(room)):
            value = getattr(room, name)
            assert type(value).__name__ == "module", f"{room.__name__}/{name} hides {room.__name__}.{name}"


@pytest.mark.parametrize(
    ("room", "never"),
    [
        ("gemm", {"numba", "scipy", "sklearn", "matplotlib", "typer"}),
        ("mlp", {"numba", "scipy", "sklearn", "matplotlib", "typer"}),
        ("bench", {"numba", "scipy", "sklearn", "matplotlib", "numpy"}),
        ("gemmlab", {"numba", "scipy", "sklearn", "matplotlib", "jinja2", "pandas"}),
    ],
)
def test_rooms_are_cheap_to_import(room, never):
    """Everything heavy is imported where it is needed, when it is needed."""
    code = f"import {room}, sys; print(*[name for name in {sorted(never)!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
