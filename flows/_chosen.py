"""Which strategy a study gets for the one that was asked for, and on which axis of its objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hpo_core import Strategy, StrategyError, make_strategy
from hpo_core.schedulers import Full

if TYPE_CHECKING:
    from flows.objectives._base import Prepared

__all__ = ["chosen_strategy", "forking", "on_axis", "racing"]


# Budgets of which a trial has its own at each step, rather than one that goes on.
_OTHER = {None: "cross-validation folds", "folds": "cross-validation folds", "rows": "shares of the rows"}


def chosen_strategy(given: Any, *, may_end_early: bool) -> Strategy:
    """The strategy asked for. Of a study that may end early, ASHA's first trial is taken to its end at once.

    By the paper's rule the time (or what else is limited) may be over before any trial is complete, and there
    would be no result.
    """
    chosen = make_strategy(given)
    if not may_end_early or isinstance(given, Strategy) or chosen.config.get("scheduler") != "asha":
        return chosen
    return make_strategy({**chosen.config, "scheduler": {"name": "asha", "baseline": True}})


def on_axis(table: Any, strategy: Strategy, asked: Any) -> tuple[Any, tuple[str, ...]]:
    """The objective on the budget axis that the strategy can use, and what the user should know of it.

    ``asked``: the axis that the user named; it wins where it can work at all.
    """
    needed = strategy.training_steps == "needed"
    if not strategy.training_steps or asked not in _OTHER or (asked == "rows" and not needed):
        return _on_folds(table, strategy), _of_no_use(strategy, asked)
    training = table.over_training()
    if needed and (training is None or asked is not None):
        other = "leave out the option budget" if training is not None else "use another estimator, or asha"
        raise StrategyError(
            f"{strategy.name} changes hyperparameters during training, which needs steps of training and "
            f"not {_OTHER[asked]}; {other}"
        )
    if asked == "folds" or training is None:
        why = "" if asked else " (the estimator does not learn step by step)"
        advice = f"{strategy.name} compares trials by folds{why}, so it has few rungs"
        return _on_folds(table, strategy), (advice,)
    return training, ()


def _of_no_use(strategy: Strategy, asked: Any) -> tuple[str, ...]:
    if asked != "rows" or not isinstance(strategy.scheduler, Full):
        return ()
    return (f"{strategy.name} trains every trial on all rows; asha, say, has use for budget=rows",)


def _on_folds(table: Any, strategy: Strategy) -> Any:
    """The objective, with its usual folds where the strategy stops trials by them and none were asked for."""
    if isinstance(strategy.scheduler, Full) or getattr(table, "budget", "") != "folds":
        return table
    plan = table.table.plan
    return replace(table, table=replace(table.table, plan=replace(plan, folds=plan.n_folds)))


def racing(chosen: Strategy, prepared: Prepared) -> Strategy:
    """What a study that no number of trials ends gets for plain `auto`: over folds its trials race.

    Most then stop after a fold or two, and more configurations are tried in that time (docs/main-job.md).
    """
    folds = prepared.step_unit == "fold" and (prepared.n_steps or 0) > 1 and len(prepared.objectives) == 1
    return make_strategy("auto+race") if chosen.name == "auto" and folds else chosen


def forking(chosen: Strategy, prepared: Prepared, given: Any) -> Strategy:
    """The strategy, whose forks keep what a model in training cannot change.

    Raises :class:`StrategyError` where `pbt` is told to change some of that, but not for a strategy that was
    made before, as in a study that goes on.
    """
    asked = chosen.config.get("scheduler")
    options = dict(asked) if isinstance(asked, Mapping) else {"name": asked}
    if options["name"] != "pbt" or not prepared.settled & {*prepared.space.names}:
        return chosen
    names = [name for name in prepared.space.names if name not in prepared.settled]
    told = options.get("parameters")
    if told is None:
        return make_strategy({**chosen.config, "scheduler": {**options, "parameters": names}})
    wrong = [name for name in told if name in prepared.settled]
    if wrong and not isinstance(given, Strategy):
        raise StrategyError(
            f"pbt cannot change {wrong[0]!r} of a model in training; leave it out of parameters (out of "
            f"{', '.join(names)})"
        )
    return chosen
