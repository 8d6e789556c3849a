"""Signals handled in another way for a while, and what a terminal that is closed does to what runs there."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def instead(number: signal.Signals, handler: Callable[..., object]) -> Iterator[None]:
    """Handle the signal so for a while. By asyncio's own handler, the first Ctrl-C waits for the loop."""
    before = signal.getsignal(number)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def hangup_ends() -> contextlib.AbstractContextManager[None]:
    """Take SIGHUP for SIGTERM; by default it ends a process at once, as SIGKILL does.

    Where it is ignored, as under ``nohup``, or the caller's program handles it, that stays as it is.
    """
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        return contextlib.nullcontext()
    return instead(signal.SIGHUP, _hung_up)


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
                silence(stream)


def silence(descriptor: int) -> None:
    """Send nowhere what is written to the descriptor from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
