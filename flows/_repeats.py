"""Every configuration several times, with several seeds: the mean is ranked, with the spread beside it.

Repeat i has the same seed in every trial of a study, so what a seed makes harder for everybody cancels out of
the differences between configurations, and fewer repeats tell them apart: common random numbers
(P. Glasserman, D. D. Yao, "Some guidelines and guarantees for common random numbers", Management Science 38,
1992). The schedulers `race` and `wilcoxon` compare trials repeat by repeat and count on it.

To a study a repeat is a step. At step i a trial reports, for each objective NAME:

| metric      | meaning                                                       |
|-------------|---------------------------------------------------------------|
| `NAME`      | mean over repeats 1 .. i                                      |
| `NAME_fold` | result of repeat i alone, which is what schedulers compare    |
| `NAME_std`  | sample standard deviation over repeats 1 .. i, from i = 2 on  |
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsFloat

from flows._execute import Objective, plain_results
from hpo_core import InputError, ObjectiveError, Strategy, StrategyError, TrialPruned, make_strategy
from hpo_core.inner import (
    FOLD,
    SPREAD,
    Suggesting,
    by_rule,
    check_whole,
    checked_metrics,
    deviation,
    mean,
    repeat_seed,
)
from hpo_core.schedulers import Full

if TYPE_CHECKING:
    from flows._trial import LiveTrial

__all__ = [
    "Repeated", "checked_repeats", "over_repeats", "repeated", "steps_of", "with_spread",
]  # fmt: skip

# Waiting for the verdict on a repeat, which may save the next one, may take this part of its time and so
# many seconds.
_HEAR, _HEAR_SECONDS = 0.1, 0.25

Results = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Runs ``objective`` ``repeats`` times, each time with another ``trial.seed``, and returns the means.

    ``objectives``: name to direction, as of the study. ``rule``: which of the results that the objective
    reports in one repeat counts, where it reports any; see ``hpo_core.Settings``. ``judged``: a scheduler may
    stop trials between repeats. All that the objective returns is averaged. Seeds depend on the study's seed
    and the number of the repeat only.

    Finished repeats are saved with the trial, so a lost worker costs the repeat that was running and no
    other. Steps that the objective reports inside a repeat are curves to be seen, which no scheduler reads.
    """

    objective: Objective
    repeats: int
    objectives: Mapping[str, str]
    rule: str = "last"
    judged: bool = True

    @property
    def __wrapped__(self) -> Objective:
        """For :func:`inspect.unwrap`: the code that results depend on is the objective's."""
        return self.objective

    def __call__(self, trial: LiveTrial) -> Results:
        """The means, and the spread of each objective."""
        done: list[Results] = [] if trial.checkpoint is None else json.loads(trial.checkpoint.load())
        for repeat in trial.steps(self.repeats):
            began = time.monotonic()
            done.append(self._one(trial, repeat))
            alone = {f"{name}{FOLD}": done[-1][name] for name in self.objectives}
            trial.report(repeat, {**with_spread(done, self.objectives), **alone})
            # Not before: what was saved is not run again, so nobody would report it.
            trial.save(repeat, json.dumps(done).encode())
            if self.judged and repeat < self.repeats:
                trial.hear(min(_HEAR * (time.monotonic() - began), _HEAR_SECONDS))
        if len(done) > 1 and all(r[name] == done[0][name] for r in done for name in self.objectives):
            trial.remark = (
                "had the same result in all repeats; does the objective use trial.seed for all that is "
                "random in it?"
            )
        return with_spread(done, self.objectives)

    def _one(self, trial: LiveTrial, repeat: int) -> Results:
        """The finite results of one repeat."""
        from tracking import repeat_run

        inner = _Repeat(trial, repeat)
        try:
            with repeat_run(repeat, inner.seed, again=trial.attempt > 1) as result:
                results = self._results(self.objective(inner), inner)
                if trial.ended:
                    raise TrialPruned("stopped by the study")
                self._check(results)
                result(results)
                return results
        except BaseException as error:
            error.add_note(f"in repeat {repeat} of {self.repeats}, seed {inner.seed}")
            raise

    def _results(self, returned: Any, inner: _Repeat) -> Results:
        """What counts of what the objective returned and of what it reported."""
        named = checked_metrics(plain_results(returned), self.objectives)
        for name, direction in self.objectives.items():
            series = inner.reported(name)
            # What was reported last and is returned, too, is one result, as without repeats.
            if name in named and series[-1:] != [named[name]]:
                series.append(named[name])
            if series:
                named[name] = by_rule(series, self.rule, direction)
        return named

    def _check(self, results: Results) -> None:
        for name in self.objectives:
            if name not in results:
                got = ", ".join(results) or "nothing"
                raise ObjectiveError(f"the objective gave no value for {name!r}; return it (it gave {got})")
            if not math.isfinite(results[name]):
                raise ObjectiveError(f"the objective gave no finite value for {name!r}, got {results[name]}")


class _Repeat(Suggesting):
    """The trial as the objective sees it in one repeat: its own seed, its own steps, no checkpoint."""

    checkpoint = None

    def __init__(self, trial: LiveTrial, repeat: int) -> None:
        super().__init__(trial.suggestions)
        self._trial = trial
        self._reports: list[Mapping[str, float]] = []
        self._stepping = False
        self.number = trial.number
        self.attempt = trial.attempt
        self.study_seed = trial.study_seed
        self.repeat = repeat
        self.seed = repeat_seed(trial.study_seed, repeat)

    @property
    def params(self) -> dict[str, Any]:
        """The configuration of the trial."""
        return self._trial.params

    @property
    def should_stop(self) -> bool:
        """Whether the study wants the trial to end now; the repeat does not count then."""
        return self._trial.should_stop

    def steps(self, n: int) -> Iterator[int]:
        """1 .. n; ends early when the trial is to end."""
        self._stepping = True
        for step in range(1, n + 1):
            yield step
            if step < n and self.should_stop:
                return

    def budgets(self, n: int) -> Iterator[int]:
        """``n`` alone: what is decided is decided between repeats."""
        self._stepping = True
        yield n

    def report(
        self, step: int, metrics: Mapping[str, SupportsFloat] | None = None, **more: SupportsFloat
    ) -> None:
        """Keep the metrics for the result of the repeat, and show them as curves of it."""
        values = checked_metrics({**(metrics or {}), **more}, ())
        self._reports.append(values)
        for name, value in values.items():
            self.log_curve(name, [step], [value])
        if not self._stepping and self.should_stop:
            raise TrialPruned("stopped by the study")

    def reported(self, name: str) -> list[float]:
        """All values of a metric, in order."""
        return [values[name] for values in self._reports if name in values]

    def log_curve(self, name: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """Points of a curve of this repeat."""
        self._trial.log_curve(f"{name}/repeat-{self.repeat}", steps, values)

    def save(self, step: int, thing: Any) -> None:
        """Nothing: a repeat that was interrupted begins anew."""

    def log_model(self, model: Any, **options: Any) -> None:
        """Log a model to the trial's run."""
        self._trial.log_model(model, **options)

    def __repr__(self) -> str:
        return f"Trial({self.number}, repeat {self.repeat}, {self.params})"


def with_spread(done: Sequence[Mapping[str, float]], objectives: Mapping[str, str]) -> Results:
    """Means of all that every repeat has, and the sample standard deviation of each objective.

    A single repeat has no spread. Further metrics that only some repeats have are left out.
    """
    common = [name for name in done[0] if all(name in results for results in done)]
    means = {name: mean([results[name] for results in done]) for name in common}
    if len(done) < 2:
        return means
    return means | {f"{n}{SPREAD}": deviation([results[n] for results in done]) for n in objectives}


# -- what a study of repeats is ------------------------------------------------------------------


def checked_repeats(given: int | None) -> int | None:
    """How often each configuration is run; ``None`` for once. Raises :class:`InputError`."""
    if given is not None:
        check_whole("repeats", given)
    return given if given != 1 else None


def over_repeats(chosen: Strategy, n_objectives: int) -> Strategy:
    """The strategy over repeats: plain `auto` races, so that bad configurations are not run to the end.

    Raises :class:`StrategyError` for one that needs steps of training.
    """
    if chosen.training_steps == "needed":
        raise StrategyError(
            f"{chosen.name} changes hyperparameters during training, and with repeats the steps of a trial "
            "are its repeats; leave repeats out, or use another strategy"
        )
    return make_strategy("auto+race") if chosen.name == "auto" and n_objectives == 1 else chosen


def steps_of(repeats: int, max_steps: int | None, rule: str) -> int:
    """The steps of a trial. Raises :class:`InputError` where something else was asked for."""
    if max_steps not in (None, repeats):
        raise InputError(
            f"with repeats={repeats} the steps of a trial are its repeats, got max_steps={max_steps}; leave "
            "max_steps out"
        )
    if rule != "last":
        raise InputError(f"with repeats their mean is what counts, got the rule {rule!r}; leave it out")
    return repeats


def repeated(
    objective: Objective,
    repeats: int,
    objectives: Mapping[str, str],
    strategy: Strategy,
    rule: str = "last",
) -> Repeated:
    """The objective of a study of repeats."""
    judged = not isinstance(strategy.scheduler, Full)
    return Repeated(
        objective=objective, repeats=repeats, objectives=dict(objectives), rule=rule, judged=judged
    )
