"""Population based training, asynchronous (Jaderberg et al. 2017, algorithm 1).

A population of trials trains in intervals. A member that ends an interval among the worst is replaced
by a fork of one of the best: a new trial that starts from the other's checkpoint (exploit) with a
changed configuration (explore). The fork takes over the member's place, its ``bracket``; lineage is in
the trials' ``parent`` and start step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from hpo_core._errors import StrategyError, nearest
from hpo_core._given import check_option, is_number
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._states import TrialState
from hpo_core._strategy import (
    CONTINUE,
    Action,
    Close,
    Finish,
    Fork,
    Plan,
    Resume,
    Start,
    Stop,
    TrainingSteps,
    Wait,
)
from hpo_core.schedulers._common import end_step, exact, needs_end, why_by_state
from hpo_core.schedulers._criterion import Criterion, Score, Scores, usable
from hpo_core.schedulers._explore import mutable_columns, perturbed, resampled
from hpo_core.schedulers._pbt_bandit import MOST, Intervals, best_by_bound
from hpo_core.schedulers._ranking import in_order

__all__ = ["PBT", "Population"]

# A population's size where neither the scheduler nor the study's limits give one.
_POPULATION = 16
# Keeps the stream of a member's decisions apart from others; the stream's words are seed, trial, step.
_STREAM = 0x9B7
# Intervals that the model must have seen before it is asked instead of a perturbation.
_LEAST = 8
# Candidates that the model chooses from: perturbations, and draws from the prior.
_PERTURBED, _RESAMPLED = 32, 224

_EXPLORE = ("perturb", "resample", "model")


class Population:
    """Who holds which place, and what each is worth; read off a history."""

    def __init__(self, scores: Scores, interval: int) -> None:
        self.scores = scores
        self.interval = interval
        self.places: list[list[int]] = []
        """The trials that have held each place, in turn."""
        self._seen = 0

    def catch_up(self, history: History) -> None:
        """Take in the trials that have been started since."""
        for trial in range(self._seen, history.n_trials):
            place = int(history.brackets[trial])
            while len(self.places) <= place:
                self.places.append([])
            self.places[place].append(trial)
        self._seen = history.n_trials

    def holders(self) -> list[int]:
        """The trial that holds each place now."""
        return [trials[-1] for trials in self.places]

    def worth(self, history: History, trial: int) -> Score | None:
        """The score at the trial's last pause; of a fork that has not paused yet, that of its source."""
        if history.states[trial] == TrialState.COMPLETE:
            return self.scores.final(history, trial)
        step, start = int(history.pauses[trial]), int(history.starts[trial])
        if step > start or history.parents[trial] < 0:
            return self.scores.at(history, trial, step)
        return self.worth_at(history, int(history.parents[trial]), start)

    def worth_at(self, history: History, trial: int, step: int) -> Score | None:
        """The score that a trial's lineage had at a step."""
        who = self._trained_by(history, trial, step)
        return None if who is None else self.scores.at(history, who, step)

    def _trained_by(self, history: History, trial: int, step: int) -> int | None:
        """Which trial of a lineage trained up to a step; ``None`` for step 0."""
        while trial >= 0:
            if step > int(history.starts[trial]):
                return trial
            trial = int(history.parents[trial])
        return None

    def _broken(self, history: History, trial: int) -> float:
        """How far a member breaks the study's outcome constraints where its score is from."""
        step = int(history.pauses[trial])
        complete = history.states[trial] == TrialState.COMPLETE
        who = None if complete else self._trained_by(history, trial, step)
        return 0.0 if who is None else self.scores.broken(history, who, step)

    def ranked(self, history: History) -> list[int]:
        """Holders that have a score, best first; those with a result that is no number come last."""
        holders = [t for t in self.holders() if not _gone(history, t)]
        scored = [(t, s) for t in holders if (s := self.worth(history, t)) is not None]
        good = [(t, s) for t, s in scored if usable(s)]
        order = in_order([s for _, s in good], [self._broken(history, t) for t, _ in good])
        return [good[i][0] for i in order] + [t for t, s in scored if not usable(s)]

    def can_be_forked(self, history: History, trial: int, step: int) -> bool:
        """Whether the trial has a checkpoint of its own, at or beyond ``step``, and training left to do."""
        return (
            not TrialState(int(history.states[trial])).finished
            and int(history.pauses[trial]) >= max(step, int(history.starts[trial]) + 1)
            and usable(self.worth(history, trial))
        )


def _gone(history: History, trial: int) -> bool:
    """Whether a trial ended without a result of its own."""
    state = TrialState(int(history.states[trial]))
    return state.finished and state is not TrialState.COMPLETE


@dataclass(frozen=True, kw_only=True)
class PBT:
    """Trains a population side by side; the worst members copy the best ones and go on from there.

    ``population``: members; by default the study's limit on trials (forks do not count towards it).
    ``interval``: steps between two comparisons of a member, by default a tenth of a complete run.
    ``exploit``: a fraction, for truncation selection (a member among the worst 0.2 copies one of the
    best 0.2), or ``"tournament"`` (a member copies a random other one that is better). ``explore``:
    ``"perturb"``, ``"resample"``, or ``"model"``, which asks a Gaussian process over improvements
    (PB2). ``parameters``: the hyperparameters that may change during training; ``None``: all, so name
    them when some shape the network. ``metric``, ``direction``: compare by this reported metric and not
    by the objectives.

    A member copies only from one that has trained at least as far, so training never goes backwards and
    every study ends; the best are those of the members that can be copied so. A member that fails is
    replaced in the same way, unless its replacement failed at once as well.
    """

    training_steps: ClassVar[TrainingSteps] = "needed"

    population: int | None = None
    interval: int | None = None
    exploit: float | str = 0.2
    explore: str = "perturb"
    parameters: Sequence[str] | None = None
    metric: str | None = None
    direction: str | None = None
    _memo: Memo[Population] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for option in ("population", "interval"):
            if getattr(self, option) is not None:
                check_option("pbt", option, getattr(self, option), 2 if option == "population" else 1)
        if self.exploit != "tournament" and not (is_number(self.exploit) and 0 < self.exploit <= 0.5):
            raise StrategyError(
                f"pbt: exploit must be 'tournament' or a fraction above 0 and up to 0.5, got {self.exploit!r}"
            )
        if self.explore not in _EXPLORE:
            raise StrategyError(
                f"pbt: explore must be one of {_EXPLORE}, got {self.explore!r}"
                f"{nearest(self.explore, _EXPLORE)}"
            )
        if self.parameters is not None:
            names = self.parameters
            if isinstance(names, str) or not isinstance(names, Iterable):
                raise StrategyError(f"pbt: parameters must be a list of names, got {names!r}")
            object.__setattr__(self, "parameters", tuple(self.parameters))
        Criterion(self.metric, self.direction).check("pbt")

    def _interval(self, end: int) -> int:
        return self.interval or max(end // 10, 1)

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Needs to know how long a complete trial is, and at least two intervals in it."""
        end = needs_end("pbt", None, max_steps)
        if self._interval(end) >= end:
            raise StrategyError(
                f"pbt: an interval of {self._interval(end)} steps leaves nothing to compare before the "
                f"end at {end}; take a shorter interval"
            )
        if self.explore == "model" and n_objectives > 1 and self.metric is None:
            raise StrategyError(
                f"pbt: explore='model' models one number and the study has {n_objectives} objectives; say "
                "with metric= which one, or take explore='perturb'"
            )

    def _population_of(self, history: History) -> Population:
        population = self._memo.of(history, lambda: self._new_population(history))
        population.catch_up(history)
        return population

    def _new_population(self, history: History) -> Population:
        unknown = [n for n in self.parameters or () if history.space.names and n not in history.space.names]
        if unknown:
            raise StrategyError(
                f"pbt: parameters names {unknown[0]!r}, which is not in the space "
                f"{list(history.space.names)}{nearest(unknown[0], history.space.names)}"
            )
        scores = Criterion(self.metric, self.direction).bind(history)
        return Population(scores, self._interval(end_step(None, history)))

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Close who was replaced, fill the population, then serve the member that has trained least."""
        population = self._population_of(history)
        holders = population.holders()
        paused = history.in_state(TrialState.PAUSED).tolist()
        for trial in paused:
            if trial not in holders:
                heir = population.places[int(history.brackets[trial])][-1]
                return Close(trial, f"replaced by trial {heir}, a fork of trial {int(history.parents[heir])}")
        size = self.population or history.max_trials or _POPULATION
        if len(population.places) < size and history.trials_left != 0:
            return Start(target=self._after(history, population, 0), bracket=len(population.places))
        if paused:
            return self._serve(history, population, min(paused, key=lambda t: (int(history.pauses[t]), t)))
        return self._replace_failed(history, population)

    def _after(self, history: History, population: Population, step: int) -> int | None:
        """Where the interval that begins at ``step`` ends; ``None``: at the end of the run."""
        target = step + population.interval
        return target if target < end_step(None, history) else None

    def _serve(self, history: History, population: Population, trial: int) -> Action:
        """Exploit and explore, or go on as before."""
        step = int(history.pauses[trial])
        rng = np.random.default_rng([history.seed, trial, step, _STREAM])
        source = self._better(history, population, trial, rng)
        if source is None:
            return Resume(trial, self._after(history, population, step))
        return self._fork(
            history, population, source, int(history.brackets[trial]), f"replaces trial {trial}", rng
        )

    def _better(
        self, history: History, population: Population, trial: int, rng: np.random.Generator
    ) -> int | None:
        """The member to copy, if this one should copy any."""
        ranked = population.ranked(history)
        step = int(history.pauses[trial])
        if trial not in ranked or len(ranked) < 2:
            return None
        better = ranked[: ranked.index(trial)]
        # A new fork stands where its source stood (Jaderberg 2017, algorithm 1) and has nothing to copy yet.
        able = [t for t in ranked if t != trial and population.can_be_forked(history, t, step)]
        if isinstance(self.exploit, str):
            rival = able[int(rng.integers(len(able)))] if able else None
            return rival if rival in better else None
        count = max(int(exact(self.exploit) * len(ranked)), 1)
        found = [t for t in able[:count] if t in better] if len(better) >= len(ranked) - count else []
        return found[int(rng.integers(len(found)))] if found else None

    def _replace_failed(self, history: History, population: Population) -> Action:
        """Fork a good member into a place whose holder failed; else wait, else finish."""
        busy = history.count(TrialState.RUNNING) + history.count(TrialState.WAITING)
        for place, trials in enumerate(population.places):
            if not _failed(history, trials[-1]) or _retired(history, trials):
                continue
            failed = trials[-1]
            ranked = population.ranked(history)
            able = [t for t in ranked if population.can_be_forked(history, t, int(history.pauses[failed]))]
            if able:
                fraction = exact(0.5 if isinstance(self.exploit, str) else self.exploit)
                best = able[: max(int(fraction * len(ranked)), 1)]
                rng = np.random.default_rng([history.seed, failed, int(history.pauses[failed]), _STREAM])
                source = best[int(rng.integers(len(best)))]
                return self._fork(
                    history, population, source, place, f"replaces trial {failed}, which failed", rng
                )
        if busy:
            return Wait(f"{busy} members are training")
        size, limit = len(population.places), history.max_trials
        trained = f"all {size} members have been trained to their" if size > 1 else "its one member is at its"
        unused = _unused(limit, size) if limit and history.trials_left else ""
        return Finish(f"{trained} end{unused and f'; {unused}'}")

    def _fork(
        self,
        history: History,
        population: Population,
        source: int,
        place: int,
        note: str,
        rng: np.random.Generator,
    ) -> Fork:
        step = int(history.pauses[source])
        space = history.space
        u = history.X[source]
        columns = mutable_columns(space, self.parameters).tolist()
        if self.explore == "resample":
            u = resampled(space, u, columns, rng)[0]
        elif self.explore == "perturb" or not columns:
            u = perturbed(space, u, columns, rng)
        else:
            u, said = self._model(history, population, source, columns, rng)
            note = f"{note}; {said}"
        return Fork(
            source=source,
            step=step,
            u=u,
            target=self._after(history, population, step),
            bracket=place,
            note=note,
        )

    def _model(
        self,
        history: History,
        population: Population,
        source: int,
        columns: list[int],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, str]:
        """PB2: the configuration with the best bound on its improvement, among perturbed and new ones."""
        space = history.space
        u = history.X[source]
        seen = _intervals(history, population, columns)
        near = np.array([perturbed(space, u, columns, rng) for _ in range(_PERTURBED)])
        if len(seen.gain) < _LEAST:
            return near[0], "perturbed, as there is little to learn from yet"
        draws = np.concatenate([near, resampled(space, u, columns, rng, _RESAMPLED)])
        candidates = np.nan_to_num(draws[:, columns], nan=0.5)
        step = int(history.pauses[source])
        running = history.in_state(TrialState.RUNNING)
        pending = np.nan_to_num(history.X[running][:, columns], nan=0.5)
        worth = population.worth(history, source)
        level = 0.5 if worth is None else _level(seen, worth[0])
        chosen, gain = best_by_bound(seen, pending, candidates, step / population.interval, level)
        return draws[chosen], f"expected to improve by {gain:.3g} in an interval"

    def judge(self, history: History, trial: int) -> Stop | None:
        """Members end their intervals at their targets."""
        return CONTINUE

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        if history.states[trial] != TrialState.PAUSED:
            return why_by_state(history, trial)
        population = self._population_of(history)
        heir = population.places[int(history.brackets[trial])][-1]
        if heir != trial:
            return f"it was replaced by trial {heir} and ends when a worker next asks"
        ranked = population.ranked(history)
        standing = f", ranked {ranked.index(trial) + 1} of {len(ranked)} members" if trial in ranked else ""
        return (
            f"it has ended an interval at step {int(history.pauses[trial])}{standing}; it goes on, or is "
            "replaced by a fork of a better member, when a worker is free"
        )

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """Members, intervals and steps; forks cost no more, as each takes a member's place."""
        end = needs_end("pbt", None, max_steps)
        size = min(self.population or trials or _POPULATION, trials or self.population or _POPULATION)
        interval = self._interval(end)
        steps = [*range(interval, end, interval), end]
        train = "1 member trains" if size == 1 else f"{size} members train"
        how = "tournament" if isinstance(self.exploit, str) else f"truncation of {self.exploit:.0%}"
        return Plan(
            rungs=tuple((0, i, size, step) for i, step in enumerate(steps)),
            total_trials=size,
            total_steps=size * end,
            exact=False,
            lines=(
                f"{train} {end} steps in {len(steps)} intervals of {interval}",
                f"exploit by {how}, explore by {self.explore}; forks add trials, not steps",
                *([_unused(trials, size)] if trials and trials > size else []),
            ),
        )


def _unused(limit: int, size: int) -> str:
    """What becomes of the trials that the limit has beyond the population."""
    return f"{limit - size} of {limit} trials are not used: the population is {size}, and forks do not count"


def _failed(history: History, trial: int) -> bool:
    """Whether a member ended badly; one that somebody cancelled is not replaced."""
    return _gone(history, trial) and history.states[trial] != TrialState.CANCELLED


def _retired(history: History, trials: Sequence[int]) -> bool:
    """Whether a place is given up: its holder and the one before failed without ending an interval."""
    last = trials[-2:]
    return len(last) == 2 and all(
        _failed(history, t) and history.pauses[t] == history.starts[t] for t in last
    )


def _intervals(history: History, population: Population, columns: Sequence[int]) -> Intervals:
    """The newest intervals that members have trained, with what each improved."""
    rows: list[tuple[float, float, float, int]] = []
    for trial in range(history.n_trials - 1, -1, -1):
        step = int(history.pauses[trial])
        while step > int(history.starts[trial]) and len(rows) < MOST:
            after = population.scores.at(history, trial, step)
            before = population.worth_at(history, trial, step - population.interval)
            step -= population.interval
            if usable(before) and usable(after) and before is not None and after is not None:
                rows.append((step / population.interval, before[0], before[0] - after[0], trial))
    rows.reverse()
    data = np.array([row[:3] for row in rows], dtype=float).reshape(-1, 3)
    u = np.nan_to_num(history.X[[row[3] for row in rows]][:, columns], nan=0.5)
    seen = Intervals(data[:, 0], data[:, 1], u, data[:, 2])
    return Intervals(seen.time, np.array([_level(seen, s) for s in seen.score]), seen.u, seen.gain)


def _level(seen: Intervals, score: float) -> float:
    """A score's rank among those seen, in [0, 1]: scores themselves may span decades."""
    return float((seen.score < score).mean()) if len(seen.score) else 0.5
