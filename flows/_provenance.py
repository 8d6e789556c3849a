"""What a study was made with: Python, packages, the objective's code and its repository's commit."""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["changes_since", "provenance"]

# Packages that results depend on, by the names they are installed under; those of the objective's own
# module come on top.
_PACKAGES = ("mlflow-hpo", "numpy", "scipy", "scikit-learn", "pandas", "lightgbm", "xgboost", "torch")
_INSTALLED_AS = {"sklearn": "scikit-learn"}
_GIT_SECONDS = 2.0


def provenance(objective: Callable[..., Any]) -> dict[str, Any]:
    """Plain JSON: ``python``, ``packages``, and as far as there are any ``code``, ``commit`` and ``source``.

    ``code``: SHA-256 of the file that defines the objective, or of those that it names as its ``sources``;
    absent for a ready objective, which is part of this package. ``commit``: of the git repository that the
    first of them is in, with a ``+`` if tracked files there have been changed. ``source``: SHA-256 of the
    text of an objective that no file defines, as in a notebook.
    """
    objective = inspect.unwrap(objective)
    module = inspect.getmodule(objective if inspect.isroutine(objective) else type(objective))
    packages = {name: _version(name) for name in (*_PACKAGES, *_imported(module))}
    made: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": {name: version for name, version in packages.items() if version},
    }
    files = getattr(objective, "sources", None) or [Path(getattr(module, "__file__", None) or "")]
    own = all(f.is_file() and Path(__file__).resolve().parent not in f.resolve().parents for f in files)
    if own:
        made["code"] = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
        commit = _commit(files[0].resolve().parent)
        if commit:
            made["commit"] = commit
    elif not getattr(module, "__file__", None) and (source := _source(objective)):
        made["source"] = hashlib.sha256(source.encode()).hexdigest()
    return made


def _source(objective: Callable[..., Any]) -> str:
    """Its text, which a notebook keeps of its cells; nothing where nobody has it."""
    try:
        return inspect.getsource(objective if inspect.isroutine(objective) else type(objective).__call__)
    except (OSError, TypeError):
        return ""


def changes_since(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two provenances, a line each."""
    lines = []
    if then.get("python") != now.get("python"):
        lines.append(f"Python was {then.get('python')} and is {now.get('python')}")
    before, after = then.get("packages", {}), now.get("packages", {})
    different = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    lines += [f"{n} was {before.get(n, 'absent')} and is {after.get(n, 'absent')}" for n in different]
    sources = {made["source"] for made in (then, now) if made.get("source")}
    if len(sources) > 1:
        lines.append("the objective's code has changed")
    if then.get("code") != now.get("code"):
        commits = [c for c in (then.get("commit"), now.get("commit")) if c]
        at = f" (commit {commits[0]} then, {commits[1]} now)" if len(commits) == 2 else ""
        lines.append(f"the objective's file has changed{at}")
    return lines


def _imported(module: ModuleType | None) -> Iterator[str]:
    """Top-level packages whose modules, functions or classes the module has among its names."""
    names = set()
    for value in list(vars(module).values()) if module is not None else ():
        origin = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(origin, str):
            names.add(origin.partition(".")[0])
    yield from (_INSTALLED_AS.get(name, name) for name in sorted(names))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        return ""


def _commit(folder: Path) -> str:
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return ""
    return commit[:12] + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *words: str) -> str:
    """What git answers; nothing where there is no git, no repository or no answer in time."""
    try:
        said = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True, text=True, timeout=_GIT_SECONDS, check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return said.stdout.strip()
