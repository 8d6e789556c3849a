"""Learning curves of real training: every configuration of a grid, to its end, with the time of each step.

Eight benchmarks, named ``learner-table``: LightGBM (a step is a boosting round) and a small network (an
epoch) on four of scikit-learn's tables. ``python -m benchmarks.curves.make`` made the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_core import Int, SearchSpace

__all__ = ["DATA", "LEVELS", "STEPS", "Curves", "configurations", "curve_names", "load"]

DATA = Path(__file__).parent / "data"
STEPS = 81

# Values of each hyperparameter. An optimiser sees the number of the level, which is spaced as the method
# of choice would search (logarithmic where the values are), and never leaves the grid.
LEVELS: dict[str, dict[str, tuple[Any, ...]]] = {
    "lgbm": {
        "learning_rate": (0.01, 0.02, 0.04, 0.08, 0.16, 0.32),
        "num_leaves": (3, 6, 12, 24, 48),
        "min_data_in_leaf": (2, 5, 12, 30),
        "feature_fraction": (0.3, 0.6, 1.0),
        "lambda_l2": (0.001, 1.0, 30.0),
    },
    "mlp": {
        "learning_rate": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
        "hidden": (4, 12, 36, 108),
        "batch": (16, 40, 100, 250),
        "weight_decay": (0.00001, 0.001, 0.1),
        "momentum": (0.5, 0.9, 0.98),
    },
}


def configurations(learner: str) -> list[dict[str, Any]]:
    """Every configuration of the grid; the first parameter varies slowest."""
    levels = LEVELS[learner]
    shape = tuple(len(values) for values in levels.values())
    return [
        {name: levels[name][i] for name, i in zip(levels, index, strict=True)} for index in np.ndindex(shape)
    ]


@dataclass(frozen=True)
class Curves:
    """What was recorded: ``loss`` and ``seconds`` ``(configurations, STEPS)``, the loss on validation rows
    after each step (logarithmic loss, or mean squared error of a standardised target).
    """

    name: str
    loss: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def levels(self) -> dict[str, int]:
        """How many levels each hyperparameter has."""
        return {name: len(values) for name, values in LEVELS[self.name.partition("-")[0]].items()}

    @property
    def space(self) -> SearchSpace:
        """The number of a level for each hyperparameter."""
        return SearchSpace({name: Int(0, n - 1) for name, n in self.levels.items()})

    def row(self, params: Mapping[str, Any]) -> int:
        """The row of a configuration of :attr:`space`."""
        index = tuple(int(params[name]) for name in self.levels)
        return int(np.ravel_multi_index(index, tuple(self.levels.values())))

    @cached_property
    def running_best(self) -> NDArray[np.float64]:
        """(configurations, STEPS) the best loss of a configuration up to each step."""
        return np.minimum.accumulate(self.loss, axis=1)

    @property
    def optimum(self) -> float:
        """The best loss that any configuration has at any step."""
        return float(self.loss.min())

    @property
    def median(self) -> float:
        """The median over configurations of what each reaches."""
        return float(np.median(self.running_best[:, -1]))


def curve_names() -> list[str]:
    """The benchmarks that there are files of."""
    return sorted(path.stem for path in DATA.glob("*.npz"))


def load(name: str) -> Curves:
    """One benchmark by its name, such as ``"lgbm-digits"``."""
    with np.load(DATA / f"{name}.npz") as file:
        return Curves(name, file["loss"].astype(np.float64), file["seconds"].astype(np.float64))
