"""Make a user's own modules importable, as ``python their_script.py`` would."""

from __future__ import annotations

import sys
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
