"""Compare studies: how fast each got how far, and what may be said about which way of searching is better.

A side is a strategy, say, with one study for each seed. Finals are compared at equal effort, the number of
trials that every study has finished, by the Mann-Whitney test (H. B. Mann, D. R. Whitney, 1947), exact by
enumeration for few studies, ties included, and a bootstrap interval of the difference of means. With one
study a side there is one draw of each: nothing follows about the strategies, and nothing is claimed. What
can be compared then are the two best configurations, on the folds that both were evaluated on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_core._errors import InputError
from hpo_core._is_study import check_study
from hpo_core._logs import sign_of
from hpo_core._result import column_of, ranked, ranks
from hpo_core._study import Study
from hpo_core.folds import Paired, fold_results, paired_test, repeats_of

__all__ = ["AXES", "Comparison", "Course", "Difference", "Effort", "Side", "compare", "course"]

Array = NDArray[np.float64]

AXES = ("trials", "steps", "seconds")
# Up to so many ways to share the studies out between two sides, the test counts them all.
_EXACT = 50_000
_RESAMPLES = 4000
# With fewer a side a bootstrap knows too few values to be believed, and no test can say much.
_FEWEST = 4
_FAR = 1e300


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What it took: ended trials, steps of all trials, seconds; ``None`` where the study did not count it."""

    trials: int
    steps: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The best value so far of one study, after each trial that ended, all ``(k,)``.

    ``best``: in the objective's own units, NaN before the first complete trial. ``steps``: of all trials
    by then, of those that had not ended too. ``seconds``: of driving. Either is ``None`` where the study did
    not count it.
    """

    study: str
    best: Array
    steps: Array | None
    seconds: Array | None

    @property
    def trials(self) -> Array:
        """1, 2, ... k."""
        return np.arange(1, len(self.best) + 1, dtype=float)

    @property
    def final(self) -> float:
        """The best value in the end."""
        return float(self.best[-1])

    def axis(self, name: str) -> Array | None:
        """The course's effort on one of :data:`AXES`."""
        return {"trials": self.trials, "steps": self.steps, "seconds": self.seconds}[name]

    def effort(self, score: float, direction: str) -> Effort | None:
        """What it took to be at least as good as ``score``; ``None`` if it never was."""
        sign = sign_of(direction)
        reached = np.flatnonzero(sign * self.best <= sign * score)
        if not len(reached):
            return None
        i = int(reached[0])
        return Effort(
            trials=i + 1,
            steps=None if self.steps is None else int(self.steps[i]),
            seconds=None if self.seconds is None else float(self.seconds[i]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Studies that are repetitions of one another."""

    name: str
    courses: tuple[Course, ...]

    def best_at(self, trials: int) -> Array:
        """(number of studies,) the best value of each after so many trials."""
        return np.array([c.best[trials - 1] for c in self.courses])


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Of two sides at equal effort. ``gain``: by how much the second is better on average.

    ``low`` and ``high``: its 95% bootstrap interval, ``None`` for fewer than four studies a side. ``p``:
    two-sided, Holm-adjusted where several sides are compared with the first; ``least``: the smallest that so
    few studies could have given, adjusted likewise.
    """

    first: str
    second: str
    gain: float
    low: float | None
    high: float | None
    p: float
    least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """``common``: trials that every study has finished, 0 if one had ended before another had its first
    complete one. ``target``: the worst of all finals.

    ``differences``: of each side to the first; empty when a side has a single study. ``configurations``: then
    the best configurations of two studies on their common folds, the second against the first.
    """

    objective: str
    direction: str
    sides: tuple[Side, ...]
    common: int
    target: float
    differences: tuple[Difference, ...] = ()
    configurations: Paired | None = None

    def claim(self) -> str:
        """What may be concluded, in a sentence or two."""
        if not self.common and all(len(side.courses) > 1 for side in self.sides):
            return (
                "There is no number of trials after which every study has a complete one, so nothing can be "
                "compared at equal effort."
            )
        if not self.differences:
            few = (
                "One study on a side allows no claim about which way of searching is better; give several "
                "seeds of each."
            )
            if self.configurations is None:
                return few
            return f"{few} {self._about_configurations(self.configurations)}"
        return " ".join(self._about(d) for d in self.differences)

    def _about(self, d: Difference) -> str:
        better, worse, turned = (d.second, d.first, 1) if d.gain >= 0 else (d.first, d.second, -1)
        span = ""
        if d.low is not None and d.high is not None:
            low, high = sorted((turned * d.low, turned * d.high))
            span = f" (95% interval {low:.4g} to {high:.4g})"
        said = (
            f"After {self.common} trials each, {better} is better than {worse} by {abs(d.gain):.4g} on "
            f"average{span}, p = {d.p:.3g} by the Mann-Whitney test."
        )
        if d.least > 0.05:
            return f"{said} So few studies cannot give less than p = {d.least:.2g}: no claim."
        return said if d.p <= 0.05 else f"{said} That may be chance."

    def _about_configurations(self, found: Paired) -> str:
        first, second = (side.name for side in self.sides)
        verdict = "" if min(found.p, 1 - found.p) <= 0.025 else " That may be chance."
        return f"The best configuration of {second} against that of {first}: {found}.{verdict}"


def course(study: Study, objective: str | None = None) -> Course:
    """The study's course. Raises :class:`InputError` when no trial is complete."""
    column = column_of(study.history, objective)
    history, trials = study.history, study.trials
    moves = {t: i for i, t in enumerate(history.moves.tolist())}
    order = sorted((t.number for t in trials if t.state.finished), key=lambda n: moves[n])
    values = history.values[order, column]
    values = np.where(ranks(history)[order], values, np.nan)
    if not np.isfinite(values).any():
        raise InputError(f"study {study.name!r} has no complete trial, so there is nothing to compare")
    best = np.fmin.accumulate(values) * history.signs[column]
    steps = np.array([trials[n].steps_until_end for n in order], dtype=float)
    seconds = np.array([trials[n].ended_after for n in order])
    return Course(
        study=study.name,
        best=np.asarray(best),
        steps=np.maximum.accumulate(steps) if steps.any() else None,
        seconds=np.maximum.accumulate(seconds) if seconds[-1] > 0 else None,
    )


def compare(
    studies: Mapping[str, Study | Sequence[Study]] | Sequence[Study],
    *,
    objective: str | None = None,
    same_folds: bool = False,
) -> Comparison:
    """Compare studies, or sides of several studies each, given by the sides' names.

    ``objective``: the first one by default. ``same_folds``: the caller knows that all were evaluated on the
    same folds of the same data, so that two best configurations can be compared on them.

    Raises :class:`InputError` for what is no study, for fewer than two sides, for studies of different
    objectives or directions, and for a study without a complete trial.
    """
    named = _sides(studies)
    every = [study for group in named.values() for study in group]
    name, direction = _same_objective(every, objective)
    sides = tuple(
        Side(name=label, courses=tuple(course(s, name) for s in group)) for label, group in named.items()
    )
    courses = [c for side in sides for c in side.courses]
    common = _common(courses)
    target = max((c.final for c in courses), key=lambda final: sign_of(direction) * final)
    single = all(len(side.courses) == 1 for side in sides)
    pair = _configurations(every, name, direction) if single and same_folds and len(sides) == 2 else None
    return Comparison(
        objective=name,
        direction=direction,
        sides=sides,
        common=common,
        target=target,
        differences=_differences(sides, common, direction),
        configurations=pair,
    )


def _sides(studies: Mapping[str, Study | Sequence[Study]] | Sequence[Study]) -> dict[str, list[Study]]:
    if isinstance(studies, Mapping):
        named = {label: _listed(side) for label, side in studies.items()}
    else:
        listed = _listed(studies)
        named = {study.name: [study] for study in listed}
        if len(named) < len(listed):
            names = ", ".join(study.name for study in listed)
            raise InputError(
                f"two of the studies have the same name ({names}); give a dict of names and studies"
            )
    if len(named) < 2 or not all(named.values()):
        raise InputError(f"a comparison needs at least two studies, got {len(named)}")
    return named


def _listed(given: Study | Sequence[Study]) -> list[Study]:
    studies = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for study in studies:
        check_study(study, "compare reads")
    return studies


def _same_objective(studies: Sequence[Study], objective: str | None) -> tuple[str, str]:
    first = studies[0]
    name = objective or next(iter(first.objectives))
    for study in studies:
        if name not in study.objectives:
            raise InputError(
                f"study {study.name!r} has the objectives {list(study.objectives)} and not {name!r} as "
                f"{first.name!r}; compare studies of one objective"
            )
        if study.objectives[name] != first.objectives[name]:
            raise InputError(
                f"{name!r} is to be {study.objectives[name]} in study {study.name!r} and "
                f"{first.objectives[name]} in {first.name!r}; they cannot be compared"
            )
    return name, first.objectives[name]


def _common(courses: Sequence[Course]) -> int:
    """The largest number of trials that all have, and at which all have a value."""
    shortest = min(len(c.best) for c in courses)
    begun = max(int(np.flatnonzero(np.isfinite(c.best))[0]) + 1 for c in courses)
    return shortest if shortest >= begun else 0


def _differences(sides: Sequence[Side], common: int, direction: str) -> tuple[Difference, ...]:
    if not common or any(len(side.courses) < 2 for side in sides):
        return ()
    sign = sign_of(direction)
    # The mean of results at the end of all floats would be none.
    first = np.clip(sign * sides[0].best_at(common), -_FAR, _FAR)
    raw = []
    for side in sides[1:]:
        second = np.clip(sign * side.best_at(common), -_FAR, _FAR)
        low, high = _bootstrap(first, second)
        p, least = rank_test(first, second)
        raw.append((side.name, float(first.mean() - second.mean()), low, high, p, least))
    # No adjusted p falls where another one rises, so all are least together.
    ps, leasts = _holm([row[4] for row in raw]), _holm([row[5] for row in raw])
    return tuple(
        Difference(first=sides[0].name, second=name, gain=gain, low=low, high=high, p=p, least=least)
        for (name, gain, low, high, _, _), p, least in zip(raw, ps, leasts, strict=True)
    )


def rank_test(a: Array, b: Array) -> tuple[float, float]:
    """Two-sided p of the Mann-Whitney test, and the least p that so many different values could give.

    Exact, with mid-ranks for ties, where all ways to share the values out can be counted; else by the normal
    approximation with the tie correction.
    """
    from scipy import stats

    n, m = len(a), len(b)
    ways = math.comb(n + m, n)
    ranks = np.asarray(stats.rankdata(np.concatenate([a, b])))
    if ways > _EXACT:
        p = float(stats.mannwhitneyu(a, b, alternative="two-sided", method="asymptotic").pvalue)
        return p, 2.0 / ways
    sums = np.array([ranks[list(chosen)].sum() for chosen in itertools.combinations(range(n + m), n)])
    centre = n * (n + m + 1) / 2.0
    # Mid-ranks are halves, so sums are exact.
    p = float(np.mean(np.abs(sums - centre) >= abs(ranks[:n].sum() - centre)))
    return p, 2.0 / ways


def _bootstrap(a: Array, b: Array) -> tuple[float | None, float | None]:
    """The percentile interval of mean(a) - mean(b)."""
    if min(len(a), len(b)) < _FEWEST:
        return None, None
    rng = np.random.default_rng(0)
    means = [v[rng.integers(len(v), size=(_RESAMPLES, len(v)))].mean(axis=1) for v in (a, b)]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return float(low), float(high)


def _holm(ps: Sequence[float]) -> list[float]:
    """S. Holm (1979): the smallest of k is taken k times, the next k - 1 times, ..., in order."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    out, last = [0.0] * len(ps), 0.0
    for place, i in enumerate(order):
        last = max(last, min(ps[i] * (len(ps) - place), 1.0))
        out[i] = last
    return out


def _configurations(studies: Sequence[Study], objective: str, direction: str) -> Paired | None:
    best = []
    for study in studies:
        column = column_of(study.history, objective)
        winner = int(ranked(study.history, column)[0])
        best.append(fold_results(study, winner, objective))
    first, second = best
    seeds = {repeats_of(study) > 1 for study in studies}
    if len(first.keys() & second.keys()) < 2 or len(seeds) > 1:
        return None
    return paired_test(second, first, direction, seeds=seeds == {True})
