"""Execution: the ``tune`` flow, runners, trial processes, the command line and ready objectives.

``tune`` is the whole of the Python face. It is imported when it is first asked for, and everything
heavy when it is called: the command line answers mistakes and questions at once.
"""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
    from flows._result import Result as Result
    from flows._tune import tune as tune

__all__ = ["Result", "tune"]


def __getattr__(name: str) -> typing.Any:
    if name not in __all__:
        raise AttributeError(f"module 'flows' has no attribute {name!r}")
    from flows import _tune

    return getattr(_tune, name)


def __dir__() -> list[str]:
    return __all__
