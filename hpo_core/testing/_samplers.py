"""What every sampler must do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_core._decide import Segment
from hpo_core._errors import StrategyError
from hpo_core._history import History
from hpo_core._space import SearchSpace
from hpo_core._strategy import Proposal, Sampler
from hpo_core._study import Study
from hpo_core.testing._replay import check_replays
from hpo_core.testing._script import Script
from hpo_core.testing._spaces import SPACES

__all__ = ["check_sampler"]

# Results that a sampler may meet: good ones, none at all, the same one always, failures, huge numbers.
_OBJECTIVES: Mapping[str, Callable[[int], float]] = {
    "a constant": lambda trial: 1.0,
    "nothing but failures": lambda trial: float("nan"),
    "some failures": lambda trial: float("inf") if trial % 3 else trial / 7,
    "huge values": lambda trial: 1e300 * (-1) ** trial,
}


def check_sampler(
    factory: Callable[[], Sampler],
    *,
    spaces: Mapping[str, SearchSpace] = SPACES,
    objectives: Iterable[int] = (1, 2),
    trials: int = 15,
    replayed_events: int = 60,
    elsewhere: int = 3,
) -> None:
    """Hold the samplers that ``factory`` makes to what a study relies on.

    On every space and number of objectives that ``check`` does not refuse with a
    :class:`StrategyError` (there must be one): proposals are canonical, allowed points; the same question
    gets the same answer; trials that are still running are not proposed again; no result makes it raise,
    warn or loop; a finite space is either gone through without repeats or ends in ``None``; and the replay
    contract holds (:func:`check_replay`), with a study of ``replayed_events`` events for each space.

    ``trials``: how many are proposed for each kind of result. ``elsewhere``: after how many of the events
    another process has to decide the same, on the first space; 0 starts none, for whoever holds many samplers
    to that with one process (:func:`check_replays`).

    Raises :class:`AssertionError` with the space and what came.
    """
    accepted = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, space in spaces.items():
            for m in objectives:
                sampler = factory()
                try:
                    sampler.check(space, m)
                except StrategyError as refusal:
                    _require(len(str(refusal)) > 20, name, "a refusal that says why", str(refusal))
                    continue
                accepted += 1
                where = f"{name}, {m} objectives"
                _check_proposals(factory, space, m, where, trials)
                # Each kind of result on the first space, and then one after the other.
                kinds = (
                    list(_OBJECTIVES) if accepted == 1 else [list(_OBJECTIVES)[accepted % len(_OBJECTIVES)]]
                )
                for what in kinds:
                    _check_results(factory, space, m, f"{where}, {what}", _OBJECTIVES[what], trials)
                _check_exhaustion(factory, space, m, where)
                check_replays(
                    {f"{type(sampler).__name__} on {where}": factory},
                    space=space,
                    objectives=_names(m),
                    events=replayed_events,
                    script=Script(seed=m),
                    every=7,
                    elsewhere=0,
                )
    if not accepted:
        raise AssertionError("the sampler refused every space")
    if elsewhere:
        _check_elsewhere(factory, spaces, objectives, replayed_events, elsewhere)


def _names(m: int) -> dict[str, str]:
    return {f"objective{i}": ("min", "max")[i % 2] for i in range(m)}


def _study(factory: Callable[[], Sampler], space: SearchSpace, m: int, **settings: Any) -> Study:
    return Study(space, _names(m), factory(), seed=3, settings=settings or None)


def _propose(sampler: Sampler, history: History, where: str) -> Proposal | None:
    """One proposal, checked by itself; asked for twice."""
    before = (history.X.copy(), history.evidence.values.copy())
    stream = [history.seed, history.n_trials]
    first = sampler.sample(history, np.random.default_rng(np.random.SeedSequence(stream)))
    again = sampler.sample(history, np.random.default_rng(np.random.SeedSequence(stream)))
    if first is None or again is None:
        _require(first is again, where, "the same answer to the same question", (first, again))
        return None
    _require(isinstance(first, Proposal), where, "a Proposal or None", first)
    _require(_equal(first.u, again.u), where, "the same answer to the same question", (first.u, again.u))
    space = history.space
    _require(first.u.shape == (space.dims,), where, f"u of shape ({space.dims},)", first.u)
    canonical = space.snap(first.u[None, :])[0]
    _require(_equal(canonical, first.u), where, f"a canonical point, {canonical}", first.u)
    _require(bool(space.allowed(first.u[None, :])[0]), where, "a point that meets the constraints", first.u)
    _require(isinstance(first.note, str) and "\n" not in first.note, where, "a note of one line", first.note)
    unchanged = _equal(before[0], history.X) and _equal(before[1], history.evidence.values)
    _require(unchanged, where, "a history that is read and not written", "changes")
    return first


def _check_proposals(
    factory: Callable[[], Sampler], space: SearchSpace, m: int, where: str, trials: int
) -> None:
    """Good results, with up to four trials running at a time."""
    study = _study(factory, space, m, workers=4)
    sampler = study.strategy.sampler
    running: list[int] = []
    for _ in range(trials):
        proposal = _propose(sampler, study.history, where)
        if proposal is None:
            break
        untried = space.size is None or study.history.n_trials < space.size // 2
        new = study.history.seen(proposal.u) is None
        _require(new or not untried, where, "a configuration that is not running or known", proposal.u)
        due = study.execution.next()
        if not isinstance(due, Segment):
            break
        study.execution.started(due)
        running.append(due.trial)
        if len(running) == 4:
            number = running.pop(0)
            study.execution.finish(number, {n: float(number % 5) - i for i, n in enumerate(study.objectives)})


def _check_results(
    factory: Callable[[], Sampler],
    space: SearchSpace,
    m: int,
    where: str,
    result: Callable[[int], float],
    trials: int,
) -> None:
    study = _study(factory, space, m)
    for number in range(trials):
        if _propose(study.strategy.sampler, study.history, where) is None:
            return
        due = study.execution.next()
        if not isinstance(due, Segment):
            return
        study.execution.started(due)
        study.execution.finish(due.trial, dict.fromkeys(study.objectives, result(number)))


def _check_exhaustion(factory: Callable[[], Sampler], space: SearchSpace, m: int, where: str) -> None:
    """A small space is gone through once, whatever the sampler would rather do."""
    if space.size is None or space.size > 20:
        return
    study = _study(factory, space, m)
    seen = set()
    for number in range(space.size + 1):
        due = study.execution.next()
        if not isinstance(due, Segment):
            break
        study.execution.started(due)
        study.execution.finish(due.trial, dict.fromkeys(study.objectives, float(number)))
        seen.add(space.key(study.history.X[due.trial]))
    most = len(space.enumerate())
    _require(study.history.n_trials <= most, where, f"at most {most} trials", study.history.n_trials)
    _require(len(seen) == study.history.n_trials, where, "no configuration twice", study.history.X)


def _check_elsewhere(
    factory: Callable[[], Sampler],
    spaces: Mapping[str, SearchSpace],
    objectives: Iterable[int],
    events: int,
    elsewhere: int,
) -> None:
    """Another process, once: on the first space that the sampler accepts."""
    for name, space in spaces.items():
        for m in objectives:
            try:
                factory().check(space, m)
            except StrategyError:
                continue
            check_replays(
                {f"{name}, {m} objectives": factory},
                space=space,
                objectives=_names(m),
                events=events,
                every=events,
                elsewhere=elsewhere,
            )
            return


def _equal(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))


def _require(condition: bool, where: str, expected: str, got: object) -> None:
    if not condition:
        raise AssertionError(f"{where}: expected {expected}, got {got!r}")
