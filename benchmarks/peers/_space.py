"""What the adapters share: walking a search space parents first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hpo_core import Parameter, SearchSpace

__all__ = ["activate", "active_only", "parents_first"]


def parents_first(space: SearchSpace) -> Iterator[tuple[str, Parameter]]:
    """Every parameter of ``space``, each after the parents of its conditions."""
    done: set[str] = set()
    waiting = dict(space.parameters)
    while waiting:
        for name, parameter in list(waiting.items()):
            if all(c.parent in done for c in parameter.conditions):
                done.add(name)
                del waiting[name]
                yield name, parameter


def activate(space: SearchSpace, value_of: Callable[[str, Parameter], Any]) -> dict[str, Any]:
    """The active parameters, with values from ``value_of``, which is asked for active ones only."""
    params: dict[str, Any] = {}
    for name, parameter in parents_first(space):
        if all(c.parent in params and c.holds(params[c.parent]) for c in parameter.conditions):
            params[name] = value_of(name, parameter)
    return params


def active_only(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, Any]:
    """``params`` without the inactive ones, for peers that always set every parameter."""
    return activate(space, lambda name, _: params[name])
