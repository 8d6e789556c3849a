"""Sources as one word on the command line, and as users hand them in from Python."""

from __future__ import annotations

import urllib.parse
from typing import Any

from flows.sources._mlflow import from_mlflow
from flows.sources._optuna import from_optuna
from flows.sources._source import Source
from flows.sources._study import from_study
from flows.sources._table import from_csv
from hpo_core import InputError
from hpo_core.inner import nearest

__all__ = ["parse_source", "sources_of"]

_KINDS = ("study", "mlflow", "csv", "optuna")


def sources_of(given: Any) -> tuple[Source, ...]:
    """Sources from one, or several, each a record or its text."""
    if given is None:
        return ()
    listed = list(given) if isinstance(given, list | tuple) else [given]
    for one in listed:
        if not isinstance(one, str) and not (hasattr(one, "read") and hasattr(one, "label")):
            raise InputError(
                "warm_start takes from_study(...), from_mlflow(...), from_optuna(...), from_hyperopt(...), "
                f"from_csv(...) or text such as 'study:NAME', got {one!r}"
            )
    return tuple(parse_source(one) if isinstance(one, str) else one for one in listed)


def parse_source(text: str) -> Source:
    """``study:NAME``, ``mlflow:EXPERIMENT``, ``csv:FILE`` or ``optuna:STORAGE#STUDY``.

    Each may be followed by ``?OURS=THEIRS&...``.
    ``OURS`` is a parameter or an objective of this study, ``THEIRS`` its name in the source; ``-THEIRS``
    turns a metric's sign. What is no plain character is written ``%XX``.
    """
    kind, colon, rest = text.partition(":")
    if not colon or not rest or kind not in _KINDS:
        raise InputError(
            "a warm start is study:NAME, mlflow:EXPERIMENT, csv:FILE or optuna:STORAGE#STUDY, followed by "
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
    if kind == "csv":
        return from_csv(name, params=both, metrics=both)
    return from_optuna(storage, name or None, params=both, metrics=both)


def _mapping(text: str, query: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in query.split("&"):
        ours, equals, theirs = (urllib.parse.unquote(part) for part in pair.partition("="))
        if not equals or not ours or not theirs:
            raise InputError(
                f"names are mapped as OURS=THEIRS, got {pair!r} in {text!r}; a ? within a name is written %3F"
            )
        pairs[ours] = theirs
    return pairs
