"""Conditions of a define-by-run space, found out from what its trials asked for.

An objective that asks for ``gamma`` only where ``kernel`` came out as ``"rbf"`` has a conditional parameter,
though nobody declared it. To a model that does not know, a trial's values for what was never asked count
as much as the others: regret after 50 trials on three conditional problems was sixteen times that of the
same space declared (docs/benchmarks-samplers.md).

A parameter that was asked for by some complete trials and not by others is taken to depend on one that
was asked for before it, as follows. ``on`` and ``off`` are the values of the parent in trials that asked
for the child and in those that did not.

- Categorical parent: no value is both on and off. The child is active unless the parent has a value
  that is off; values not seen yet count as on, so that the objective has the last word.
- Ordered parent: all of on lies above all of off, or below. What lies between counts as on, too (of a real
  number, its nearer half).
- A trial without the parent must not have asked for the child.

That must have been so in at least ``_CONFIRMED`` trials more than it takes to state it. Of several parents
that qualify the one confirmed by the most trials is taken, categorical ones first, the latest of equals. A
trial that contradicts a condition removes it for good, since its trials stay. Chains (``svc`` has kernels,
``rbf`` has a gamma) need nothing more; a parameter that depends on two independent ones at once stays
unconditional.
"""

from __future__ import annotations

from typing import Any

from hpo_core._conditions import Condition
from hpo_core._domain import json_text
from hpo_core._fold import Fold
from hpo_core._parameters import Categorical, Constant, Int, Parameter
from hpo_core._space import SearchSpace

__all__ = ["ConditionFinder"]

# Trials beyond those that a condition is read from; with fewer, chance often looks like a condition.
_CONFIRMED = 3


class _Link:
    """What complete trials say of a child under one parent: its values with the child, and without.

    A categorical value comes as its JSON text, and all are kept; of numbers the least and the largest.
    """

    def __init__(self) -> None:
        self._on: set[Any] = set()
        self._off: set[Any] = set()
        self._rows = 0
        self._refuted = False

    def refute(self) -> None:
        """The child was asked for without the parent."""
        self._refuted = True

    def take(self, value: str | float, asked: bool) -> None:
        """One trial in which the parent has this value."""
        self._rows += 1
        seen, other = (self._on, self._off) if asked else (self._off, self._on)
        seen.add(value)
        if isinstance(value, str):
            self._refuted |= value in other
        elif len(seen) > 2:
            seen -= {sorted(seen)[1]}

    def condition(self, name: str, parent: Parameter) -> tuple[tuple[bool, int], Condition] | None:
        """The condition, and how well it is confirmed; ``None`` where there is none."""
        on, off = self._on, self._off
        confirmed = self._rows - len(on) - len(off)
        if self._refuted or not on or not off or confirmed < _CONFIRMED:
            return None
        if isinstance(parent, Categorical):
            values = tuple(c for c in parent.choices if json_text(c) not in off)
            return (True, confirmed), Condition(name, values)
        if max(off) < min(on):
            return (False, confirmed), Condition(name, ge=_next(parent, max(off), min(on)))
        if max(on) < min(off):
            return (False, confirmed), Condition(name, le=_next(parent, min(off), max(on)))
        return None


def _next(parent: Parameter, off: float, on: float) -> float:
    """The bound nearest to the last value that is off: what lies between counts as on."""
    if isinstance(parent, Int):
        return off + parent.step if on > off else off - parent.step
    return (off + on) / 2


class ConditionFinder:
    """Compares a study's space with what its trials asked for; a memo that may be dropped at any time."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._links: dict[str, dict[str, _Link]] = {}
        self._names: tuple[str, ...] = ()
        self._seen = 0

    def change(self) -> tuple[SearchSpace, list[str]] | None:
        """The space with the conditions that its complete trials show, and whose conditions these are.

        ``None`` where that is the space as it is.
        """
        space, declared = self._fold.history.space, self._fold.declared.parameters
        if len(space.names) == len(declared) or not self._catch_up(space):
            return None
        parameters = dict(space.parameters)
        for child in space.names:
            if child not in declared:
                shown = self._shown(child, space)
                if shown != parameters[child].conditions:
                    parameters[child] = parameters[child]._under(shown)
        changed = [name for name, parameter in parameters.items() if parameter is not space.parameters[name]]
        if not changed:
            return None
        constraints = [c.original for c in space.constraints]
        return SearchSpace(parameters, constraints, version=space.version + 1), changed

    def _catch_up(self, space: SearchSpace) -> bool:
        """Take in the trials that are complete since; whether there was anything new."""
        if self._names != space.names:
            self._names, self._seen = space.names, 0
            self._links = {
                child: {
                    parent: _Link()
                    for parent in space.names[:place]
                    if not isinstance(space.parameters[parent], Constant)
                }
                for place, child in enumerate(space.names)
                if child not in self._fold.declared.parameters
            }
        history, begun = self._fold.history, self._seen
        self._seen = len(history.moves)
        complete = [self._fold.trials[trial] for trial in history.completed(begun)]
        for trial in complete:
            if trial.attempt:  # else its result is another's, and it has asked for nothing
                self._take(trial.params)
        return bool(complete) or not begun

    def _take(self, params: dict[str, Any]) -> None:
        known = self._fold.history.space.parameters
        keys = {n: json_text(v) if isinstance(known[n], Categorical) else v for n, v in params.items()}
        for child, links in self._links.items():
            asked = child in keys
            for parent, link in links.items():
                if parent in keys:
                    link.take(keys[parent], asked)
                elif asked:
                    link.refute()

    def _shown(self, child: str, space: SearchSpace) -> tuple[Condition, ...]:
        found = [
            (rank, place, condition)
            for place, (parent, link) in enumerate(self._links[child].items())
            for rank, condition in [link.condition(parent, space.parameters[parent]) or (None, None)]
            if rank is not None and condition is not None
        ]
        return (max(found, key=lambda f: f[:2])[2],) if found else ()
