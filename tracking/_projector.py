"""The projector: reads the journal, compares it with what MLflow has been told, tells it the rest.

No threads here and no waiting: :class:`tracking._tracker.StudyTracker` calls it and decides when. It may
be stopped at any point and begun again, here or on another machine: runs are found by ``hpo.uid``, and
writing the same thing twice changes nothing, because every timestamp comes from the journal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from hpo_core import InputError
from hpo_core.inner import JOURNAL, read_created, read_journal
from hpo_core.inner import events as ev
from tracking._checkpoint_uploads import CheckpointUploads
from tracking._client_writer import ClientWriter
from tracking._connection import Connection, set_primary_metric
from tracking._cursor import Cursor, Known, Target
from tracking._lease import RENEWED_AFTER, SECONDS, Lease, check_ours
from tracking._lease import TAG as LEASE
from tracking._options import TrackerOptions
from tracking._runs import StudyRuns
from tracking._server_clock import ServerClock
from tracking._sqlite_writer import SqliteWriter
from tracking._study_view import StudyView
from tracking._table import FILE as TABLE
from tracking._table import write_table
from tracking._trial_view import TrialView
from tracking._uploads import Uploads, file_upload, folder_upload
from tracking._writes import Refused, RunWrite, Writer
from tracking.tags import RESUMED_RUN_ID, STUDY

ARTIFACTS = "artifacts"
# Files here belong to the study's run, as those in ``artifacts/17`` belong to trial 17's.
STUDY_FILES = "study"
# So many of the best trials have their checkpoints uploaded.
_BEST = 20
# So many runs are written side by side to a server, which is not ours alone.
_AT_ONCE = 4
# Seconds after which a driver's journal first goes to MLflow; each wait is twice the one before, up to the
# one asked for. A machine that is lost within minutes has left something; a long study uploads it seldom.
_FIRST_JOURNAL = 20.0


class Projector:
    """Projects the study in ``folder`` to one experiment. Every method may raise what MLflow raises."""

    def __init__(self, folder: Path, connection: Connection, options: TrackerOptions) -> None:
        self._folder = folder
        self._journal = folder / JOURNAL
        self._connection = connection
        self._options = options
        at_once = _AT_ONCE if connection.over_http else 1
        through_client = ClientWriter(connection.client, connection.experiment_id, at_once)
        self._writer: Writer = SqliteWriter.over(connection) or through_client
        self.uploads = Uploads()
        self._checkpoints = CheckpointUploads(connection, folder, self.uploads)
        self.refusals: list[Refused] = []
        self.writes = 0
        self.parent = ""
        self._cursor: Cursor | None = None
        self._offset = 0
        self._due: dict[int, tuple[float, TrialView]] = {}
        self._next_summary = 0.0
        self._next_lease = 0.0
        self._clock = ServerClock(connection.uri)
        self._drivers: dict[int, str] = {}
        self._next_journal = self._journal_pause = 0.0
        self._uploaded_offset = 0
        # Trials whose run somebody asked for: user code may have opened runs of its own below them.
        self._asked_for: set[int] = set()
        self._restored: dict[int, Known] = {}

    # -- opening -------------------------------------------------------------------------------

    def open(self, now: float, adopt_run: str | None = None) -> str:
        """Find or make the study's run and take up where the last projector stopped; returns its id.

        ``adopt_run``: a run that becomes the study's, unless the study has one.
        """
        try:
            return self._open(now, adopt_run)
        except BaseException:
            self.close()
            raise

    def _open(self, now: float, adopt_run: str | None) -> str:
        created = read_created(self._journal)
        if created is None:
            raise InputError(f"{self._journal} holds no study; expected a journal that begins with one")
        self.view = StudyView(created)
        self.view.terms.context_tags = _context_tags()
        connection = self._connection
        target = Target(created.study_id, connection.uri, connection.experiment_id)
        cursor = self._cursor = Cursor(self._folder, target, events=_count_lines(self._journal))
        runs = self._runs = StudyRuns(connection, created.study_id)
        parent = runs.parent(cursor.parent)
        if parent is None:
            parent = self._new_parent(adopt_run)
        elif adopt_run not in (None, parent):
            # `mlflow run` opened a run for a study that has one: leave a trace from the one to the other.
            connection.client.set_tag(adopt_run, STUDY, created.name)
            connection.client.set_tag(adopt_run, RESUMED_RUN_ID, parent)
        if cursor.parent != parent:
            # Without notes, or with those of a run that is gone: all that MLflow has, also of trials that
            # this journal lacks.
            cursor.trials = {n: Known(run_id) for n, run_id in runs.gathered(parent).items()}
        self.parent = self.view.terms.parent_run = parent
        self._restored = cursor.trials
        cursor.begin(parent)
        self._journal_pause = min(_FIRST_JOURNAL, self._options.journal)
        self._next_journal = now + self._journal_pause
        self.read(now)
        self._enqueue_leftovers()
        self._renew_lease(now)
        self._write_parent(now, suspended=False)
        return parent

    def _new_parent(self, adopt_run: str | None) -> str:
        client = self._connection.client
        objective, direction = next(iter(self.view.terms.created.objectives.items()))
        key = self.view.terms.metrics.key(objective)
        set_primary_metric(self._connection, key, maximise=direction == "max")
        if adopt_run is not None:
            self._runs.check_adoptable(adopt_run)
            # Whoever made the run has said where it comes from.
            self.view.hide_context()
            return adopt_run
        write = self.view.pending(None)
        run = client.create_run(
            self._connection.experiment_id,
            start_time=write.start_time,
            tags=write.tags,
            run_name=write.name,
        )
        run_id: str = run.info.run_id
        return run_id

    def _enqueue_leftovers(self) -> None:
        folder = self._folder / ARTIFACTS
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        for number in sorted(int(name) for name in names if name.isdecimal()):
            if number < len(self.view.trials) and number not in self._due:
                self._enqueue_files(self.view.trials[number])

    # -- reading -------------------------------------------------------------------------------

    def read(self, now: float) -> bool:
        """Fold what the journal has grown by; whether it had."""
        grown = False
        for seq, event, offset in read_journal(self._journal, start=self._offset):
            self._offset, grown = offset, True
            if seq == 0:
                continue
            if isinstance(event, ev.DriverTookOver):
                self._drivers[event.token] = event.driver
            for view in self.view.apply(seq, event):
                if isinstance(event, ev.TrialAsked):
                    self._recall(view, seq)
                elif isinstance(event, ev.CheckpointSaved | ev.CheckpointDropped):
                    self._checkpoints.changed(view.number)
                if view.due:
                    self._due.setdefault(view.number, (now, view))
        return grown

    def _recall(self, view: TrialView, seq: int) -> None:
        known = self._restored.pop(view.number, None)
        if known is not None:
            view.restore(run_id=known.run_id, seq=known.seq, status=known.status, intended=known.intended)
        if seq > view.written_seq:
            view.touch(seq)

    # -- writing -------------------------------------------------------------------------------

    @property
    def pending_events(self) -> int:
        """Events that were read and that MLflow does not show."""
        return sum(view.unwritten for _, view in self._due.values())

    @property
    def delivered_seq(self) -> int:
        """All events up to this one are in MLflow, or have nothing to show there."""
        firsts = [view.first_unwritten for _, view in self._due.values() if view.unwritten]
        return min(firsts, default=self.view.seq + 1) - 1

    def next_due(self) -> float:
        """When something is to be written next."""
        due = [since + self._options.flush for since, _ in self._due.values()]
        due.append(self._next_lease)
        if self.view.dirty:
            due.append(self._next_summary)
        if self._offset > self._uploaded_offset:
            due.append(self._next_journal)
        return min(due)

    def want(self, trial: int, now: float) -> bool:
        """Create the trial's run next; ``False`` while the journal does not know the trial."""
        if trial >= len(self.view.trials):
            return False
        view = self.view.trials[trial]
        self._asked_for.add(trial)
        if view.run_id is None:
            view.wanted = True
            self._due.setdefault(trial, (now, view))
        return True

    def deliver(self, now: float, *, everything: bool = False, suspended: bool = False) -> bool:
        """Write a batch of what is due; whether more is due now.

        ``everything``: due or not. ``suspended``: the driver leaves an open study.
        """
        if now >= self._next_lease:
            self._renew_lease(now)
        limit = now - self._options.flush
        ready = [v for since, v in self._due.values() if everything or v.wanted or since <= limit]
        ready.sort(key=lambda view: not view.wanted)
        batch = ready[: self._writer.batch]
        self._look_up([view for view in batch if view.intended and view.run_id is None])
        if batch:
            self._writer.write([view.pending(suspended=suspended) for view in batch], self)
        if len(ready) > len(batch):
            return True
        if self.view.dirty and (everything or now >= self._next_summary):
            self._write_parent(now, suspended=suspended)
        if now >= self._next_journal and self._offset > self._uploaded_offset:
            self.upload_journal(now)
        return False

    def finish(self, now: float, given_up: Callable[[], bool] = lambda: False) -> bool:
        """The driver leaves: close every run that is open, write all that is left; whether all was written.

        ``given_up`` is asked between batches; once it says so, only the study's own run is closed.
        """
        # A machine that slept has not noticed that its lease ran out, and must not overwrite its successor's.
        self._renew_lease(now)
        suspended = self.view.ended is None
        for view in self.view.trials:
            # A paused trial's run is open as long as somebody may go on with it.
            if view.run_id is not None and not view.finished:
                self._due.setdefault(view.number, (now, view))
        while not given_up() and self.deliver(now, everything=True, suspended=suspended):
            pass
        self._write_parent(now, suspended=suspended)
        self._give_up_lease()
        if given_up():
            return False
        self._runs.sweep(self.parent, self.view.trials)
        table = self._folder / TABLE
        write_table(table, self.view.trials, self.view.terms.created.objectives)
        self.uploads.add(TABLE, file_upload(self._connection.client, self.parent, table))
        files = self._folder / ARTIFACTS / STUDY_FILES
        if files.is_dir():
            self.uploads.add(STUDY_FILES, folder_upload(self._connection.client, self.parent, files))
        if self._options.checkpoints == "best":
            self._checkpoints.add(self.view.best_trials(_BEST))
        return True

    def upload_journal(self, now: float, *, leaving: bool = False) -> None:
        """Queue an upload of the journal to the study's run. ``leaving``: the driver does nothing more."""
        self._journal_pause = min(2 * self._journal_pause, self._options.journal)
        self._next_journal = now + self._journal_pause
        self._uploaded_offset = self._offset
        kept = self.view.trials if self._options.checkpoints == "kept" else ()
        self._checkpoints.add_journal(self.parent, self._journal, kept, leaving=leaving)

    def close(self) -> None:
        """Let go of the files, and of uploads that still wait; calling it twice is harmless."""
        if self._cursor is not None:
            self._cursor.close()
        self._writer.close()
        self.uploads.close(0.0)

    def _look_up(self, views: list[TrialView]) -> None:
        """Runs whose creation was begun but never confirmed may exist."""
        found = self._runs.of_trials([view.number for view in views])
        for view in views:
            view.intended = False
            if view.number in found:
                view.adopt(found[view.number])

    def _renew_lease(self, now: float) -> None:
        """Hold the study for another while. Raises :class:`Fenced` when another driver has it."""
        self._check_lease()
        if self._drivers:
            token = max(self._drivers)
            lease = Lease(token, self._drivers[token], self._clock.now() + SECONDS)
            self._connection.client.set_tag(self.parent, LEASE, lease.to_tag())
        self._next_lease = now + RENEWED_AFTER

    def _give_up_lease(self) -> None:
        lease = self._check_lease()
        if lease is not None:
            self._connection.client.set_tag(self.parent, LEASE, lease.given_back().to_tag())

    def _check_lease(self) -> Lease | None:
        lease = Lease.of(self._connection.client.get_run(self.parent).data.tags.get(LEASE))
        check_ours(lease, self._drivers)
        return lease

    def _write_parent(self, now: float, *, suspended: bool) -> None:
        write = self.view.pending(self.parent, suspended=suspended)
        self._writer.write([write], self)
        self._next_summary = now + self._options.summary

    def creating(self, write: RunWrite) -> None:
        """See :class:`tracking._writes.Progress`."""
        self.view.trials[write.number].intended = True
        self._note(write.number, Known())

    def created(self, write: RunWrite, run_id: str) -> None:
        """See :class:`tracking._writes.Progress`."""
        view = self.view.trials[write.number]
        view.run_id, view.intended = run_id, False
        self._note(write.number, Known(run_id))

    def done(self, write: RunWrite, run_id: str) -> None:
        """See :class:`tracking._writes.Progress`."""
        if write.number < 0:
            # It is written again in every attempt to close, so by itself it is no progress.
            self.view.written(write)
            return
        self.writes += 1
        view = self.view.trials[write.number]
        view.run_id = run_id
        view.written(write, self.view.seq)
        self._due.pop(view.number, None)
        self._note(view.number, Known(run_id, self.view.seq, view.sent_status))
        self._enqueue_files(view)
        if view.finished and view.number in self._asked_for:
            self._asked_for.discard(view.number)
            self._runs.close_below(run_id)

    def _note(self, trial: int, known: Known) -> None:
        if self._cursor is not None:
            self._cursor.note(trial, known)

    def refused(self, refused: Refused) -> None:
        """See :class:`tracking._writes.Progress`."""
        self.refusals.append(refused)

    def _enqueue_files(self, view: TrialView) -> None:
        if not view.finished or view.run_id is None:
            return
        folder = self._folder / ARTIFACTS / str(view.number)
        config = view.long_config
        if config is not None and not (folder / "config.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.json").write_text(config, encoding="utf-8")
        if folder.is_dir():
            client = self._connection.client
            self.uploads.add(f"{ARTIFACTS}/{view.number}", folder_upload(client, view.run_id, folder))


@functools.cache
def _context_tags() -> dict[str, str]:
    """User, source and version of the code, as MLflow finds them out; once, it is slow."""
    from mlflow.tracking.context.registry import resolve_tags

    return {str(k): str(v) for k, v in resolve_tags().items()}


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
