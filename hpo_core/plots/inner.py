"""What pictures of a study share, for ``tracking``, which draws them by other means."""

from __future__ import annotations

from hpo_core.plots._common import BLUE, GREEN, GREY, ORANGE, best_numbers, is_log, labels, thinned
from hpo_core.plots._compare import AXIS_WORDS, COLOURS, envelope

__all__ = [
    "AXIS_WORDS",
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "ORANGE",
    "best_numbers",
    "envelope",
    "is_log",
    "labels",
    "thinned",
]
