"""The shape of the house, read from the source: arrows point down, and the core stays pure and light."""

from __future__ import annotations

import ast
import functools
import graphlib
import io
import re
import subprocess
import sys
import tokenize
import types
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hpo_core", "tracking", "flows")
ABOVE_THE_CORE = ("tracking", "flows", "benchmarks", "examples", "mlproject")
CORE_MAY_IMPORT = sys.stdlib_module_names | {
    *("hpo_core", "numpy", "scipy", "sklearn", "cmaes"),
    "threadpoolctl",  # comes with scikit-learn
    "plotly",  # inside the functions of hpo_core.plots
}
CORE_TESTING_MAY_IMPORT = CORE_MAY_IMPORT | {"hypothesis", "pytest"}
FORBIDDEN = {
    "hpo_core": {"mlflow", "prefect", "dask", "distributed", "tracking", "flows"},
    "tracking": {"prefect", "dask", "distributed", "flows"},
    "flows": set(),
}
ABOVE_THE_PACKAGES = {"benchmarks", "examples", "mlproject", "tests"}
# The clock, the environment, other processes, the network, the disk, and random numbers without a seed.
IMPURE = {
    *("datetime", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random"),
    *("secrets", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "threading"),
    *("time", "urllib"),
}
MAY_TOUCH_FILES = {"hpo_core/_journal.py"}
HEAVY = (
    *("mlflow", "prefect", "dask", "distributed", "torch", "sklearn", "scipy", "pandas", "cmaes"),
    *("matplotlib", "plotly", "lightgbm", "pyarrow"),
)
MODERN_RANDOM = {"BitGenerator", "Generator", "PCG64", "Philox", "SeedSequence", "default_rng"}
MAX_CODE_LINES, MAX_BODY_LINES, MAX_METHODS = 400, 50, 12
# One translation between configurations and the unit cube, each way, for one point or many; what counts and
# lists its points, conditions and constraints are modules of their own already.
LARGER_CLASSES = {"SearchSpace": 16}
NO_METHODS = {"property", "cached_property", "overload", "setter"}


def sources(*tops: str) -> list[Path]:
    """Every module below the given folders of the repository."""
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def relative(path: Path) -> str:
    """The path as it is written in this file."""
    return path.relative_to(ROOT).as_posix()


def broken(rule: Callable[[Path], Any], *tops: str) -> dict[str, Any]:
    """What a rule finds in the modules below the given folders, by module; empty where all keep it."""
    return {relative(path): found for path in sources(*tops) if (found := rule(path))}


@functools.cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and top-level name of everything imported by name, wherever in the module."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]
        elif (
            isinstance(node, ast.Call)
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and {getattr(node.func, "attr", ""), getattr(node.func, "id", "")}
            & {"import_module", "__import__"}
        ):
            yield node.lineno, str(node.args[0].value).partition(".")[0]


def from_the_core(module: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line, module and name of everything imported from within ``hpo_core``."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "hpo_core":
            yield from ((node.lineno, str(node.module), alias.name) for alias in node.names)


def code_lines(path: Path) -> set[int]:
    """The lines of a module that hold code: no blank lines, comments or docstrings."""
    source = path.read_text(encoding="utf-8")
    ignored = {
        *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
        *(tokenize.ENCODING, tokenize.ENDMARKER),
    }
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in ignored
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def test_arrows_point_down() -> None:
    """hpo_core knows neither shell, tracking does not know Prefect, and nobody imports what lies above."""

    def rule(path: Path) -> list[tuple[int, str]]:
        forbidden = FORBIDDEN[relative(path).partition("/")[0]] | ABOVE_THE_PACKAGES
        return [found for found in imports(tree(path)) if found[1] in forbidden]

    assert broken(rule, *PACKAGES) == {}


def test_dask_is_known_to_runners_alone_and_prefect_to_none_of_them() -> None:
    """Who awaits a runner need not know where it computes, nor the runner who waits."""

    def rule(path: Path) -> list[tuple[int, str]]:
        of_a_runner = relative(path).startswith("flows/runners/")
        forbidden = {"prefect"} if of_a_runner else {"dask", "distributed"}
        return [found for found in imports(tree(path)) if found[1] in forbidden]

    assert sources("flows/runners")
    assert broken(rule, "flows") == {}


def test_no_two_modules_need_each_other() -> None:
    """Not even for annotations. The face of a package hands names on, and is no part of a circle."""
    modules = {
        relative(path).removesuffix(".py").replace("/", "."): path
        for path in sources(*PACKAGES)
        if path.name != "__init__.py"
    }
    needed = {
        name: {
            found
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            for found in (str(node.module), f"{node.module}.{alias.name}")
            if found in modules
        }
        for name, path in modules.items()
    }
    graphlib.TopologicalSorter(needed).prepare()  # raises CycleError, with the circle


def test_the_other_packages_use_what_the_core_offers_them() -> None:
    """No module of the core with an underscore: what they need beyond its public face is `hpo_core.inner`."""

    def rule(path: Path) -> list[tuple[int, str, str]]:
        found = from_the_core(tree(path))
        return [(line, of, name) for line, of, name in found if re.search(r"(^|\.)_", f"{of}.{name}")]

    assert broken(rule, *ABOVE_THE_CORE) == {}


@pytest.mark.parametrize("name", ["hpo_core.inner", "hpo_core.plots.inner"])
def test_the_core_offers_them_what_they_use(name: str) -> None:
    """And nothing else: what none of them imports any more is taken out."""
    offered = import_module(name).__all__
    used = {n for path in sources(*ABOVE_THE_CORE) for _, of, n in from_the_core(tree(path)) if of == name}
    assert offered == sorted(used, key=in_order)


def test_core_imports_only_its_four_libraries() -> None:
    """Nothing but numpy, scipy, scikit-learn and cmaes; the conformance suite adds pytest."""

    def rule(path: Path) -> list[tuple[int, str]]:
        allowed = CORE_TESTING_MAY_IMPORT if "testing" in relative(path) else CORE_MAY_IMPORT
        return [found for found in imports(tree(path)) if found[1] not in allowed]

    assert broken(rule, "hpo_core") == {}


def test_core_touches_no_clock_environment_network_or_file() -> None:
    """Time, seeds and results arrive as arguments; the journal alone reads and writes files."""

    def rule(path: Path) -> list[tuple[int, str]]:
        if relative(path) in MAY_TOUCH_FILES or "testing" in relative(path):
            return []
        module = tree(path)
        opened = [
            (node.lineno, "open")
            for node in ast.walk(module)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
        ]
        return [found for found in imports(module) if found[1] in IMPURE] + opened

    assert broken(rule, "hpo_core") == {}


def test_docstring_is_the_first_statement() -> None:
    """A docstring after `from __future__` is no docstring: Python ignores it."""

    def rule(path: Path) -> bool:
        module = tree(path)
        empty = not module.body and relative(path).startswith("tests/")
        return not empty and not ast.get_docstring(module)

    assert broken(rule, *PACKAGES, "examples", "benchmarks", "tests") == {}


def test_no_legacy_random_numbers() -> None:
    """Random numbers come from a Generator that was passed in, never from a global state."""

    def rule(path: Path) -> list[tuple[int, str]]:
        legacy = [
            (node.lineno, ast.unparse(node))
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Attribute)
            and node.attr not in MODERN_RANDOM
            and ast.unparse(node.value) in {"np.random", "numpy.random"}
        ]
        named = [
            (node.lineno, alias.name)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ImportFrom) and node.module == "numpy.random"
            for alias in node.names
            if alias.name not in MODERN_RANDOM
        ]
        return legacy + named + [found for found in imports(tree(path)) if found[1] == "random"]

    assert broken(rule, *PACKAGES) == {}


def test_each_exception_from_a_rule_says_why() -> None:
    """Whoever silences a check gives the reason on the same line."""

    def rule(path: Path) -> list[tuple[int, str]]:
        return [
            (number, line.strip())
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
            if re.search(r"# (noqa|type: ignore)", line)
            and not re.search(r"# noqa: [A-Z0-9, ]+ - \w|# type: ignore\[[a-z-]+\] +# \w", line)
        ]

    assert broken(rule, *PACKAGES) == {}


def test_modules_stay_readable_in_one_sitting() -> None:
    """At most 400 lines of code, and 50 in the body of a function; docstrings and comments are free."""

    def rule(path: Path) -> list[tuple[int, str]]:
        lines = code_lines(path)
        long = [
            (node.lineno, node.name)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and len(lines & set(range(node.body[0].lineno, (node.end_lineno or 0) + 1))) > MAX_BODY_LINES
        ]
        return long + ([(0, "the module")] if len(lines) > MAX_CODE_LINES else [])

    assert broken(rule, *PACKAGES) == {}


def public_methods(node: ast.ClassDef) -> list[str]:
    """Names of what can be called, each once; properties are read."""
    return [
        method.name
        for method in node.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        and not method.name.startswith("_")
        and not any(re.split(r"[.(]", ast.unparse(d))[-1] in NO_METHODS for d in method.decorator_list)
    ]


def test_no_class_does_everything() -> None:
    """At most twelve public methods, properties aside."""

    def rule(path: Path) -> list[tuple[str, int]]:
        classes = (node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))
        counts = ((node.name, len(public_methods(node))) for node in classes)
        return [(name, count) for name, count in counts if count > LARGER_CLASSES.get(name, MAX_METHODS)]

    assert broken(rule, *PACKAGES) == {}


def public_packages() -> list[str]:
    """Dotted names of the packages that anybody may import from."""
    inits = [path for path in sources(*PACKAGES) if path.name == "__init__.py"]
    names = [".".join(path.parent.relative_to(ROOT).parts) for path in inits]
    return [name for name in names if not any(part[0] == "_" for part in name.split("."))]


def is_ours(value: object) -> bool:
    """Made in this project; a constant, which does not say where it was made, counts as ours."""
    origin = getattr(value, "__module__", None) or PACKAGES[0]
    return str(origin).partition(".")[0] in PACKAGES


def in_order(name: str) -> tuple[int, str]:
    """Sort key of `__all__`, the same as ruff's: CONSTANTS, Classes, functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", public_packages())
def test_public_surface_is_what_all_says(name: str) -> None:
    """`__all__` is sorted, each of its names resolves, and nothing else of ours is visible."""
    package = import_module(name)
    declared = getattr(package, "__all__", [])
    visible = {
        key
        for key, value in vars(package).items()
        if key[0] != "_" and not isinstance(value, types.ModuleType) and is_ours(value)
    }
    assert list(declared) == sorted(set(declared), key=in_order)
    assert visible - set(declared) == set()
    assert [key for key in declared if not hasattr(package, key)] == []


@pytest.mark.skipif(not sources("hpo_core"), reason="no hpo_core to import")
def test_core_imports_light() -> None:
    """A fresh interpreter that imports hpo_core has loaded no heavy library."""
    program = f"import hpo_core, sys; print(*(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert done.stdout.split() == []
