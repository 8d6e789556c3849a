"""What the project asks to be installed is complete, consistent and free of this machine."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
OWN = {"hpo_core", "tracking", "flows"}
# Modules that are imported only by those who asked for an extra, and what they may then need.
ALLOWED_IN = {
    "flows/runners/_dask.py": {"dask"},
    "flows/runners/_dask_connection.py": {"distributed"},
    "flows/runners/_dask_outpost.py": {"distributed"},
    "flows/runners/_dask_worker.py": {"distributed"},
    "flows/objectives/_mlp.py": {"torch"},
    "flows/objectives/_table_network.py": {"torch"},
    "hpo_core/testing.py": {"hypothesis", "pytest"},
}
PIN = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+")


def project() -> dict[str, Any]:
    """The project table of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"]


def declared(*extras: str) -> list[Requirement]:
    """The core requirements and those of the given extras."""
    table = project()
    lines = list(table["dependencies"])
    for extra in extras:
        lines += table["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def pins() -> dict[str, Version]:
    """Distribution and version of each line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def closure(*extras: str) -> set[str]:
    """Every distribution that the requirements bring along, as far as it is installed here."""
    found: set[str] = set()
    todo = [(requirement, "") for requirement in declared(*extras)]
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        wanted = [one for one in ("", *requirement.extras) if f"{name}[{one}]" not in found]
        found |= {f"{name}[{one}]" for one in wanted}
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        todo += [(Requirement(line), one) for line in lines for one in wanted]
    return {item.partition("[")[0] for item in found}


def test_constraints_are_plain_pins() -> None:
    """Only `name==version`: no path, address or build tag of the machine that wrote the file."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [x for x in lines if x and not x.startswith("#") and not PIN.fullmatch(x)] == []


def test_constraints_meet_the_declared_ranges() -> None:
    """Each requirement, whatever its extra, has a pin inside its range."""
    pinned = pins()
    requirements = declared(*project()["optional-dependencies"])
    missing = [str(r) for r in requirements if canonicalize_name(r.name) not in pinned]
    outside = [
        str(r)
        for r in requirements
        if r.name not in missing and not r.specifier.contains(pinned[canonicalize_name(r.name)])
    ]
    assert (missing, outside) == ([], [])


def test_constraints_pin_everything_that_make_installs() -> None:
    """Nothing that comes along floats; else a release elsewhere could break a fresh checkout."""
    assert closure("dev", "dask", "torch") - set(pins()) == set()


@pytest.mark.parametrize("version", ["0.151.0", "0.154.0", "0.155.0"])
def test_fastapi_stays_below_what_prefect_can_serve(version: str) -> None:
    """Without constraints too: newer ones answer Prefect's filter requests with 422."""
    (fastapi,) = [r for r in declared() if r.name == "fastapi"]
    assert not fastapi.specifier.contains(version)


def test_sqlalchemy_stays_below_what_prefect_can_schedule_with() -> None:
    """With 2.1 its bulk insert of scheduled runs raises: schedules of deployments never begin one."""
    (sqlalchemy,) = [r for r in declared() if r.name == "sqlalchemy"]
    assert not sqlalchemy.specifier.contains("2.1.0")


@cache
def providers() -> Mapping[str, list[str]]:
    """Which installed distributions bring a top-level name; a walk over all of them, so done once."""
    return metadata.packages_distributions()


def third_party(path: Path) -> set[str]:
    """Top-level names that a module imports when it is imported itself."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    todo: list[ast.AST] = list(module.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += [
                child
                for child in ast.iter_child_nodes(node)
                if isinstance(child, ast.stmt | ast.ExceptHandler)
            ]
    return names - OWN - sys.stdlib_module_names


def modules() -> list[Path]:
    """Every module that is installed."""
    return sorted(path for top in OWN for path in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_level_imports_are_declared(path: Path) -> None:
    """What a module needs to be imported is a core requirement; extras are imported inside functions."""
    core = {canonicalize_name(r.name) for r in declared()}
    undeclared = {
        name
        for name in third_party(path)
        if not core & {canonicalize_name(one) for one in providers().get(name, [name])}
    }
    assert undeclared - ALLOWED_IN.get(path.relative_to(ROOT).as_posix(), set()) == set()


def test_modules_of_an_extra_are_imported_only_where_needed() -> None:
    """Nothing imports a module that needs an extra before somebody has asked for it."""
    needy = {path.removesuffix(".py").replace("/", ".") for path in ALLOWED_IN}
    early = [
        (path.relative_to(ROOT).as_posix(), node.module)
        for path in modules()
        if path.relative_to(ROOT).as_posix() not in ALLOWED_IN
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module in needy
    ]
    assert early == []
