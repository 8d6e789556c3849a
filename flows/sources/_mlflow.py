"""The runs of an MLflow experiment as a source."""

from __future__ import annotations

from dataclasses import dataclass, field

from flows.sources._source import Names
from hpo_core.warm_start import Past

__all__ = ["MlflowRuns", "from_mlflow"]


@dataclass(frozen=True, kw_only=True)
class MlflowRuns:
    """See :func:`from_mlflow`."""

    experiment: str
    params: Names = field(default_factory=dict)
    metrics: Names = field(default_factory=dict)
    tracking_uri: str | None = None

    @property
    def label(self) -> str:
        """``mlflow:EXPERIMENT``."""
        return f"mlflow:{self.experiment}"

    def read(self, tracking_uri: str | None) -> Past:
        """Its runs."""
        from tracking import past_runs

        return past_runs(
            self.tracking_uri or tracking_uri, self.experiment, params=self.params, metrics=self.metrics
        )


def from_mlflow(
    experiment: str,
    *,
    params: Names | None = None,
    metrics: Names | None = None,
    tracking_uri: str | None = None,
) -> MlflowRuns:
    """The runs of an MLflow experiment, whoever logged them: parameters, and each metric's last value.

    ``params`` and ``metrics``: this study's name to MLflow's, where they differ; ``-NAME`` turns a metric's
    sign. MLflow does not know which way a metric is better: that is yours to say, unless it is of this tool's
    studies, whose runs say it. ``tracking_uri``: by default this study's. Runs that failed count as failures,
    those that were killed or still run do not.
    """
    return MlflowRuns(
        experiment=experiment, params=params or {}, metrics=metrics or {}, tracking_uri=tracking_uri
    )
