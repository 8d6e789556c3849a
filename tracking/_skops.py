"""skops, loaded without what its import drags in.

skops lists scikit-learn's estimators when it is imported, and scikit-learn finds them by importing all of its
packages. Among these are adapters for other array libraries, none of them an estimator, that import torch
and dask where they are installed: three seconds of processor time and 180 MiB (scikit-learn 1.9) in the
driver, which has no other use for them.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

_ADAPTERS = tuple(f"sklearn.externals.array_api_compat.{name}" for name in ("cupy", "dask", "torch"))
_alone = threading.Lock()


def skops_io() -> ModuleType:
    """The module ``skops.io``. Raises :class:`ImportError` where there is none."""
    with _alone, _hidden(_ADAPTERS):
        return importlib.import_module("skops.io")


@contextlib.contextmanager
def _hidden(modules: tuple[str, ...]) -> Iterator[None]:
    """Unless they are loaded, importing these fails meanwhile; a walk over packages goes on with the next."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: import's way to say no
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
