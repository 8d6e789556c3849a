"""A hash of the source that a sampler's decisions depend on."""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

__all__ = ["source_hash"]

_ROOT = Path(__file__).parent.parent
_MODULE = re.compile(r"hpo_core(\.\w+)+")


def source_hash(sampler: str) -> str:
    """Twelve hex digits that change when the sampler's module, or one that it imports, changes.

    Imports are followed inside ``hpo_core``, those inside functions and by name too. A sampler whose module
    cannot be told from its name depends on all of ``hpo_core``.
    """
    start = _ROOT / "hpo_core" / "samplers" / f"_{sampler}.py"
    files = _closure(start) if start.exists() else sorted((_ROOT / "hpo_core").rglob("*.py"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path.relative_to(_ROOT)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _closure(start: Path) -> list[Path]:
    """``start`` and every file of ``hpo_core`` that it imports, directly or not, sorted."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(_imports(path))
    return sorted(seen)


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from package import module` names a module only together with its alias
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
            found.add(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # "hpo_core.samplers._gp" or "hpo_core.samplers._gp:GP", to be imported when it is needed
            found.add(node.value.partition(":")[0])
    paths = []
    for name in found:
        # The package's own face imports everything; samplers import the modules that they need.
        if _MODULE.fullmatch(name):
            module = _ROOT.joinpath(*name.split("."))
            paths += [p for p in (module.with_suffix(".py"), module / "__init__.py") if p.exists()]
    return tuple(sorted(paths))
