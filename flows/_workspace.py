"""Where studies live on disk, and how one is created, found again, or refused.

``$HPO_HOME`` (default ``.hpo`` in the working directory) holds one folder per study: the journal,
checkpoints, and what waits to be delivered to MLflow.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import shlex
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows._files import is_there
from flows._notes import identity_of, request_data
from flows._provenance import changes_since
from flows._words import edited, left_out
from hpo_core import (
    InputError,
    Journal,
    Limits,
    SearchSpace,
    Settings,
    Strategy,
    Study,
    StudyExistsError,
    StudyLockedError,
    TrialState,
    make_strategy,
)
from hpo_core.inner import BAD, JOURNAL, lock_of, read_created, read_journal

# What file systems take as a folder's name, of which a letter that is not Latin needs two to four.
_NAME_BYTES = 240


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a study is asked to be.

    ``space`` is ``None`` for define-by-run. ``identity``: what must be the same for a name to mean the
    same study (objective, data); ``meta``: what else later readers want to know. ``first``: configurations
    that a new study tries before it asks the sampler. ``enqueued``: those that the
    user wants tried, each once.
    """

    name: str
    space: SearchSpace | None
    objectives: dict[str, str]
    strategy: Strategy
    seed: int | None
    limits: Limits
    settings: Settings
    identity: dict[str, str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    first: tuple[dict[str, Any], ...] = ()
    enqueued: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A study ready to be driven. ``lines`` tell the user what was found."""

    study: Study
    journal: Journal
    folder: Path
    resumed: bool
    lines: tuple[str, ...] = ()


def studies_home(home: Path | str | None = None) -> Path:
    """The folder that holds the studies' folders."""
    return Path(home or os.environ.get("HPO_HOME") or ".hpo").expanduser().resolve() / "studies"


def study_names(home: Path | str | None = None) -> list[str]:
    """The names of all studies, sorted; also of those that only others may read, which is for them to say."""
    folder = studies_home(home)
    try:
        return sorted(path.name for path in folder.iterdir() if _may_hold_study(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"the folder of the studies {folder} cannot be read ({error.strerror}); check who may read it, "
            "or set HPO_HOME to another one"
        ) from None


def _may_hold_study(folder: Path) -> bool:
    try:
        return is_there(folder / JOURNAL)
    except PermissionError:
        return True


def study_folder(name: str, home: Path | str | None = None) -> Path:
    """A study's folder. Raises :class:`InputError` for a name that makes no good folder."""
    good = isinstance(name, str) and re.fullmatch(r"[\w][\w .+-]{0,119}", name)
    if not good or len(name.encode()) > _NAME_BYTES:
        raise InputError(
            f"a study's name has letters, digits, spaces, dots, dashes and underscores, begins with a "
            f"letter or digit and has at most 120 characters ({_NAME_BYTES} bytes); got {name!r}"
        )
    return studies_home(home) / name


def open_study(
    terms: Terms,
    *,
    now: float,
    home: Path | str | None = None,
    edit: bool = False,
    check: Callable[[Study], None] = lambda study: None,
) -> Opened:
    """Create the study, or go on with the one of that name.

    Going on needs the same objective, data, objectives and space (``edit`` allows another space), and
    takes over from a dead driver: what that had running is to be repeated. A higher number of trials,
    or another limit, than the study has is taken as its new budget.

    Raises :class:`StudyExistsError` when the name is another study's, :class:`StudyLockedError` when
    a living driver holds it, :class:`InputError` when its folder cannot be made. ``now`` is taken as no
    earlier than the study's last event. ``check``: may refuse to go on with one, before it is changed.
    """
    folder = study_folder(terms.name, home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the study's folder {folder} cannot be made ({error.strerror}); set HPO_HOME to a folder where "
            "you may write"
        ) from None
    journal = journal_in(folder)
    try:
        # A request that came too late for the driver that it was meant for.
        (folder / "cancel").unlink(missing_ok=True)
        events, journal.events = journal.events, []
        if not events:
            study = _created(terms, journal, now)
            study.execution.take_over(driver_label(), now)
            _enqueue(study, terms, now)
            _begin_with(study, terms, now)
            return Opened(study, journal, folder, resumed=False)
        study = Study.replay(events, journal=journal, space=terms.space, strategy=None)
        _check_place(study, folder)
        _check_same(study, terms, edit=edit)
        check(study)
        now = max(now, study.state.last_at)
        lines = _take_over(study, terms, now=now)
        lines += _enqueue(study, terms, now)
        _begin_with(study, terms, now)
        return Opened(study, journal, folder, resumed=True, lines=tuple(lines))
    except BaseException:
        journal.close()
        if not (folder / JOURNAL).stat().st_size:
            _remove_traces(folder)
        raise


def journal_in(folder: Path) -> Journal:
    """The journal of the study in the folder, open for writing. Raises :class:`StudyLockedError`."""
    try:
        return Journal(folder / JOURNAL)
    except StudyLockedError as error:
        raise StudyLockedError(f"{error}: `hpo cancel {shlex.quote(folder.name)}` does so") from None


def read_study(folder: Path, *, space: SearchSpace | None = None) -> Study:
    """The study as its journal has it now, for reading only; a driver may be writing meanwhile.

    Raises :class:`InputError` when there is no study in the folder, or one of another name.
    """
    events = (event for _, event, _ in read_journal(folder / JOURNAL))
    first = next(events, None)
    if first is None:
        raise InputError(f"there is no study {folder.name!r} in {folder.parent}")
    study = Study.replay(itertools.chain([first], events), space=space)
    _check_place(study, folder)
    return study


def _check_place(study: Study, folder: Path) -> None:
    """Raise :class:`InputError` for a folder that is not the study's own: a command on a copy would go on
    with the original, or delete its runs.
    """
    own = folder.parent / study.name
    # Asked of the file system, which may take two ways to write a name for one.
    if not own.exists() or not own.samefile(folder):
        raise InputError(
            f"the folder {folder} holds the study {study.name!r}, as a copy does, or one that was renamed; "
            "give it that name back, or remove it by hand: its runs in MLflow are that study's"
        )


def check_before(terms: Terms, *, home: Path | str | None = None, edit: bool = False) -> bool:
    """Find what :func:`open_study` would refuse, without creating or locking anything.

    Returns whether there is such a study and it has ended, so that nothing needs to be run.
    """
    folder = study_folder(terms.name, home)
    if read_created(folder / JOURNAL) is None:
        return False
    study = read_study(folder, space=terms.space)
    _check_same(study, terms, edit=edit)
    over = study.stopped is not None and not study.stopped.resumable
    return over and not _raised(study.state.limits, terms.limits) and not _has_room(study, terms)


def _created(terms: Terms, journal: Journal, now: float) -> Study:
    return Study(
        terms.space,
        objectives=terms.objectives,
        strategy=terms.strategy,
        seed=terms.seed,
        name=terms.name,
        limits=terms.limits,
        settings=terms.settings,
        meta={**terms.meta, "identity": terms.identity, "define_by_run": terms.space is None},
        journal=journal,
        now=now,
    )


def _remove_traces(folder: Path) -> None:
    for path in (folder / JOURNAL, lock_of(folder / JOURNAL)):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's files are in it
        folder.rmdir()


def driver_label() -> str:
    """Who drives: host and process, and by chance, as the first process of each container is number 1."""
    return f"{socket.gethostname()}:{os.getpid()}-{secrets.token_hex(2)}"


def _check_same(study: Study, terms: Terms, *, edit: bool) -> None:
    known = identity_of(study.created.meta)
    differences = [
        f"its {what} is {known.get(what)!r}, not {value!r}"
        for what, value in terms.identity.items()
        if not _same(known.get(what, value), value)
    ]
    kept, asked = (request_data(meta).get("repeats") or 1 for meta in (study.created.meta, terms.meta))
    if kept != asked:
        differences.append(f"its configurations are run with {kept} repeats, not {asked}")
    if study.objectives != terms.objectives:
        differences.append(f"its objectives are {study.objectives}, not {terms.objectives}")
    # What objectives asked for beyond the declared space is the study's own, and no difference.
    declared = study.state.declared.digest()
    if terms.space is not None and not edit and declared != terms.space.digest():
        differences.append("its search space is another one (--edit-space goes on with the new one)")
    if differences:
        raise StudyExistsError(
            f"study {terms.name!r} exists and {'; '.join(differences)}. Run with the same terms to resume "
            "it, or choose another --name"
        )


def _same(known: str, value: str) -> bool:
    """Whether two names mean one function: a file that is run as a script has no module's name."""
    (one, _, this), (other, _, that) = known.partition(":"), value.partition(":")
    nameless = one.startswith("__") or other.startswith("__")  # __main__, and what Prefect loads files as
    return known == value or (nameless and this == that != "")


def _enqueue(study: Study, terms: Terms, now: float) -> list[str]:
    """Queue what the user wants tried and has not asked for before; lines for the user."""
    sources = {json.dumps(params, sort_keys=True): params for params in terms.enqueued}
    new = {source: params for source, params in sources.items() if source not in study.state.enqueued}
    if new and study.stopped is not None:
        return [f"not tried, as the study is over: {[*new.values()]}; raise the number of trials with it"]
    for source, params in new.items():
        study.enqueue(params, now, source=source)
    return []


def _begin_with(study: Study, terms: Terms, now: float) -> None:
    """Queue what the study begins with, or what is left of it if a driver died over that."""
    if not study.trials:
        for params in terms.first[study.state.enqueued.count("") :]:
            study.enqueue(params, now)


def _take_over(study: Study, terms: Terms, *, now: float) -> list[str]:
    """Become the driver of a study that has passed :func:`_check_same`; returns lines for the user."""
    lines: list[str] = []
    changes = _raised(study.state.limits, terms.limits, also_new=study.stopped is None)
    room = _has_room(study, terms)
    if study.stopped is not None and not study.stopped.resumable and not (changes or room):
        verb = "has" if study.stopped.state == "failed" else "is"
        lines = [f"the study {verb} {study.stopped.state}: {study.stopped.reason}"]
        if edited_by(study, terms):
            lines.append(
                "its search space stays as it is; this command with a higher limit goes on with the new one"
            )
        return lines
    study.execution.take_over(driver_label(), now)
    then, this_time = (meta.get("made_with") or {} for meta in (study.created.meta, terms.meta))
    if then and this_time and (differences := changes_since(then, this_time)):
        lines.append(
            f"since the study began, {'; '.join(differences)}: results of then and now are ranked together"
        )
    if terms.space is not None and edited_by(study, terms):
        queued = [*study.state.queue]
        study.change_space(terms.space, now)
        lines.append(edited(study))
        lines += filter(None, [left_out(study, queued)])
    lines += _kept(study, terms)
    ended = study.stopped
    if ended is not None and ended.resumable:
        for trial in [t.number for t in study.trials if t.state is TrialState.CANCELLED]:
            study.requeue(trial, now)
    if changes or study.stopped is not None:
        study.extend(now, **changes)
    if changes:
        lines.append(
            "its limits are now "
            + ", ".join(f"{k}={v if isinstance(v, str) else f'{v:g}'}" for k, v in changes.items())
        )
    if ended is not None:
        lines += _again(study, ended.resumable)
    return lines


def _again(study: Study, cancelled: bool) -> Iterator[str]:
    """What goes on of a study that had ended."""
    running, paused = (study.history.count(s) for s in (TrialState.WAITING, TrialState.PAUSED))
    if cancelled:
        waiting = f", {paused} are paused as they were" if paused else ""
        yield f"it was cancelled; {running} cancelled trials are run again{waiting}"
    elif running or paused:
        found = [f"{running} that ran are run again"] * bool(running)
        found += [f"{paused} that were paused are paused again"] * bool(paused)
        yield f"of the trials that its end had cut short {', '.join(found)}"


def edited_by(study: Study, terms: Terms) -> bool:
    """Whether the terms have another space than the study."""
    return terms.space is not None and terms.space.digest() != study.state.declared.digest()


def _has_room(study: Study, terms: Terms) -> bool:
    """Whether a study that ended before its last trial, as with all of a space tried, gets another space."""
    over = study.stopped is not None and not study.stopped.resumable
    return over and edited_by(study, terms) and study.history.trials_left != 0


def _kept(study: Study, terms: Terms) -> Iterator[str]:
    """What was asked for and is not taken: the study keeps what it was made with."""
    # The same name can stand for another strategy where the study ends otherwise than it did.
    wish = request_data(terms.meta).get("strategy")
    same = wish is not None and wish == request_data(study.created.meta).get("strategy")
    if not same and make_strategy(study.created.strategy).config != terms.strategy.config:
        yield f"the study keeps its strategy {study.strategy.words!r} (asked for: {terms.strategy.words!r})"
    if terms.seed not in (None, study.created.seed):
        yield f"the study keeps its seed {study.created.seed} (asked for: {terms.seed})"
    kept, asked = study.state.settings, terms.settings
    for name in ("rule", "on_duplicate", "max_attempts", "max_steps"):
        own, other = getattr(kept, name), getattr(asked, name)
        if other not in (None, own):
            yield f"the study keeps {name} {own!r} (asked for: {other!r})"
    if asked.outcome_constraints not in ((), kept.outcome_constraints):
        had, wanted = (", ".join(s.outcome_constraints) or "none" for s in (kept, asked))
        yield f"the study keeps its constraints: {had} (asked for: {wanted})"
    if kept.deterministic != asked.deterministic:
        order = "the order of its trials" if kept.deterministic else "the order in which they arrive"
        yield f"the study goes on taking results in {order}, as it was started"
    elif kept.deterministic and kept.workers != asked.workers:
        yield (
            f"a deterministic study takes another course with {asked.workers} workers than with the "
            f"{kept.workers} that it was started with"
        )


def _raised(old: Limits, new: Limits, *, also_new: bool = False) -> dict[str, float | str | None]:
    """The limits that the new terms raise; a lower number never takes finished trials back.

    When to stop for want of improvement is no amount to raise: what the new terms say of it holds.
    ``also_new``: and those that the study does not have yet.
    """
    changes: dict[str, float | str | None] = {}
    for name, value in new.to_json().items():
        known = getattr(old, name)
        if name == "improvement":
            if value != known:
                changes[name] = value
        elif value is not None and (also_new if known is None else value > known):
            changes[name] = value
    return changes


def requeue_failed(study: Study, now: float, *, wanted: Callable[[int], bool] = lambda n: True) -> int:
    """Queue trials that ended badly to be run again; returns how many."""
    numbers = [t.number for t in study.trials if t.state in BAD and wanted(t.number)]
    for number in numbers:
        study.requeue(number, now)
    return len(numbers)
