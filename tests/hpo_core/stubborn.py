"""A sampler that proposes one point for ever, canonical or not, allowed or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpo_core import SearchSpace
from hpo_core._history import History
from hpo_core._strategy import Proposal


@dataclass(frozen=True, kw_only=True)
class Stubborn:
    """Proposes ``u`` in every column."""

    u: float = 0.5

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Anything goes."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """The one point."""
        return Proposal(np.full(history.space.dims, self.u), "as always")
