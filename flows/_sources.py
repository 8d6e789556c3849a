"""Where a study's warm start can come from: earlier studies, MLflow runs, Optuna, Hyperopt.

Each source is a frozen record that reads a :class:`~hpo_core.warm_start.Past` when a study begins; what of
that fits the study is decided there. On the command line a source is one word, see :func:`parse_source`.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hpo_core import InputError, Study, TrialState
from hpo_core import _events as ev
from hpo_core._errors import nearest
from hpo_core._journal import read_journal
from hpo_core.warm_start import Outcome, Past

__all__ = [
    "Source",
    "from_hyperopt",
    "from_mlflow",
    "from_optuna",
    "from_study",
    "parse_source",
    "sources_of",
]

Names = Mapping[str, str]
_KINDS = ("study", "mlflow", "optuna")


class Source(Protocol):
    """``label``: what the user calls it. The same label is read once for each study."""

    @property
    def label(self) -> str:
        """Without secrets."""
        ...

    def read(self, tracking_uri: str | None) -> Past:
        """Everything that the source has. Raises :class:`InputError` when it cannot be read."""
        ...


# -- earlier studies ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EarlierStudy:
    """See :func:`from_study`."""

    name: str
    params: Names = field(default_factory=dict)
    metrics: Names = field(default_factory=dict)
    experiment: str | None = None
    home: Path | str | None = None

    @property
    def label(self) -> str:
        """``study:NAME``."""
        return f"study:{self.name}"

    def read(self, tracking_uri: str | None) -> Past:
        """Its trials, and what it was warm-started with itself."""
        from flows._workspace import study_folder

        journal = study_folder(self.name, self.home) / "journal.jsonl"
        if journal.is_file():
            return self._past(journal)
        from tracking import connect_to_study, fetch_journal

        connection = connect_to_study(tracking_uri, self.name, self.experiment)
        if connection is None:
            raise InputError(
                f"there is no study {self.name!r} to start from, neither in {journal.parent.parent} nor in "
                f"MLflow{nearest(self.name, _names(journal.parent.parent))}"
            )
        with tempfile.TemporaryDirectory() as scratch:
            return self._past(fetch_journal(connection, self.name, Path(scratch)))

    def _past(self, journal: Path) -> Past:
        events = [event for _, event, _ in read_journal(journal)]
        study = Study.replay(events)
        uid = study.created.study_id
        trials = [
            Outcome(
                key=f"{uid}:{trial.number}",
                params=trial.params,
                values={**trial.metrics, **trial.values},
                state=trial.state,
            )
            for trial in study.trials
        ]
        elsewhere = [
            Outcome(key=e.source or f"{uid}:observed-{i}", params=e.params, values=e.values)
            for i, e in enumerate(events)
            if isinstance(e, ev.Observed)
        ]
        return Past(
            source=self.label,
            outcomes=[*elsewhere, *trials],
            directions=study.objectives,
            params=self.params,
            metrics=self.metrics,
        )


def from_study(
    name: str,
    *,
    params: Names | None = None,
    metrics: Names | None = None,
    experiment: str | None = None,
    home: Path | str | None = None,
) -> EarlierStudy:
    """The trials of an earlier study: of its folder here, else of its journal in MLflow.

    ``params`` and ``metrics``: this study's name to the earlier one's, where they differ; ``-NAME`` turns a
    metric's sign. ``experiment``: the MLflow experiment to look in; by default all. ``home``: where studies
    live, by default ``HPO_HOME``.
    """
    return EarlierStudy(
        name=name, params=params or {}, metrics=metrics or {}, experiment=experiment, home=home
    )


def _names(studies: Path) -> list[str]:
    return [path.parent.name for path in studies.glob("*/journal.jsonl")]


# -- MLflow ------------------------------------------------------------------------------------


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
    sign. MLflow does not know which way a metric is better: that is yours to say. ``tracking_uri``: by
    default this study's. Runs that failed count as failures, those that were killed or still run do not.
    """
    return MlflowRuns(
        experiment=experiment, params=params or {}, metrics=metrics or {}, tracking_uri=tracking_uri
    )


# -- Optuna ------------------------------------------------------------------------------------


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
        place = without_password(str(self.storage))
        return f"optuna:{place}" + (f"#{self.name}" if self.name else "")

    def read(self, tracking_uri: str | None) -> Past:  # noqa: ARG002 - the protocol's
        """Its trials."""
        study = self.storage
        if isinstance(study, str | Path):
            from flows._optuna import load

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
            metrics=self.metrics,
            positional=not named,
        )


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
    moment = _digest(trial.datetime_start)
    return Outcome(
        key=f"optuna:{study}:{trial.number}:{moment}",
        params=trial.params,
        values=dict(zip(names, trial.values or (), strict=False)),
        state=state,
    )


# -- Hyperopt ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HyperoptTrials:
    """See :func:`from_hyperopt`."""

    trials: Any
    choices: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    params: Names = field(default_factory=dict)
    metrics: Names = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``hyperopt``, and which trials."""
        return f"hyperopt:{_digest([document['tid'] for document in self.trials.trials])}"

    def read(self, tracking_uri: str | None) -> Past:  # noqa: ARG002 - the protocol's
        """Its trials."""
        return Past(
            source=self.label,
            outcomes=[_hyperopt_outcome(document, self.choices) for document in self.trials.trials],
            directions={"loss": "min"},
            params=self.params,
            metrics=self.metrics,
            positional=True,
        )


def from_hyperopt(
    trials: Any,
    *,
    choices: Mapping[str, Sequence[Any]] | None = None,
    params: Names | None = None,
    metrics: Names | None = None,
) -> HyperoptTrials:
    """The trials of a Hyperopt ``Trials`` object, which is in this process: pickled files are not read.

    ``choices``: of each label that ``hp.choice`` has made, its options in order; Hyperopt itself keeps
    their numbers only. The loss is this study's only objective, minimised; for one that is maximised say
    ``metrics={"score": "-loss"}``.
    """
    if isinstance(trials, str | bytes | Path) or not hasattr(trials, "trials"):
        raise InputError(
            f"from_hyperopt takes the Trials object itself, got {trials!r}; loading a pickle runs its code, "
            "so that is yours to do"
        )
    return HyperoptTrials(trials=trials, choices=choices or {}, params=params or {}, metrics=metrics or {})


def _hyperopt_outcome(document: Mapping[str, Any], choices: Mapping[str, Sequence[Any]]) -> Outcome:
    drawn = {label: found[0] for label, found in document["misc"]["vals"].items() if len(found)}
    params = {label: _chosen(label, value, choices) for label, value in drawn.items()}
    result = document.get("result") or {}
    state = {"ok": TrialState.COMPLETE, "fail": TrialState.FAILED}.get(
        str(result.get("status")), TrialState.RUNNING
    )
    values = {
        str(name): float(value)
        for name, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    moment = _digest([sorted(drawn.items()), values.get("loss")])
    return Outcome(key=f"hyperopt:{document['tid']}:{moment}", params=params, values=values, state=state)


def _chosen(label: str, value: Any, choices: Mapping[str, Sequence[Any]]) -> Any:
    options = choices.get(label)
    if options is None:
        return value
    if not 0 <= int(value) < len(options):
        raise InputError(f"hyperopt chose option {value} of {label!r}; choices has only {list(options)!r}")
    return options[int(value)]


# -- as text -----------------------------------------------------------------------------------


def sources_of(given: Any) -> tuple[Source, ...]:
    """Sources from one, or several, each a record or its text."""
    if given is None:
        return ()
    listed = list(given) if isinstance(given, list | tuple) else [given]
    for one in listed:
        if not isinstance(one, str) and not (hasattr(one, "read") and hasattr(one, "label")):
            raise InputError(
                "warm_start takes from_study(...), from_mlflow(...), from_optuna(...), from_hyperopt(...) or "
                f"text such as 'study:NAME', got {one!r}"
            )
    return tuple(parse_source(one) if isinstance(one, str) else one for one in listed)


def parse_source(text: str) -> Source:
    """``study:NAME``, ``mlflow:EXPERIMENT`` or ``optuna:STORAGE#STUDY``, each with ``?OURS=THEIRS&...``.

    ``OURS`` is a parameter or an objective of this study, ``THEIRS`` its name in the source; ``-THEIRS``
    turns a metric's sign. What is no plain character is written ``%XX``.
    """
    kind, colon, rest = text.partition(":")
    if not colon or not rest or kind not in _KINDS:
        raise InputError(
            "a warm start is study:NAME, mlflow:EXPERIMENT or optuna:STORAGE#STUDY, followed by "
            f"?OURS=THEIRS where names differ; got {text!r}{nearest(kind, _KINDS)}"
        )
    storage, has_study, named = rest.rpartition("#") if kind == "optuna" else ("", "", rest)
    if kind == "optuna" and not has_study:
        # Without a study's name a question mark belongs to the URL.
        return from_optuna(urllib.parse.unquote(rest) if "://" not in rest else rest)
    name, question, query = named.partition("?")
    both = _mapping(text, query) if question else {}
    name = urllib.parse.unquote(name)
    if kind == "study":
        return from_study(name, params=both, metrics=both)
    if kind == "mlflow":
        return from_mlflow(name, params=both, metrics=both)
    return from_optuna(storage, name or None, params=both, metrics=both)


def _mapping(text: str, query: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in query.split("&"):
        ours, equals, theirs = (urllib.parse.unquote(part) for part in pair.partition("="))
        if not equals or not ours or not theirs:
            raise InputError(f"names are mapped as OURS=THEIRS, got {pair!r} in {text!r}")
        pairs[ours] = theirs
    return pairs


def without_password(text: str) -> str:
    """A URL without the password that it may have."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", text)


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]
