"""Execution: the ``tune`` flow, runners, trial processes, the command line and ready objectives.

``tune`` is the whole of the Python face; everything heavy is imported when it is called.
"""

from __future__ import annotations

from flows._tune import Result as Result
from flows._tune import tune as tune

__all__ = ["Result", "tune"]
