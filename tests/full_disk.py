"""A disk that is full, without one: the kernel refuses to let files grow."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def small_files(most: int) -> Iterator[None]:
    """Files may grow to this many bytes: the kernel then writes part of a line, and refuses the next.

    Not a fixture: those are taken down after pytest has written its dot, to a file that may be longer.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
