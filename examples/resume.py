"""Resume and extend: a study belongs to its name, and its total of trials is the study's, not the call's.

Killing this script at any moment and starting it again ends with the same number of finished trials.
"""

from __future__ import annotations

from typing import Any

from flows import tune
from hpo_core import Float


def loss(trial: Any) -> float:
    """A parabola."""
    return float((trial.params["x"] - 0.3) ** 2)


if __name__ == "__main__":
    space = {"x": Float(0.0, 1.0)}
    first = tune(loss, space=space, trials=8, workers=2, name="resumed")
    again = tune(loss, space=space, trials=8, workers=2, name="resumed")  # finished: runs nothing
    more = tune(loss, space=space, trials=12, workers=2, name="resumed")  # four more
    print(len(first.study.trials), len(again.study.trials), len(more.study.trials))
