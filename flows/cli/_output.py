"""What commands that can print JSON share."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["only_json"]


def only_json(wanted: bool) -> contextlib.AbstractContextManager[object]:
    """Keep standard output for the one JSON object, whatever an objective's module prints."""
    return contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext()
