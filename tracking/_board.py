"""Studies as MLflow's own database has them, kept up to date cheaply: what the live pages read.

Reads the tables of MLflow's SQL store directly. ``search_runs`` builds ten thousand full runs in half a
minute; the columns that a page needs are there in under a second, and afterwards only runs that are
open, new, or closed since are read again.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpo_core import InputError
from hpo_core.inner import SPREAD, sign_of
from tracking._collecting import uncollected
from tracking._lease import TAG as LEASE
from tracking._lease import Lease
from tracking._states import RUNNING, TRIAL_STATUS
from tracking._text import safe_key
from tracking.tags import (
    BEST_VALUES,
    BUSY,
    BUSY_SINCE,
    CONSTRAINTS,
    COUNTS,
    LIMITS,
    OBJECTIVES,
    OUTSIDE,
    PARAMS,
    PARENT_RUN_ID,
    PLANNED,
    REASON,
    REPEATS,
    ROLE,
    STATE,
    STRATEGY,
    STUDY,
    STUDY_ID,
    TRIAL,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

# A page that asks more often gets the same answer.
_FRESH_SECONDS = 0.8
# A study that nobody drives is looked at this often, in case a resync or a resumption rewrites it.
_QUIET_SECONDS = 5.0
_MOST_STUDIES = 8
# The state of a study that nobody drives any more, and of the trials that it had running.
INTERRUPTED = "interrupted"
_CHUNK = 500
_MOST_POINTS = 50_000
_LISTED = (
    STUDY, STUDY_ID, STATE, REASON, OBJECTIVES, STRATEGY, LIMITS, COUNTS,
    PLANNED, BEST_VALUES, REPEATS, LEASE, BUSY, BUSY_SINCE, CONSTRAINTS,
)  # fmt: skip


@dataclass(slots=True)
class BoardTrial:
    """One trial. ``values``: the newest value of each objective, by name; times in milliseconds.

    ``spread``: of a study of repeats, the standard deviation over a trial's seeds, by objective. ``busy``:
    of a trial that did not run in one go, the seconds that it ran until it last stopped; ``since``: when it
    began to run again, if it runs. ``outside``: the space, as it was edited since, cannot have it.
    """

    number: int
    run_id: str
    status: str
    start: int
    end: int | None
    state: str = "waiting"
    params: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    step: int = 0
    spread: dict[str, float] = field(default_factory=dict)
    busy: float | None = None
    since: float | None = None
    outside: bool = False

    @property
    def ranked(self) -> bool:
        """Whether its values count."""
        return self.state == "complete"

    def seconds(self, now: int) -> float:
        """How long it has run by ``now`` (milliseconds), without the pauses between its segments."""
        begin = self.start if self.busy is None else self.since
        running = 0.0 if begin is None else max((self.end or now) - begin, 0) / 1000
        return (self.busy or 0.0) + running


@dataclass(slots=True)
class BoardStudy:
    """A study and its trials by number. ``revision`` grows whenever anything changed."""

    run_id: str
    experiment_id: str
    experiment: str
    name: str
    status: str
    start: int
    end: int | None
    tags: dict[str, str]
    trials: dict[int, BoardTrial] = field(default_factory=dict)
    revision: int = 0
    # What views have made of it; another revision is another object.
    memo: dict[str, Any] = field(default_factory=dict, compare=False)
    # A lock for each: of several requests one makes it, the others wait for it.
    making: dict[str, threading.Lock] = field(default_factory=dict, compare=False)
    # What they go on from: all revisions share it. A trial that changes becomes another object.
    kept: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def state(self) -> str:
        """The study's own word for how it stands."""
        return self.tags.get(STATE, self.status.lower())

    @property
    def seconds(self) -> float | None:
        """Seconds in which a driver had it, as far as MLflow knows; ``None`` where the tag is missing."""
        return _number(self.tags[BUSY]) if BUSY in self.tags else None

    @property
    def since(self) -> int | None:
        """Until when those seconds count, in milliseconds, if it is running."""
        said = self.tags.get(BUSY_SINCE, "")
        return int(said) if said.isdecimal() and self.state == "running" else None

    @property
    def constraints(self) -> list[str]:
        """Bounds on metrics that a result must keep, in words."""
        return bounds_of(self.tags)

    @property
    def objectives(self) -> dict[str, str]:
        """Name to ``min`` or ``max``."""
        return parsed(self.tags.get(OBJECTIVES))

    def sign(self, objective: str) -> float:
        """Times this, the objective's values are costs: less is better."""
        return sign_of(self.objectives[objective])

    @property
    def repeats(self) -> int:
        """With how many seeds each configuration is run; 1 where it is no study of repeats."""
        text = self.tags.get(REPEATS, "")
        return int(text) if text.isdecimal() else 1

    @property
    def study_id(self) -> str:
        """The identity that its journal has too."""
        return self.tags.get(STUDY_ID, "")


@dataclass(slots=True)
class _Kept:
    """``rows``: id, status, start and end of every run, as they were read last."""

    study: BoardStudy
    rows: frozenset[tuple[Any, ...]] = frozenset()
    lock: threading.Lock = field(default_factory=threading.Lock)
    looked: float = 0.0
    full: float = 0.0


class Board:
    """All studies of one MLflow server. Thread-safe.

    ``clock``: seconds from any moment, by which answers age. ``now``: seconds since the epoch, by which
    leases run out.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    @classmethod
    def of_server(cls) -> Board:
        """The board of the server that runs in this process.

        Raises :class:`InputError` for a server that keeps its runs in files or elsewhere.
        """
        from mlflow.server.handlers import _get_tracking_store

        engine = getattr(_get_tracking_store(), "engine", None)
        if engine is None:
            raise InputError(
                "the study pages read MLflow's database, and this server has none; start it with "
                "--backend-store-uri sqlite:///mlflow.db, or another database"
            )
        return cls(engine)

    def studies(self) -> list[BoardStudy]:
        """Every study, the newest first, without trials."""
        from mlflow.store.tracking.dbmodels.models import SqlTag

        with self._engine.connect() as connection:
            of_role = _select(SqlTag.run_uuid).where(SqlTag.key == ROLE, SqlTag.value == "study")
            found = [row.run_uuid for row in connection.execute(of_role)]
            listed = self._heads(connection, found, _LISTED)
        return sorted(listed, key=lambda study: (-study.start, study.name))

    def study(self, run_id: str, within: float = _FRESH_SECONDS) -> BoardStudy:
        """The study of that run with its trials, as it was at most ``within`` seconds ago.

        Raises :class:`LookupError` for another run.
        """
        with self._lock:
            kept = self._kept.get(run_id)
        if kept is None:
            kept = _Kept(self._head(run_id))
        with self._lock:
            kept = self._kept.setdefault(run_id, kept)
            self._kept.move_to_end(run_id)
            while len(self._kept) > _MOST_STUDIES:
                self._kept.popitem(last=False)
        if within > _FRESH_SECONDS and kept.study.revision and self._clock() - kept.looked < within:
            return kept.study  # without waiting for whoever is looking
        with kept.lock:
            if self._clock() - kept.looked >= _FRESH_SECONDS or not kept.study.revision:
                with uncollected():
                    self._refresh(kept)
                kept.looked = self._clock()
        return kept.study

    def run_of(self, study_id: str) -> tuple[str, str] | None:
        """Run and experiment of the study with that identity, the newest; ``None`` where none is here."""
        from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag

        # Few runs are studies', and any number have the identity: each trial of the study has it too.
        of_role = _select(SqlTag.run_uuid).where(SqlTag.key == ROLE, SqlTag.value == "study")
        query = (
            _select(SqlRun.run_uuid, SqlRun.experiment_id)
            .join(SqlTag, SqlTag.run_uuid == SqlRun.run_uuid)
            .where(SqlTag.key == STUDY_ID, SqlTag.value == study_id, SqlTag.run_uuid.in_(of_role))
            .where(SqlRun.lifecycle_stage == "active")
            .order_by(SqlRun.start_time.desc())
        )
        with self._engine.connect() as connection:
            found = connection.execute(query).first()
        return None if found is None else (found.run_uuid, str(found.experiment_id))

    def curves(self, run_id: str) -> dict[str, list[tuple[int, float]]]:
        """Every metric of a run as (step, value), by step; those that are not finite left out."""
        from mlflow.store.tracking.dbmodels.models import SqlMetric as Metric

        query = (
            _select(Metric.key, Metric.step, Metric.value)
            .where(Metric.run_uuid == run_id, Metric.is_nan.is_(False))
            .order_by(Metric.key, Metric.step, Metric.timestamp)
            .limit(_MOST_POINTS)
        )
        curves: dict[str, list[tuple[int, float]]] = {}
        with self._engine.connect() as connection:
            for key, step, value in connection.execute(query):
                points = curves.setdefault(key, [])
                if points and points[-1][0] == step:
                    points.pop()
                points.append((step, value))
        return curves

    def tags(self, run_id: str) -> dict[str, str]:
        """All tags of a run."""
        from mlflow.store.tracking.dbmodels.models import SqlTag

        with self._engine.connect() as connection:
            rows = connection.execute(_select(SqlTag.key, SqlTag.value).where(SqlTag.run_uuid == run_id))
            return {row.key: row.value for row in rows}

    # -- reading -------------------------------------------------------------------------------

    def _head(self, run_id: str) -> BoardStudy:
        with self._engine.connect() as connection:
            found = self._heads(connection, [run_id], None)
        if not found or found[0].tags.get(ROLE) != "study":
            raise LookupError(f"run {run_id!r} is no study's")
        return found[0]

    def _heads(self, connection: Any, run_ids: list[str], keys: Sequence[str] | None) -> list[BoardStudy]:
        from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun, SqlTag

        heads: dict[str, BoardStudy] = {}
        for chunk in _chunks(run_ids):
            query = (
                _select(SqlRun, SqlExperiment.name.label("experiment"))
                .with_only_columns(
                    SqlRun.run_uuid, SqlRun.experiment_id, SqlRun.name, SqlRun.status, SqlRun.start_time,
                    SqlRun.end_time, SqlExperiment.name.label("experiment"),
                )
                .join(SqlExperiment, SqlExperiment.experiment_id == SqlRun.experiment_id)
                .where(SqlRun.run_uuid.in_(chunk), SqlRun.lifecycle_stage == "active")
            )  # fmt: skip
            for row in connection.execute(query):
                heads[row.run_uuid] = BoardStudy(
                    run_id=row.run_uuid,
                    experiment_id=str(row.experiment_id),
                    experiment=row.experiment,
                    name=row.name,
                    status=row.status,
                    start=row.start_time,
                    end=_end(row.status, row.end_time),
                    tags={},
                )
            wanted = _select(SqlTag.run_uuid, SqlTag.key, SqlTag.value).where(SqlTag.run_uuid.in_(chunk))
            if keys is not None:
                wanted = wanted.where(SqlTag.key.in_(keys))
            for run_id, key, value in connection.execute(wanted):
                if run_id in heads:
                    heads[run_id].tags[key] = value
        for head in heads.values():
            head.name = head.tags.get(STUDY, head.name)
            _note_lapse(head, self._now())
        return list(heads.values())

    def _refresh(self, kept: _Kept) -> None:
        old = kept.study
        head = self._head(old.run_id)
        same = (head.status, head.end, head.tags) == (old.status, old.end, old.tags)
        now = self._clock()
        if old.revision and same and head.status != RUNNING and now - kept.full < _QUIET_SECONDS:
            return
        kept.full = now
        trials = dict(old.trials)
        with self._engine.connect() as connection:
            rows = self._rows(connection, head)
            changed = _changed(rows, kept.rows, trials)
            self._read(connection, head, changed, everything=not old.trials)
        if head.state == INTERRUPTED:
            _end_open(changed.values(), head)
        fresh = {t.number: t for t in changed.values() if trials.get(t.number) != t}
        head.trials = dict(sorted((trials | fresh).items()))
        head.trials.pop(-1, None)
        kept.rows = rows
        if not (same and old.revision and head.trials == old.trials):
            head.revision = old.revision + 1
            head.kept = old.kept
            kept.study = head

    def _rows(self, connection: Any, head: BoardStudy) -> frozenset[tuple[Any, ...]]:
        from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag

        query = (
            _select(SqlRun.run_uuid, SqlRun.status, SqlRun.start_time, SqlRun.end_time)
            .join(SqlTag, SqlTag.run_uuid == SqlRun.run_uuid)
            .where(
                SqlTag.key == PARENT_RUN_ID,
                SqlTag.value == head.run_id,
                SqlRun.lifecycle_stage == "active",
            )
        )
        # An edit of the space changes what has ended.
        tagged = _select(SqlTag.run_uuid).where(
            SqlTag.key == OUTSIDE, SqlTag.value != "", SqlTag.run_uuid.in_(_children(head))
        )
        outside = set(connection.execute(tagged).scalars())
        return frozenset((*row, row[0] in outside) for row in connection.execute(query))

    def _read(
        self, connection: Any, head: BoardStudy, trials: dict[str, BoardTrial], *, everything: bool
    ) -> None:
        """Fill the records in. ``everything``: they are all of the study's, so one query will do."""
        from mlflow.store.tracking.dbmodels.models import SqlLatestMetric as Latest
        from mlflow.store.tracking.dbmodels.models import SqlTag

        metrics = {safe_key(name): name for name in head.objectives}
        spreads = {safe_key(name + SPREAD): name for name in head.objectives} if head.repeats > 1 else {}
        for chunk in [_children(head)] if everything else _chunks(list(trials)):
            tags = _select(SqlTag.run_uuid, SqlTag.key, SqlTag.value).where(
                SqlTag.run_uuid.in_(chunk), SqlTag.key.in_((TRIAL, STATE, PARAMS, BUSY, BUSY_SINCE))
            )
            configured: list[BoardTrial] = []
            texts: list[str] = []
            for run_id, key, value in connection.execute(tags).all():
                if (trial := trials.get(run_id)) is None:
                    continue
                if key == TRIAL:
                    trial.number = int(value) if value.isdecimal() else -1
                elif key == STATE:
                    trial.state = value
                elif key == BUSY:
                    trial.busy = _number(value)
                elif key == BUSY_SINCE:
                    trial.since = _number(value)
                else:
                    configured.append(trial)
                    texts.append(value)
            for trial, params in zip(configured, parsed_all(texts), strict=True):
                trial.params = params
            newest = _select(Latest.run_uuid, Latest.key, Latest.value, Latest.step, Latest.is_nan).where(
                Latest.run_uuid.in_(chunk), Latest.key.in_([*metrics, *spreads])
            )
            for run_id, key, value, step, is_nan in connection.execute(newest).all():
                if (trial := trials.get(run_id)) is None or is_nan:
                    continue
                if key in metrics:
                    trial.values[metrics[key]] = value
                    trial.step = max(trial.step, step)
                else:
                    trial.spread[spreads[key]] = value
        self._read_long_configurations(connection, [t for t in trials.values() if not t.params])

    @staticmethod
    def _read_long_configurations(connection: Any, trials: list[BoardTrial]) -> None:
        """A configuration that is too long for a tag is in the run's parameters, as text."""
        from mlflow.store.tracking.dbmodels.models import SqlParam

        by_run = {trial.run_id: trial for trial in trials if trial.number >= 0}
        for chunk in _chunks(list(by_run)):
            query = _select(SqlParam.run_uuid, SqlParam.key, SqlParam.value)
            for run_id, key, value in connection.execute(query.where(SqlParam.run_uuid.in_(chunk))):
                by_run[run_id].params[key] = value


def _changed(
    rows: frozenset[tuple[Any, ...]], before: frozenset[tuple[Any, ...]], trials: dict[int, BoardTrial]
) -> dict[str, BoardTrial]:
    """Fresh records, still empty, for the runs that may have changed; drops those of runs that are gone."""
    new = rows - before
    gone = {row[0] for row in before - rows} - {row[0] for row in new}
    for number in [t.number for t in trials.values() if t.run_id in gone] if gone else []:
        del trials[number]
    open_ones = {t.run_id for t in trials.values() if t.state not in TRIAL_STATUS}
    if open_ones:
        new |= {row for row in rows if row[0] in open_ones}
    return {
        run_id: BoardTrial(-1, run_id, status, start, _end(status, end), outside=outside)
        for run_id, status, start, end, outside in new
    }


def _children(head: BoardStudy) -> Any:
    """A query for the runs of the study's trials."""
    from mlflow.store.tracking.dbmodels.models import SqlTag

    return _select(SqlTag.run_uuid).where(SqlTag.key == PARENT_RUN_ID, SqlTag.value == head.run_id)


def _end(status: str, written: int | None) -> int | None:
    """When the run ended: MLflow keeps the old end of one that goes on again."""
    return None if status == RUNNING else written


def _number(text: str) -> float | None:
    """The number in a tag, ``None`` where there is none."""
    with contextlib.suppress(ValueError):
        return float(text)
    return None


def parsed(text: str | None) -> dict[str, Any]:
    """The JSON object in a tag; empty where there is none."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def bounds_of(tags: Mapping[str, str]) -> list[str]:
    """The bounds on outcomes of the study whose run has these tags."""
    try:
        found: list[str] = json.loads(tags.get(CONSTRAINTS, "[]"))
    except ValueError:  # too many for a tag, which ends somewhere then
        return []
    return found


def parsed_all(texts: list[str]) -> list[dict[str, Any]]:
    """:func:`parsed` of each; as one text where all are whole, which takes a fifth of the time."""
    try:
        found = json.loads(f"[{','.join(texts)}]")
    except ValueError:
        found = []
    # Broken texts could make whole ones together.
    whole = all(text.startswith("{") and text.endswith("}") for text in texts)
    if not whole or len(found) != len(texts):
        found = [parsed(text) for text in texts]
    return found


def _select(*columns: Any) -> Any:
    from sqlalchemy import select

    return select(*columns)


def _note_lapse(study: BoardStudy, now: float) -> None:
    """A driver that is dead cannot say so: its study is ``interrupted`` when the lease has run out."""
    lease = Lease.of(study.tags.get(LEASE))
    if study.state == "running" and lease is not None and lease.until < now:
        study.tags[STATE] = INTERRUPTED
        study.end = int(lease.until * 1000)


def _end_open(trials: Iterable[BoardTrial], study: BoardStudy) -> None:
    """Nobody runs what a dead driver had running; its time does not go on, nor that of what was paused."""
    for trial in trials:
        if trial.state == "running":
            trial.state = INTERRUPTED
        if trial.end is None:
            trial.end = max(trial.start, study.end or 0)


def _chunks(items: Iterable[str]) -> Iterator[list[str]]:
    """Lists short enough for a database's limit on bound values."""
    listed = list(items)
    for begin in range(0, len(listed), _CHUNK):
        yield listed[begin : begin + _CHUNK]
