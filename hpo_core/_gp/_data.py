"""The evidence of a study as a model wants it.

| symbol | meaning | shape |
|---|---|---|
| `X` | configurations, unit cube, plus the step column where steps differ | (k, d) or (k, d + 1) |
| `y` | minimised values, NaN where the trial has none | (k, m) |
| `usable` | rows with a value for every objective | (k,) |

Trials that a scheduler stopped early have a value that belongs to an earlier step. As soon as there is one,
the step becomes an input of the model (on a log scale, 1 = the end), and predictions are made at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpo_core._states import TrialState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._history import History


@dataclass(frozen=True)
class Data:
    """See the table above; `extra` is the number of columns added to the space's own (0 or 1)."""

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    usable: NDArray[np.bool_]
    extra: int

    @property
    def order(self) -> NDArray[np.float64]:
        """(k,) smaller is better: the value, or the mean rank over several objectives; inf if unusable."""
        order = np.full(len(self.y), np.inf)
        y = self.y[self.usable]
        if y.shape[1] == 1:
            order[self.usable] = y[:, 0]
        else:
            order[self.usable] = y.argsort(axis=0).argsort(axis=0).mean(axis=1)
        return order


def data_of(history: History) -> Data:
    """The evidence of `history`, all of it."""
    evidence = history.evidence
    y = evidence.values
    usable = np.asarray(np.isfinite(y).all(axis=1))
    stopped = usable & (evidence.states == TrialState.PRUNED) & (evidence.steps > 0)
    if not stopped.any():
        return Data(evidence.X, y, usable, 0)
    last = max(int(evidence.steps.max()), history.max_steps or 0, 2)
    share = np.log(np.maximum(evidence.steps, 1)) / np.log(last)
    share = np.where(stopped, share, 1.0)
    return Data(np.column_stack([evidence.X, share]), y, usable, 1)
