"""Hyperopt's trials as a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flows.sources._source import Names, digest
from hpo_core import InputError, TrialState
from hpo_core.inner import is_number, single
from hpo_core.warm_start import Outcome, Past

__all__ = ["HyperoptTrials", "from_hyperopt"]

_SAY = "say what hp.choice had to choose from, as in from_hyperopt(trials, choices={{{0!r}: [...]}})"


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
        return f"hyperopt:{digest([_key(document) for document in self.trials.trials])}"

    def read(self, tracking_uri: str | None) -> Past:  # noqa: ARG002 - the protocol's
        """Its trials."""
        return Past(
            source=self.label,
            outcomes=[_hyperopt_outcome(document, self.choices) for document in self.trials.trials],
            directions={"loss": "min"},
            params=self.params,
            metrics=self.metrics,
            positional=True,
            numbered={label: _SAY.format(label) for label in self._numbered()},
        )

    def _numbered(self) -> list[str]:
        """Labels of ``hp.choice`` whose options nobody has given, and of ``hp.randint``, which look the same;
        all others draw floats.
        """
        drawn = dict.fromkeys(
            label
            for document in self.trials.trials
            for label, value in _drawn(document).items()
            if isinstance(value, int | np.integer)
        )
        return [label for label in drawn if label not in self.choices]


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


def _drawn(document: Mapping[str, Any]) -> dict[str, Any]:
    return {label: found[0] for label, found in document["misc"]["vals"].items() if len(found)}


def _key(document: Mapping[str, Any]) -> str:
    """The number alone would be that of a trial of any other ``Trials``, too."""
    loss = single((document.get("result") or {}).get("loss"))
    moment = digest([sorted(_drawn(document).items()), float(loss) if is_number(loss) else None])
    return f"hyperopt:{document['tid']}:{moment}"


def _hyperopt_outcome(document: Mapping[str, Any], choices: Mapping[str, Sequence[Any]]) -> Outcome:
    params = {label: _chosen(label, value, choices) for label, value in _drawn(document).items()}
    result = document.get("result") or {}
    state = {"ok": TrialState.COMPLETE, "fail": TrialState.FAILED}.get(
        str(result.get("status")), TrialState.RUNNING
    )
    numbers = {str(name): single(value) for name, value in result.items()}  # numpy's, too
    values = {name: float(value) for name, value in numbers.items() if is_number(value)}
    return Outcome(key=_key(document), params=params, values=values, state=state)


def _chosen(label: str, value: Any, choices: Mapping[str, Sequence[Any]]) -> Any:
    options = choices.get(label)
    if options is None:
        return value
    if not 0 <= int(value) < len(options):
        raise InputError(f"hyperopt chose option {value} of {label!r}; choices has only {list(options)!r}")
    return options[int(value)]
