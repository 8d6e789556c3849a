"""Keep the driver's loop prompt while MLflow loads and writes in threads of the same interpreter."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Any

# Five milliseconds is Python's own; each answer to a worker takes several turns of that length.
_SWITCH_SECONDS = 0.0005
_first = True


@contextlib.contextmanager
def prompt(loading: asyncio.Future[Any] | None) -> Iterator[None]:
    """For as long as the block lasts; ``loading`` is the future of what loads beside it, if anything does."""
    global _first
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_SECONDS))
    with exempt(loading) if _first else contextlib.nullcontext():
        _first = False
        try:
            yield
        finally:
            sys.setswitchinterval(before)


@contextlib.contextmanager
def exempt(loading: asyncio.Future[Any] | None) -> Iterator[None]:
    """What has been loaded stays out of garbage collections; to be done once in a process.

    Prefect and MLflow leave a million objects behind that stay for good. Each full collection goes
    through all of them and stops every thread for half a second, and loading sets off several.
    """
    collecting = gc.isenabled()
    gc.freeze()

    def loaded(_: object = None) -> None:
        gc.freeze()
        if collecting:
            gc.enable()

    if loading is not None and not loading.done():
        gc.disable()
        loading.add_done_callback(loaded)
    try:
        yield
    finally:
        if loading is not None:
            loading.remove_done_callback(loaded)
        gc.unfreeze()
        if collecting:
            gc.enable()
            gc.collect()  # what has become garbage meanwhile, such as Prefect's sockets
