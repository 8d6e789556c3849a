"""LightGBM and XGBoost: a step of the trial is a number of boosting rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flows._saving import Saving
from flows.callbacks._trial import Trial, report_and_save
from hpo_core import InputError
from hpo_core.inner import check_whole

__all__ = ["lightgbm_arguments", "xgboost_arguments"]


class _Watch:
    """What both libraries' callbacks do after a round."""

    def __init__(self, trial: Trial, rounds: int, every: int) -> None:
        check_whole("rounds", rounds)
        check_whole("every", every)
        self._trial, self._rounds, self._every = trial, rounds, every
        self._saving = Saving(trial, lambda: self._booster)
        self._booster: Any = None

    @property
    def done(self) -> int:
        """Rounds that the checkpoint has."""
        checkpoint = self._trial.checkpoint
        return 0 if checkpoint is None else min(checkpoint.step * self._every, self._rounds)

    def trained(self, booster: Any, rounds: int, scores: Sequence[tuple[str, str, float]]) -> None:
        """After ``rounds`` in all; ``scores``: data set, metric and value, as the library names them."""
        if rounds % self._every and rounds != self._rounds:
            return
        if not scores:
            raise InputError(
                "nothing was evaluated, so there is nothing to report; give the library validation data "
                "(valid_sets for LightGBM, evals for XGBoost) and a metric"
            )
        self._booster = booster
        step, of = (math.ceil(n / self._every) for n in (rounds, self._rounds))
        self._saving.passed(step, of)
        report_and_save(self._trial, step, _named(scores), lambda: booster)


def _named(scores: Sequence[tuple[str, str, float]]) -> dict[str, float]:
    """Metrics of the last data set by their own names, those of others with the data set's in front."""
    last = scores[-1][0]
    return {metric if data == last else f"{data}_{metric}": float(v) for data, metric, v in scores}


def lightgbm_arguments(
    trial: Trial, rounds: int, *, every: int = 10, callbacks: Sequence[Any] = ()
) -> dict[str, Any]:
    """Arguments for ``lightgbm.train`` that prune, pause and resume: rounds, callbacks, initial model.

    ``rounds``: of a complete trial. ``every``: rounds in one step of the trial; the study's
    ``max_steps`` is ``rounds / every``. ``callbacks``: more of the user's own. The metrics of the last
    validation set are reported under their own names (``auc``), others as ``training_auc``.

    A model has no state of the library's random numbers. So where rows or columns are sampled (bagging, DART,
    ``extra_trees``), a trial that goes on from a checkpoint draws others than an unbroken one would. Nor has
    it that of the library's early stopping, which begins anew there: ``best_score`` is then that of the
    rounds since. Where trials pause, leave it out, and take the study's rule ``best``.
    """
    watch = _Watch(trial, rounds, every)

    def after_round(env: Any) -> None:
        scores = [(data, metric, value) for data, metric, value, *_ in env.evaluation_result_list or ()]
        watch.trained(env.model, env.iteration + 1, scores)

    # After early stopping (30), whose last words this must not swallow.
    after_round.order = 40  # type: ignore[attr-defined]  # LightGBM sorts callbacks by it
    return {
        "num_boost_round": rounds - watch.done,
        "callbacks": [*callbacks, after_round],
        "init_model": None if trial.checkpoint is None else trial.checkpoint.load(),
    }


def xgboost_arguments(
    trial: Trial, rounds: int, *, every: int = 10, callbacks: Sequence[Any] = ()
) -> dict[str, Any]:
    """Arguments for ``xgboost.train``; see :func:`lightgbm_arguments`."""
    import xgboost

    watch = _Watch(trial, rounds, every)

    class AfterRound(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - XGBoost's signature
            scores = [
                (data, metric, values[-1])
                for data, metrics in evals_log.items()
                for metric, values in metrics.items()
            ]
            watch.trained(model, model.num_boosted_rounds(), scores)
            return False

    return {
        "num_boost_round": rounds - watch.done,
        "callbacks": [*callbacks, AfterRound()],
        "xgb_model": None if trial.checkpoint is None else trial.checkpoint.load(),
    }
