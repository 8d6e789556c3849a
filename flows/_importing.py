"""Imports: of a user's own modules, as ``python their_script.py`` would, and ours in processes of ours."""

from __future__ import annotations

import sys
from pathlib import Path

# The folder that our packages are in; they need not be installed.
PACKAGES = Path(__file__).resolve().parent.parent
_FIND_PACKAGES = "import sys; sys.path.insert(0, sys.argv.pop(1))"


def python_command(statement: str, *arguments: object) -> list[str]:
    """The command of a process that finds our packages and runs ``statement``, with ``arguments`` to read."""
    return [sys.executable, "-c", f"{_FIND_PACKAGES}; {statement}", str(PACKAGES), *map(str, arguments)]


def make_importable(folder: Path) -> None:
    """Put ``folder`` into ``sys.path``: before what is installed, after the standard library.

    A user's ``metrics.py`` must win over a package of that name; their ``json.py`` must not break Prefect.
    """
    entry = str(folder.resolve())
    if entry in sys.path:
        return
    installed = (i for i, known in enumerate(sys.path) if known.endswith(("site-packages", "dist-packages")))
    sys.path.insert(next(installed, len(sys.path)), entry)
