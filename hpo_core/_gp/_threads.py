"""One BLAS thread while a model is at work.

A sum split over threads is rounded otherwise than one that is not, and how it is split depends on the
machine and its settings; decisions must not. For the small matrices here one thread is also the fastest.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any


@cache
def _controller() -> Any:
    # numpy and scipy each bring a BLAS; both must be loaded before the controller looks for them.
    import scipy.linalg  # noqa: F401 - loaded for its BLAS

    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:  # it comes with scikit-learn, which is optional for plain Gaussian processes
        return None
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """A context in which numpy and scipy use a single BLAS thread."""
    controller = _controller()
    if controller is None:
        return nullcontext()
    limited: AbstractContextManager[Any] = controller.limit(limits=1, user_api="blas")
    return limited
