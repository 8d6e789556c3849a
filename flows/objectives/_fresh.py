"""A ready objective whose folds are dealt anew for each seed, of the same training rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flows.objectives._base import TableObjective, Trial

__all__ = ["FreshFolds"]


@dataclass(frozen=True)
class FreshFolds:
    """Cross-validates on folds that depend on the trial's seed; the test rows stay what they are.

    For folds in time, about which nothing is random, only the model's own seed differs.
    """

    objective: TableObjective

    @property
    def __wrapped__(self) -> TableObjective:
        """For :func:`inspect.unwrap`."""
        return self.objective

    def __call__(self, trial: Trial) -> float:
        """Evaluate ``trial.params``; the value of the metric."""
        config = self.objective.table
        dealt = replace(config, plan=replace(config.plan, deal=trial.seed))
        return replace(self.objective, table=dealt)(trial)  # type: ignore[type-var]  # a protocol of dataclasses
