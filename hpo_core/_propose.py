"""From a sampler's proposal to a trial's configuration: the queue first, then no exact repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_core._history import History
from hpo_core._states import TrialState
from hpo_core._strategy import Proposal, Sampler

# How often a sampler is asked again after proposing what was tried before, each time with another
# random stream, before the prior is asked.
_SAMPLER_RETRIES = 2
_PRIOR_DRAWS = 64
# Finite spaces up to this size are listed to find what is left when draws keep repeating.
_LISTED = 20_000


@dataclass(frozen=True, slots=True)
class Choice:
    """A configuration for a new trial; ``reuse`` is a finished trial whose result stands for it."""

    params: dict[str, Any]
    origin: str
    note: str = ""
    reuse: int | None = None


class Proposer:
    """Applies the study's duplicates policy around a sampler."""

    def __init__(self, sampler: Sampler, on_duplicate: str) -> None:
        self._sampler = sampler
        self._policy = on_duplicate

    def choose(self, history: History, queue: Sequence[dict[str, Any]]) -> Choice | None:
        """The next configuration, or ``None`` when the space is exhausted. Changes nothing."""
        if queue:
            return self._enqueued(history, queue[0])
        proposal = self._sampler.sample(history, _stream(history, 0))
        if proposal is None:
            return None
        space = history.space
        earlier = history.seen(proposal.u) if space.dims else None
        known = earlier is not None and history.states[earlier] == TrialState.COMPLETE
        if known and self._policy == "reuse":
            return Choice(space.decode(proposal.u), "sampler", proposal.note, reuse=earlier)
        if earlier is not None and self._policy != "repeat":
            fresh = self._fresh(history)
            if fresh is None:
                return None
            proposal = fresh
        return Choice(space.decode(proposal.u), "sampler", proposal.note)

    def _fresh(self, history: History) -> Proposal | None:
        for retry in range(1, _SAMPLER_RETRIES + 1):
            proposal = self._sampler.sample(history, _stream(history, retry))
            if proposal is not None and history.seen(proposal.u) is None:
                return proposal
        rng = _stream(history, _SAMPLER_RETRIES + 1)
        u = _untried(history, history.space.sample(rng, _PRIOR_DRAWS))
        if u is not None:
            return Proposal(u, "drawn from the prior, as the sampler repeated itself")
        size = history.space.size
        if size is None:
            # Infinitely many configurations and yet all drawn were seen: floats of a degenerate range.
            return Proposal(history.space.sample(rng, 1)[0], "a repeat: the space is nearly a point")
        if size <= _LISTED:
            every = history.space.enumerate()
            u = _untried(history, every[rng.permutation(len(every))])
        else:
            u = _untried(history, history.space.sample(rng, 16 * _PRIOR_DRAWS))
        return None if u is None else Proposal(u, "one of the few configurations not tried yet")

    def _enqueued(self, history: History, params: dict[str, Any]) -> Choice:
        """The user's configuration; what it leaves open is drawn from the prior."""
        space = history.space
        given = space.encode({k: v for k, v in params.items() if k in space.parameters})
        drawn = space.sample(_stream(history, 0), 1)[0]
        u = space.snap(np.where(np.isnan(given), drawn, given)[None, :])[0]
        # A value that the unit cube would round (a float's last digit) is kept as the user wrote it.
        decoded = space.decode(u)
        return Choice({k: params.get(k, v) for k, v in decoded.items()}, "enqueued", "asked for by the user")


def _stream(history: History, retry: int) -> np.random.Generator:
    words = [history.seed, history.n_trials] if not retry else [history.seed, history.n_trials, 2, retry]
    return np.random.default_rng(np.random.SeedSequence(words))


def _untried(history: History, points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    for u in points:
        if history.seen(u) is None:
            return np.asarray(u)
    return None
