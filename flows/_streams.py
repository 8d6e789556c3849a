"""What is printed: a sign that has no place in an encoding is no reason to fail."""

from __future__ import annotations

import io
import sys

# Of a stream that fails at such a sign; the second is Python's own in the locale C.
_FAIL = ("strict", "surrogateescape")


def write_anything(encoding: str | None = None) -> None:
    """Have standard output and error escape what their encoding, or this one, has no sign for."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            errors = "backslashreplace" if stream.errors in _FAIL else stream.errors
            stream.reconfigure(encoding=encoding or stream.encoding, errors=errors)
