"""Begin a study with results from elsewhere: read before anything is made, observed once."""

from __future__ import annotations

from collections.abc import Sequence

from flows._files import is_there
from flows._notes import WARM_START
from flows._workspace import Terms, read_study, study_folder
from flows.sources import Source
from hpo_core import InputError, SpaceError, Study
from hpo_core.inner import JOURNAL, OutcomeConstraint
from hpo_core.warm_start import Fitting, adopt, fit

# The tag of the study's run.
_TAG = "hpo.warm_start"


def read_past(
    terms: Terms, sources: Sequence[Source], *, tracking_uri: str | None = None
) -> tuple[Fitting, ...]:
    """What of the sources fits the study; those that it has begun with already are not read again.

    Makes nothing. Raises :class:`InputError` when a source cannot be read or nothing of it fits.
    """
    if not sources:
        return ()
    done = _begun_with(terms)
    found: dict[str, Fitting] = {}
    bounded = {c.metric for c in map(OutcomeConstraint.of, terms.settings.outcome_constraints)}
    for source in sources:
        if source.label == f"study:{terms.name}":
            raise InputError(f"study {terms.name!r} cannot start from itself; the same command resumes it")
        if source.label in done or source.label in found:
            continue
        past = source.read(tracking_uri)
        found[source.label] = fit(terms.space, terms.objectives, past, bounded=bounded)
    return tuple(found.values())


def _begun_with(terms: Terms) -> set[str]:
    folder = study_folder(terms.name)
    if not is_there(folder / JOURNAL):
        return set()
    try:
        study = read_study(folder, space=terms.space)
    except InputError as error:
        if isinstance(error, SpaceError):
            raise
        return set()  # a journal without its first event: the study is still to be created
    return {note.data["label"] for note in study.state.notes if note.topic == WARM_START}


def begin_with(study: Study, past: Sequence[Fitting], now: float) -> list[str]:
    """Observe what was read, and keep where it is from; returns lines for the user.

    Doing it again, or going on after a crash in the middle, observes nothing twice.
    """
    if not past or study.stopped is not None:
        return []
    for fitting in past:
        count = adopt(study, fitting, now)
        said = {
            "label": fitting.source,
            "results": len(fitting.rows),
            "observed": count,
            "failures": fitting.failures,
            "skipped": dict(fitting.skipped),
            "text": str(fitting),
        }
        known = {**origins_of(study), fitting.source: len(fitting.rows)}
        origins = [f"{label} ({count:,} result{'s' * (count != 1)})" for label, count in known.items()]
        study.note("tags", {"tags": {_TAG: ", ".join(origins)}}, now=now)
        study.note(WARM_START, said, now=now)  # the last one: what has it is done
    return [str(fitting) for fitting in past]


def origins_of(study: Study) -> dict[str, int]:
    """What the study was started from, and how many results of each it knows."""
    return {n.data["label"]: n.data["results"] for n in study.state.notes if n.topic == WARM_START}


def origin_lines(study: Study) -> list[str]:
    """The same in sentences, with what was left out, and with what an objective turned out not to ask for."""
    lines = [str(n.data["text"]) for n in study.state.notes if n.topic == WARM_START]
    fitting, observed = int((study.history.evidence.trials < 0).sum()), len(study.state.observed)
    if study.history.define_by_run and fitting < observed:
        lines.append(f"{fitting:,} of {observed:,} results fit what the objective has asked for so far")
    return lines
