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


@contextlib.contextmanager
def prompt(loading: asyncio.Future[Any] | None) -> Iterator[None]:
    """For as long as the block lasts; ``loading`` is the future of what loads beside it, if anything does.

    Prefect and MLflow leave a million objects behind that stay for good. Each full garbage collection goes
    through all of them and stops every thread for half a second, and loading sets off several. So what
    there is by then is exempt until the end of the block, and nothing is collected while they load.
    """
    switching, collecting = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(min(switching, _SWITCH_SECONDS))
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
        sys.setswitchinterval(switching)
        gc.unfreeze()
        if collecting:
            gc.enable()
