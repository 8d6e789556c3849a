"""Random search: independent draws from the prior, without repeats in small finite spaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_core._history import History
from hpo_core._space import SearchSpace
from hpo_core._strategy import Proposal

__all__ = ["Random", "draw_new"]

# Up to this size a finite space is listed once its draws keep repeating, so that the last
# configurations of a small space are found at once and not after a coupon collector's wait.
_LISTABLE = 20_000
_DRAWS = 16


@dataclass(frozen=True, kw_only=True)
class Random:
    """Draws each configuration from the prior (Bergstra and Bengio 2012).

    In a finite space a configuration is repeated only when every other one has been tried.
    """

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Any space and any number of objectives will do."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """A draw from the prior.

        Raises :class:`SpaceError` when the constraints reject nearly everything.
        """
        return Proposal(u=draw_new(history, rng), note="drawn from the prior")


def draw_new(history: History, rng: np.random.Generator) -> NDArray[np.float64]:
    """A canonical ``(d,)`` draw from the prior, an untried one where the space still has any."""
    space = history.space
    if space.size is None:
        return np.asarray(space.sample(rng, 1)[0])
    draws = space.sample(rng, _DRAWS)
    found = history.first_untried(draws)
    if found is None and space.size <= _LISTABLE:
        every = space.enumerate()
        found = history.first_untried(every[rng.permutation(len(every))])
    return draws[0] if found is None else found
