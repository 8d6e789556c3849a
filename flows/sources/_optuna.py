"""An Optuna study as a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.sources._source import Names, digest
from hpo_core import InputError, TrialState
from hpo_core.warm_start import Outcome, Past
from tracking import redacted

__all__ = ["OptunaStudy", "from_optuna"]


@dataclass(frozen=True, kw_only=True)
class OptunaStudy:
    """See :func:`from_optuna`."""

    storage: Any
    name: str | None = None
    params: Names = field(default_factory=dict)
    metrics: Names = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``optuna:STORAGE#STUDY``, without the password."""
        if not isinstance(self.storage, str | Path):
            return f"optuna:{self.storage.study_name}"
        place = redacted(str(self.storage))
        return f"optuna:{place}" + (f"#{self.name}" if self.name else "")

    def read(self, tracking_uri: str | None) -> Past:  # noqa: ARG002 - the protocol's
        """Its trials."""
        study = self.storage
        if isinstance(study, str | Path):
            from flows.sources._optuna_storage import load

            study = load(str(study), self.name)
        named = list(study.metric_names or ())
        names = named or [f"value {i}" for i in range(len(study.directions))]
        directions = {
            n: "max" if d.name == "MAXIMIZE" else "min" for n, d in zip(names, study.directions, strict=True)
        }
        return Past(
            source=self.label,
            outcomes=[_optuna_outcome(study.study_name, names, t) for t in study.get_trials(deepcopy=False)],
            directions=directions,
            params=self.params,
            metrics=self.metrics if named or len(names) > 1 else _only(names[0], self.metrics),
            positional=not named,
        )


def _only(name: str, metrics: Names) -> Names:
    """Each mapped to the study's only objective, which has no name of its own; a leading minus stays."""
    return {ours: f"-{name}" if theirs.startswith("-") else name for ours, theirs in metrics.items()}


def from_optuna(
    storage: Any,
    study: str | None = None,
    *,
    params: Names | None = None,
    metrics: Names | None = None,
) -> OptunaStudy:
    """The trials of an Optuna study.

    ``storage``: a database URL, such as ``sqlite:///optuna.db``; the path of a journal file; or an
    ``optuna.Study``. ``study``: its name, where the storage has several. Needs optuna (``pip install
    'mlflow-hpo[optuna]'``). Optuna's objectives count one by one, in their order, unless they have names.
    """
    if not isinstance(storage, str | Path) and not hasattr(storage, "get_trials"):
        raise InputError(f"from_optuna takes a storage's URL, a journal file or a Study, got {storage!r}")
    return OptunaStudy(storage=storage, name=study, params=params or {}, metrics=metrics or {})


_OPTUNA_STATES = {
    "COMPLETE": TrialState.COMPLETE,
    "PRUNED": TrialState.PRUNED,
    "FAIL": TrialState.FAILED,
    "RUNNING": TrialState.RUNNING,
    "WAITING": TrialState.WAITING,
}


def _optuna_outcome(study: str, names: Sequence[str], trial: Any) -> Outcome:
    state = _OPTUNA_STATES.get(trial.state.name, TrialState.CANCELLED)
    if state is TrialState.COMPLETE and any(c > 0 for c in trial.system_attrs.get("constraints") or ()):
        state = TrialState.INFEASIBLE
    # Two storages may have studies of one name; the moment tells them apart.
    moment = digest(trial.datetime_start)
    return Outcome(
        key=f"optuna:{study}:{trial.number}:{moment}",
        params=trial.params,
        values=dict(zip(names, trial.values or (), strict=False)),
        state=state,
    )
