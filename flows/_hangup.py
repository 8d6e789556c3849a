"""A terminal that is closed, or a line to it that breaks, ends what runs there, but in good order."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def hangup_ends() -> Iterator[None]:
    """Take SIGHUP for SIGTERM; by default it ends a process at once, as SIGKILL does.

    Where it is ignored, as under ``nohup``, or the caller's program handles it, that stays as it is.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGHUP, _hung_up)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _hung_up(*_: object) -> None:
    # The kernel tells the foreground's processes, and the shell tells its jobs once more.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _write_no_more()
    signal.raise_signal(signal.SIGTERM)


def _write_no_more() -> None:
    """Send nowhere what is written to a terminal that is gone: writing to it would be an error."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)
