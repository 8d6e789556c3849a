"""From a sampler's proposal to a trial's configuration: the queue first, then no exact repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_core._history import History
from hpo_core._space import SearchSpace
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

    def choose(
        self, history: History, queue: Sequence[dict[str, Any]], *, reuse: bool = True
    ) -> Choice | None:
        """The next configuration, or ``None`` when the space is exhausted. Changes nothing.

        ``reuse=False``: another configuration is looked for even where the policy is to reuse.
        """
        if queue:
            return self._enqueued(history, queue[0])
        proposal = self._sampler.sample(history, sampler_rng(history, history.n_trials))
        if proposal is None:
            return None
        space = history.space
        u = space.snap(proposal.u[None, :])[0]
        # A define-by-run study that has not met its parameters yet has nothing to repeat.
        held = _as_held(space, u)
        earlier = history.seen(held) if space.names else None
        asked = self._policy == "reuse" and reuse
        if asked and earlier is not None and history.states[earlier] == TrialState.COMPLETE:
            return Choice(dict(history.params_of(earlier)), "sampler", proposal.note, reuse=earlier)
        again = bool(space.names) and not history.is_new(held) and self._policy != "repeat"
        if again or not space.allowed(u[None, :])[0]:
            fresh = self._fresh(history)
            if fresh is None:
                return None
            u, proposal = fresh.u, fresh
        return Choice(space.configuration(u), "sampler", proposal.note)

    def exhausted(self, history: History) -> bool:
        """Whether a further trial would find no configuration, as far as that is known at little cost."""
        space = history.space
        small = space.size is not None and space.size <= _LISTED
        # Constraints may reject a million points before the next one.
        if getattr(self._sampler, "finite", False) and (small or not space.constraints):
            return self._sampler.sample(history, sampler_rng(history, history.n_trials)) is None
        if self._policy == "repeat" or not space.names or not small:
            return False
        return not history.untried(space.enumerate()).any()

    def _fresh(self, history: History) -> Proposal | None:
        space = history.space
        for retry in range(1, _SAMPLER_RETRIES + 1):
            proposal = self._sampler.sample(history, _retry_rng(history, retry))
            if proposal is not None:
                u = space.snap(proposal.u[None, :])[0]
                if history.is_new(_as_held(space, u)) and space.allowed(u[None, :])[0]:
                    return Proposal(u, proposal.note)
        rng = _retry_rng(history, _SAMPLER_RETRIES + 1)
        found = history.first_untried(space.sample(rng, _PRIOR_DRAWS))
        if found is not None:
            return Proposal(found, "drawn from the prior, as the sampler repeated itself")
        if space.size is None:
            # Infinitely many configurations and yet all drawn were seen: floats of a degenerate range.
            return Proposal(space.sample(rng, 1)[0], "a repeat: the space is nearly a point")
        if space.size <= _LISTED:
            every = space.enumerate()
            found = history.first_untried(every[rng.permutation(len(every))])
        else:
            found = history.first_untried(space.sample(rng, 16 * _PRIOR_DRAWS))
        return None if found is None else Proposal(found, "one of the few configurations not tried yet")

    def _enqueued(self, history: History, params: dict[str, Any]) -> Choice:
        """A configuration from the queue, the user's or an objective's; what it leaves open is drawn."""
        space = history.space
        known = {name: value for name, value in params.items() if name in space.parameters}
        note = "given beforehand, not chosen by the sampler"
        u = space.complete(known, sampler_rng(history, history.n_trials))
        if u is None:
            # It was checked when it was enqueued, so this is bad luck or a space that has changed. The
            # user's word counts for more than a constraint, and a queue must not block the study.
            u = space.complete(known, sampler_rng(history, history.n_trials), constrained=False)
            note += "; no completion that meets the constraints was found"
        # A value that the unit cube would round (a float's last digit) is kept as the user wrote it,
        # and one that a define-by-run objective may ask for, whatever earlier trials did, is kept for it.
        decoded = {name: params.get(name, value) for name, value in space.configuration(u).items()}
        perhaps = params if history.define_by_run else {}
        return Choice({**perhaps, **decoded}, "enqueued", note)


def sampler_rng(history: History, trial: int) -> np.random.Generator:
    """What the sampler draws ``trial`` with; one that draws an earlier trial again needs the same."""
    return np.random.default_rng([history.seed, trial])


def _retry_rng(history: History, retry: int) -> np.random.Generator:
    return np.random.default_rng([history.seed, history.n_trials, 2, retry])


def _as_held(space: SearchSpace, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(d,)`` as the history will hold it, which has it from the values: these round, and so may a key."""
    return space.encode(space.configuration(u))
