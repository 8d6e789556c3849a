"""Results from elsewhere as evidence: what fits a study is observed, everything else is counted by reason.

An observation tells the sampler something and is no trial of the study. A result fits when the space has
its configuration: every parameter that would be active is there and in range. What the source has beyond
the space's parameters is ignored. A result that failed is observed as a failure; one that was pruned, or
never ended, says nothing that could stand beside complete results, and is left out.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpo_core._errors import InputError, SpaceError, nearest
from hpo_core._fitting import Unfit, fitted
from hpo_core._outcome_constraints import OutcomeConstraint
from hpo_core._parameters import Categorical
from hpo_core._space import SearchSpace
from hpo_core._states import INFORMATIVE, TrialState
from hpo_core._study import Study

__all__ = ["Fitting", "Outcome", "Past", "adopt", "fit", "unjudged"]

_MOST_NAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One result from elsewhere, in the source's own names, units and directions.

    ``key``: its identity, the same whenever and wherever it is read; one key is observed once. ``text``:
    the parameters are text, as MLflow keeps them, and are read by the type of the study's parameter.
    """

    key: str
    params: Mapping[str, Any]
    values: Mapping[str, float] = field(default_factory=dict)
    state: TrialState = TrialState.COMPLETE
    text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Everything that a source has. ``source``: what the user calls it, such as ``study:old``.

    ``directions``: of its metrics, ``"min"`` or ``"max"``, as far as it knows them; in its own order.
    ``params`` and ``metrics``: this study's name to the source's; names that are the same may be left out.
    A metric that is written ``-NAME`` counts with its sign turned. ``positional``: the source's metrics
    have no names of their own, so that they are this study's objectives one by one. ``numbered``: parameters
    whose values may be the numbers of options and not the options, and how to say what these were.
    """

    source: str
    outcomes: Sequence[Outcome]
    directions: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    positional: bool = False
    numbered: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """What of a :class:`Past` fits a study. ``rows``: key, configuration, values; NaN for a failure.

    ``skipped``: how many results were left out, by reason. ``ignored``: parameters of the source that the
    space does not have. ``text``: keys of the rows whose configuration is still text, for want of a declared
    space. ``remarks``: what the user should know of the values.
    """

    source: str
    rows: Sequence[tuple[str, dict[str, Any], dict[str, float]]]
    skipped: Mapping[str, int]
    ignored: Sequence[str] = ()
    text: frozenset[str] = frozenset()
    remarks: Sequence[str] = ()

    @property
    def failures(self) -> int:
        """How many of the rows say that a configuration failed."""
        return sum(any(math.isnan(v) for v in values.values()) for _, _, values in self.rows)

    def __str__(self) -> str:
        results = "1 result" if len(self.rows) == 1 else f"{len(self.rows):,} results"
        failed = f" ({self.failures:,} of them failed)" if self.failures else ""
        out = [f"warm start from {self.source}: {results}{failed}"]
        if self.skipped:
            reasons = ", ".join(f"{n:,} {why}" for why, n in self.skipped.items())
            out.append(f"left out {sum(self.skipped.values()):,}: {reasons}")
        if self.ignored:
            out.append(f"ignored {_listed(self.ignored)}, which the space does not have")
        if self.text:
            out.append("its parameters are matched with those that the objective asks for")
        out += self.remarks
        return "; ".join(out)


def fit(
    space: SearchSpace | None, objectives: Mapping[str, str], past: Past, *, bounded: Collection[str] = ()
) -> Fitting:
    """Which results fit, mapped to this study's names, and how many do not.

    ``space``: ``None`` for define-by-run; every configuration may then still turn out to fit, and its text is
    read when the objective has asked for its parameters. ``bounded``: metrics that the study has outcome
    constraints on; they are taken where the source has them under the same names.

    Raises :class:`InputError` when an objective is not found in the source or has the other direction,
    when a name to map is neither an objective nor a parameter, and when nothing fits.
    """
    known = [*objectives, *(space.names if space is not None else past.params)]
    for ours in (n for n in past.params if n not in known):
        hint = nearest(ours, known)
        raise InputError(f"{past.source}: {ours!r} is neither a parameter nor an objective here{hint}")
    metrics = _metrics(objectives, past)
    remarks = _numbers(space, past)
    skipped: Counter[str] = Counter()
    rows = []
    for outcome in past.outcomes:
        try:
            # An objective with a bound is the source's metric by the mapping, and NaN of what failed.
            values = _finite(outcome, bounded) | _values(outcome, metrics)
            rows.append((outcome.key, _params(space, outcome, past.params), values))
        except Unfit as reason:
            skipped[str(reason)] += 1
    if not rows:
        said = ", ".join(f"{n:,} {why}" for why, n in skipped.most_common()) or "it has no results"
        raise InputError(
            f"nothing in {past.source} fits this study: {said}; map names as in lr=learning_rate, or leave "
            "the source out"
        )
    used = {past.params.get(n, n) for n in space.names} if space is not None else set()
    used |= {*bounded, *(metric for metric, _ in metrics.values())}  # a table has both side by side
    met = {name for o in past.outcomes for name in o.params} if space is not None else set()
    return Fitting(
        source=past.source,
        rows=rows,
        skipped=dict(skipped.most_common()),
        ignored=sorted(met - used),
        text=frozenset(o.key for o in past.outcomes if o.text and space is None),
        remarks=remarks,
    )


def unjudged(
    state: TrialState, values: Mapping[str, float], bounds: Iterable[OutcomeConstraint]
) -> TrialState:
    """How a trial that measured ``values`` came out but for the ``bounds`` on outcomes of its own study.

    What broke one has been measured, and whoever takes it over judges it by other bounds; what the objective
    itself said to be infeasible has not.
    """
    broken = any(bound.excess(values.get(bound.metric, math.nan)) > 0.0 for bound in bounds)
    return TrialState.COMPLETE if state is TrialState.INFEASIBLE and broken else state


def adopt(study: Study, fitting: Fitting, now: float = 0.0) -> int:
    """Observe the rows that the study has not observed yet; returns how many those were."""
    known = study.state.observed
    before = len(known)
    for key, params, values in fitting.rows:
        if key in known:
            continue
        # A define-by-run study may know by now that a value is out of range.
        with contextlib.suppress(SpaceError):
            study.observe(params, values, source=key, text=key in fitting.text, now=now)
    return len(known) - before


def _numbers(space: SearchSpace | None, past: Past) -> list[str]:
    """What to say of values that may be numbers of options. Raises :class:`InputError` where they must be."""
    if space is None:
        taken = dict(past.numbered)
    else:
        taken = {n: past.numbered[t] for n in space.names if (t := past.params.get(n, n)) in past.numbered}
        for name, how in taken.items():
            if isinstance(space.parameters[name], Categorical):
                raise InputError(
                    f"{past.source} has numbers of options for {name!r} and not the options; {how}"
                )
    return [f"the numbers of {n!r} are taken as they are; if they count options, {taken[n]}" for n in taken]


def _metrics(objectives: Mapping[str, str], past: Past) -> dict[str, tuple[str, float]]:
    """For each objective the source's metric and its sign. Raises :class:`InputError`."""
    found: dict[str, tuple[str, float]] = {}
    theirs = list(past.directions)
    for i, (name, direction) in enumerate(objectives.items()):
        asked = past.metrics.get(name)
        if asked is None and past.positional:
            if len(theirs) != len(objectives):
                raise InputError(
                    f"{past.source} has {len(theirs)} objectives ({_listed(theirs)}) and this study has "
                    f"{len(objectives)}; say which is which, as in {name}={theirs[0]}"
                )
            asked = theirs[i]
        asked = name if asked is None else asked
        sign = -1.0 if asked.startswith("-") else 1.0
        metric = asked.removeprefix("-")
        _check_known(past, name, metric)
        known = past.directions.get(metric)
        if known is not None and (known == direction) != (sign > 0):
            turned = metric if sign < 0 else f"-{metric}"
            raise InputError(
                f"{past.source}: {metric!r} is to be {_verb(known)} there and {name!r} {_verb(direction)} "
                f"here; if one is the other with its sign turned, say {name}={turned}"
            )
        found[name] = (metric, sign)
    return found


def _check_known(past: Past, name: str, metric: str) -> None:
    known = dict.fromkeys([*past.directions, *(n for o in past.outcomes for n in o.values)])
    if metric not in known and any(o.state is TrialState.COMPLETE for o in past.outcomes):
        hint = nearest(metric, known) or f" (it has {_listed(known) or 'none'})"
        raise InputError(
            f"{past.source} has no metric {metric!r}{hint}; say which one is {name!r}, as in {name}=NAME"
        )


def _verb(direction: str) -> str:
    return "minimised" if direction == "min" else "maximised"


def _values(outcome: Outcome, metrics: Mapping[str, tuple[str, float]]) -> dict[str, float]:
    if outcome.state is TrialState.PRUNED:
        raise Unfit("pruned")
    if not outcome.state.finished or outcome.state not in INFORMATIVE:
        raise Unfit("without an end")
    if outcome.state is not TrialState.COMPLETE:
        return dict.fromkeys(metrics, math.nan)
    values: dict[str, float] = {}
    for name, (metric, sign) in metrics.items():
        value = outcome.values.get(metric)
        if value is None:
            raise Unfit(f"without the metric {metric!r}")
        if not math.isfinite(value):
            raise Unfit(f"with {metric!r} not finite")
        values[name] = sign * float(value)
    return values


def _finite(outcome: Outcome, names: Collection[str]) -> dict[str, float]:
    known = {name: outcome.values[name] for name in names if name in outcome.values}
    return {name: float(value) for name, value in known.items() if math.isfinite(value)}


def _params(space: SearchSpace | None, outcome: Outcome, renamed: Mapping[str, str]) -> dict[str, Any]:
    """The configuration in the space's names and types; in the names alone where nothing is declared."""
    given = outcome.params
    taken = {*renamed} if space is not None else {*renamed, *renamed.values()}
    named = {name: value for name, value in given.items() if name not in taken}
    named |= {name: given[theirs] for name, theirs in renamed.items() if theirs in given}
    return named if space is None else fitted(space, named, text=outcome.text)


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MOST_NAMES} more" if len(listed) > _MOST_NAMES else ""
    return ", ".join(listed[:_MOST_NAMES]) + more
