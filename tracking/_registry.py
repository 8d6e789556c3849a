"""From a logged model to a registered version under an alias: through a gate, idempotently, and back.

Versions carry where they come from as tags; ``hpo.replaces`` is the version that held the alias before (of
an alias other than ``champion``, ``hpo.replaces-ALIAS``), so that :func:`roll_back` can go back step by step;
of a version that got the alias more than once it is a list such as ``2,5``, the last time last. A copy of
another model's version has tags of that one's past, so its own has another name.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpo_core import InputError
from hpo_core.folds import paired_test
from tracking._connection import Connection, paged, quoted
from tracking._errors import NotComparable
from tracking._models import LoggedModel, using_server
from tracking._text import MAX_TAG, preview
from tracking._words import number_text
from tracking.tags import STUDY_ID

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_MODEL = "hpo.model_id"
_REPLACES = "hpo.replaces"
_DATA = "hpo.data_digest"
_BY_HAND = "; where the alias is to move all the same, set it by hand"
_SCORE = "hpo.score."
_FOLDS, _FOLDS_DIGEST = "hpo.folds", "hpo.folds_digest"
PREVIOUS = "previous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """When a new model takes the alias: it beats the champion by more than ``margin`` in ``metric``.

    A margin of 0 asks for a strict improvement. ``direction``: ``"min"`` or ``"max"``. ``folds``: compare
    the configurations' results on cross-validation folds instead of the models' scores, and ask for a gain
    that the paired test of :mod:`hpo_core.folds` finds significant at ``level``, one-sided.
    """

    metric: str
    direction: str = "max"
    margin: float = 0.0
    folds: bool = False
    level: float = 0.05

    def __post_init__(self) -> None:
        if self.direction not in ("min", "max"):
            raise InputError(f"a gate's direction must be 'min' or 'max', got {self.direction!r}")
        if not math.isfinite(self.margin) or self.margin < 0:
            raise InputError(f"a gate's margin must be a number of at least 0, got {self.margin!r}")
        if not 0.0 < self.level < 1.0:
            raise InputError(f"a gate's level must lie between 0 and 1, got {self.level!r}")

    def gain(self, new: float, old: float) -> float:
        """By how much ``new`` is better than ``old``."""
        return new - old if self.direction == "max" else old - new


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that wants the alias. ``scores``: on held-out data, whose digest is ``data_digest``.

    ``lineage``: more tags for the version, such as the study, the trial and the configuration's hash.
    ``folds``: the configuration's results by fold, or by seed where ``seeds`` is set; ``folds_digest`` says
    of which rows and metric. ``description``: in Markdown, what the registry's page says of a new version.
    """

    model: LoggedModel
    scores: Mapping[str, float]
    data_digest: str = ""
    folds: Mapping[int, float] = field(default_factory=dict)
    folds_digest: str = ""
    seeds: bool = False
    lineage: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What :func:`promote` did, or would do. ``champion``: the version that holds the alias now."""

    name: str
    alias: str
    promoted: bool
    reason: str
    version: str | None
    champion: str | None

    def __str__(self) -> str:
        return f"{self.name}@{self.alias} is version {self.champion}: {self.reason}"


def promote(
    connection: Connection,
    candidate: Candidate,
    *,
    name: str,
    gate: Gate,
    alias: str = "champion",
    score: Callable[[str], Mapping[str, float]] | None = None,
    on_folds: Callable[[ModelVersion], Mapping[int, float]] | None = None,
    dry_run: bool = False,
) -> Promotion:
    """Register the candidate as a version of ``name``; move ``alias`` to it if it passes the gate.

    ``score``: evaluates the model of a URI on the candidate's held-out data; asked for the champion's
    scores, unless they are known for the same data. ``on_folds``: evaluates the configuration of a version on
    the candidate's folds, likewise. A champion that cannot be compared keeps the alias: either may raise
    :class:`NotComparable`, which says why.
    A version that does not pass stays registered, without the alias. Calling it again changes nothing.
    ``dry_run``: say what would happen.

    Raises :class:`InputError` when the candidate has no finite score for the gate's metric, or, for a gate
    on folds, fewer than two folds.
    """
    if gate.folds and len(candidate.folds) < 2:
        raise InputError(
            "a gate on folds needs the trial's results on at least two folds, reported as the metric "
            f"NAME_fold at step 1, 2, ...; got {dict(candidate.folds)}. Use the gate margin"
        )
    if not math.isfinite(candidate.scores.get(gate.metric, math.nan)):
        raise InputError(
            f"the candidate has no finite score {gate.metric!r} (it has {dict(candidate.scores)}); choose "
            "another metric for the gate"
        )
    client = connection.client
    champion = _holder(connection, name, alias)
    own = _version_of(connection, name, candidate.model.model_id)
    if champion is not None and own is not None and champion.version == own.version:
        return _result(name, alias, True, "it already holds the alias", own, own)
    try:
        if gate.folds:
            passed, reason = _judge_on_folds(connection, candidate, champion, gate, on_folds)
        else:
            passed, reason = _judge(connection, candidate, champion, gate, score)
    except NotComparable as error:
        passed, reason = False, f"cannot be compared with version {_number_of(champion)}: {error}"
    if dry_run:
        return _result(name, alias, passed, f"dry run: {reason}", own, champion)
    own = own or _register(connection, name, candidate)
    _link(connection, candidate.model.model_id, own)
    for key, value in _version_tags(candidate, reason).items():
        client.set_model_version_tag(name, own.version, key, value)
    if not passed:
        return _result(name, alias, False, reason, own, champion)
    if champion is not None:
        before = _replaced(own, alias)
        if before[-1:] != [str(champion.version)]:  # else an earlier attempt at this has noted it
            _note_replaced(connection, own, alias, [*before, str(champion.version)])
        client.set_registered_model_alias(name, _for_alias(PREVIOUS, alias), champion.version)
    # Last, and atomic: whoever loads by the alias gets the old version or the new one.
    client.set_registered_model_alias(name, alias, own.version)
    return _result(name, alias, True, reason, own, own)


def roll_back(connection: Connection, *, name: str, alias: str = "champion") -> Promotion:
    """Give the alias back to the version that held it before.

    Raises :class:`InputError` if none did, and where that one was deleted.
    """
    client, champion = connection.client, _holder(connection, name, alias)
    if champion is None:
        raise InputError(
            f"no version of a model {name!r} has the alias {alias}; there is nothing to roll back"
        )
    past = _replaced(champion, alias)
    if not past:
        raise InputError(
            f"{name}@{alias} has no earlier version to go back to; set the alias to a version by hand"
        )
    before = past.pop()
    earlier = _version(connection, name, before)
    if earlier is None:
        raise InputError(
            f"version {before} of {name}, which held {alias} before version {champion.version}, was deleted; "
            "set the alias to another version by hand"
        )
    still_earlier = _replaced(earlier, alias)[-1:]
    if still_earlier and _version(connection, name, still_earlier[0]) is not None:
        client.set_registered_model_alias(name, _for_alias(PREVIOUS, alias), still_earlier[0])
    else:
        client.delete_registered_model_alias(name, _for_alias(PREVIOUS, alias))
    # After that: whoever was killed before can do it again, and goes back no further.
    client.set_registered_model_alias(name, alias, before)
    # A version that is put back later has another past then; kept, it would lead round and round.
    _note_replaced(connection, champion, alias, past)
    reason = f"rolled back from version {champion.version}"
    return _result(name, alias, True, reason, earlier, earlier)


def is_registered(connection: Connection, *, name: str, version: str, alias: str = "champion") -> bool:
    """Whether that version of the model is there still, and some version holds the alias."""
    there = _version(connection, name, version) is not None
    return there and _holder(connection, name, alias) is not None


def load_own_model(connection: Connection, uri: str) -> Any:
    """Load a model (as a ``pyfunc``) that a study of ours logged.

    Loading runs what is in the model. Raises :class:`InputError` for a model of unknown origin.
    """
    import mlflow

    if not uri.startswith("models:/"):
        raise InputError(f"expected a URI such as 'models:/NAME@champion' or 'models:/m-...', got {uri!r}")
    name = uri.removeprefix("models:/")
    if not _is_ours(connection, name):
        raise InputError(
            f"{uri} was not logged by a study of this tool, and loading a model runs its code; load it with "
            "mlflow yourself if you trust it"
        )
    with using_server(connection):
        return mlflow.pyfunc.load_model(uri)


def _is_ours(connection: Connection, name: str) -> bool:
    client = connection.client
    if "@" in name:
        version = client.get_model_version_by_alias(*name.split("@", 1))
    elif "/" in name:
        version = client.get_model_version(*name.split("/", 1))
    else:
        return STUDY_ID in client.get_logged_model(name).tags
    return _MODEL in version.tags


# -- parts of a promotion ----------------------------------------------------------------------


def _judge(
    connection: Connection,
    candidate: Candidate,
    champion: ModelVersion | None,
    gate: Gate,
    score: Callable[[str], Mapping[str, float]] | None,
) -> tuple[bool, str]:
    new = candidate.scores[gate.metric]
    if champion is None:
        return True, f"the first one, with {gate.metric} {number_text(new)}"
    same_data = bool(candidate.data_digest) and champion.tags.get(_DATA) == candidate.data_digest
    old = _number(champion.tags.get(_SCORE + gate.metric)) if same_data else math.nan
    if not math.isfinite(old) and score is not None:
        if not _is_ours(connection, f"{champion.name}/{champion.version}"):
            return False, f"version {champion.version} was made by hand, so it is not loaded and compared"
        old = float(score(f"models:/{champion.name}/{champion.version}").get(gate.metric, math.nan))
    if not math.isfinite(old):
        return False, (
            f"version {champion.version} has no {gate.metric} on the same held-out data to compare with"
            f"{_BY_HAND}"
        )
    gain = gate.gain(new, old)
    compared = f"{gate.metric} {number_text(new)} against {number_text(old)} of version {champion.version}"
    if gain > gate.margin:
        return True, f"better: {compared}"
    needed = f"more than {gate.margin:g} better" if gate.margin else "better"
    return False, f"not {needed}: {compared}"


def _judge_on_folds(
    connection: Connection,
    candidate: Candidate,
    champion: ModelVersion | None,
    gate: Gate,
    on_folds: Callable[[ModelVersion], Mapping[int, float]] | None,
) -> tuple[bool, str]:
    new, what = candidate.folds, "seeds" if candidate.seeds else "folds"
    if champion is None:
        average = sum(new.values()) / len(new)
        return True, f"the first one, with {gate.metric} {number_text(average)} over {len(new)} {what}"
    known = champion.tags.get(_FOLDS_DIGEST) == candidate.folds_digest != ""
    old = {int(k): float(v) for k, v in json.loads(champion.tags.get(_FOLDS, "{}")).items()} if known else {}
    if not old and on_folds is not None and _is_ours(connection, f"{champion.name}/{champion.version}"):
        old = dict(on_folds(champion))
    if len(old.keys() & new.keys()) < 2:
        return (
            False,
            f"version {champion.version} has no results on the same {what} to compare with{_BY_HAND}",
        )
    found = paired_test(new, old, gate.direction, seeds=candidate.seeds)
    compared = f"{gate.metric} {found}, against version {champion.version}"
    if found.gain > gate.margin and found.p <= gate.level:
        return True, compared
    return False, f"not better beyond doubt (p <= {gate.level:g}): {compared}"


def _register(connection: Connection, name: str, candidate: Candidate) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    client = connection.client
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise
    model = candidate.model
    tags = {_MODEL: model.model_id}
    with using_server(connection):
        # MLflow looks the model up on the server that the process is set to.
        return client.create_model_version(
            name,
            source=model.uri,
            run_id=model.run_id,
            tags=tags,
            description=candidate.description or None,
            model_id=model.model_id,
        )


def _link(connection: Connection, model_id: str, version: ModelVersion) -> None:
    """The tag by which MLflow's pages show a model's versions on the model."""
    client, key = connection.client, "mlflow.modelVersions"
    known = json.loads(client.get_logged_model(model_id).tags.get(key, "[]"))
    entry = {"name": version.name, "version": str(version.version)}
    if entry not in known:
        client.set_logged_model_tags(model_id, {key: json.dumps([*known, entry])})


def _version_tags(candidate: Candidate, reason: str) -> dict[str, str]:
    scores = {f"{_SCORE}{k}": repr(float(v)) for k, v in candidate.scores.items()}
    more = {k: preview(str(v), MAX_TAG) for k, v in candidate.lineage.items()}
    folds = json.dumps({str(k): v for k, v in candidate.folds.items()})
    if candidate.folds and len(folds) <= MAX_TAG:
        more |= {_FOLDS: folds, _FOLDS_DIGEST: candidate.folds_digest}
    return {**more, **scores, _DATA: candidate.data_digest, "hpo.gate": preview(reason, MAX_TAG)}


def _holder(connection: Connection, name: str, alias: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return connection.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # An unknown alias is an invalid parameter, an unknown model a missing resource.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _version(connection: Connection, name: str, number: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return connection.client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _version_of(connection: Connection, name: str, model_id: str) -> ModelVersion | None:
    search = functools.partial(connection.client.search_model_versions, f"name={quoted(name)}")
    return next((version for version in paged(search) if version.tags.get(_MODEL) == model_id), None)


def _for_alias(word: str, alias: str) -> str:
    """The word as it is told of this alias: a version may hold several, each with a past of its own."""
    return word if alias == "champion" else f"{word}-{alias}"


def _replaced(version: ModelVersion, alias: str) -> list[str]:
    """The versions that this one has replaced under the alias, the last one last.

    Raises :class:`InputError` for a tag that somebody has made something else of.
    """
    key = _past_key(version, alias)
    told = version.tags.get(key, "")
    if not re.fullmatch(r"([0-9]+(,[0-9]+)*)?", told):
        raise InputError(
            f"the tag {key} of version {version.version} of {version.name} lists versions, such as 2,5, got "
            f"{told!r}; mend or remove it, or set the alias {alias} by hand"
        )
    return told.split(",") if told else []


def _past_key(version: ModelVersion, alias: str) -> str:
    """The tag that lists what this version has replaced.

    A version that MLflow has copied from another model has the tags of its original, and with them numbers of
    that model's versions; its own are under a name that no copy of it has in common with it.
    """
    key = _for_alias(_REPLACES, alias)
    copied = re.match("models:/[^/]+/", version.source or "")
    return f"{key}-of-{version.creation_timestamp}" if copied else key


def _note_replaced(connection: Connection, version: ModelVersion, alias: str, replaced: list[str]) -> None:
    client, key = connection.client, _past_key(version, alias)
    if replaced:
        client.set_model_version_tag(version.name, version.version, key, ",".join(replaced))
    else:
        client.delete_model_version_tag(version.name, version.version, key)


def _number_of(version: ModelVersion | None) -> str:
    return "" if version is None else str(version.version)


def _number(text: str | None) -> float:
    try:
        return math.nan if text is None else float(text)
    except ValueError:
        return math.nan


def _result(
    name: str,
    alias: str,
    promoted: bool,
    reason: str,
    version: ModelVersion | None,
    champion: ModelVersion | None,
) -> Promotion:
    return Promotion(
        name=name,
        alias=alias,
        promoted=promoted,
        reason=reason,
        version=None if version is None else str(version.version),
        champion=None if champion is None else str(champion.version),
    )
