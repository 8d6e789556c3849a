"""One session of a study: open it, bring up tracking, and close it in order whatever happens. No Prefect."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shlex
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flows._clock import steady_clock
from flows._experiment import TrackingTerms, check_experiment, check_tracking, settle_experiment
from flows._notes import note_place, run_in
from flows._warm_start import begin_with
from flows._workspace import Opened, Terms, edited_by, open_study
from hpo_core import InputError, Study
from hpo_core.warm_start import Fitting
from tracking import Away, Denied, StudyTracker, TrackerOptions, absolute_uri, redacted

# How long the end of a session waits for MLflow to take what is left.
_DELIVER_SECONDS = 30.0
# How long that may take without a word, and how long still when the process is told to end.
_SILENT_SECONDS, _GRACE_SECONDS = 5.0, 3.0
_RETRY_SECONDS = 1.0


@dataclass(kw_only=True)
class Session:
    """What callers may watch while it lasts, and read afterwards.

    ``connecting``: the tracker's start. MLflow takes seconds to load, so a new study's trials run meanwhile,
    once ``may_connect`` says that their workers have started and need the processor no more. Should MLflow
    go away before it has heard of a new study, it is tried again until the session is ``over``. ``now``: the
    clock of all that is journaled; were another one set meanwhile, that would count as time spent.
    """

    study: Study
    folder: Path
    resumed: bool
    tracker: StudyTracker
    uri: str | None = None
    connecting: asyncio.Task[str | None] | None = None
    may_connect: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    parent_run: str | None = None
    ended: str = ""
    lines: list[str] = field(default_factory=list)
    refused: bool = False
    now: Callable[[], float] = field(default_factory=steady_clock)

    def refuse(self) -> None:
        """What was asked for cannot be run: a study that has not begun is not shown anywhere."""
        self.refused = not (self.resumed or self.may_connect.is_set())

    def wind_up(self) -> None:
        """Nothing more is going to run: a tracker that has not started tries once more, and no longer."""
        self.over.set()
        self.may_connect.set()

    async def connected(self) -> None:
        """Wait until the tracker follows the study, or is offline.

        Raises :class:`InputError` when the tracking server or the experiment cannot be used after all.
        """
        if self.connecting is not None:
            self.parent_run = await asyncio.shield(self.connecting)


@contextlib.asynccontextmanager
async def session(
    terms: Terms,
    tracking: TrackingTerms,
    *,
    home: Path | str | None = None,
    edit: bool = False,
    past: Sequence[Fitting] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> AsyncIterator[Session]:
    """The opened study with its tracker running; closed in order whatever happens. ``past``: results from
    elsewhere to begin with.

    Raises :class:`InputError` when the study or the tracking server cannot be opened; then nothing
    was created.
    """
    adopt = tracking.adopt_run or os.environ.pop("MLFLOW_RUN_ID", None)
    uri = await asyncio.to_thread(check_tracking, tracking)
    usable = functools.partial(check_experiment, tracking)
    opened = open_study(terms, now=time.time(), home=home, edit=edit, check=usable)
    current: Session | None = None
    unused = False
    try:
        clock = steady_clock(after=opened.study.state.last_at)
        lines = [*opened.lines, *begin_with(opened.study, past, clock())]
        note_place(opened.study, terms.meta, clock(), space=not edited_by(opened.study, terms))
        experiment = await asyncio.to_thread(settle_experiment, tracking, adopt, opened.study)
        tracker = StudyTracker(
            opened.folder,
            uri,
            experiment,
            adopt_run=adopt,
            known_run=run_in(opened.study, experiment),
            offline=tracking.offline,
            options=TrackerOptions(checkpoints=tracking.checkpoints),
        )
        for line in lines:
            tell(line)
        current = Session(
            study=opened.study,
            folder=opened.folder,
            resumed=opened.resumed,
            tracker=tracker,
            uri=uri or absolute_uri(tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or "") or None,
            lines=lines,
            now=clock,
        )
        current.connecting = asyncio.create_task(_connect(current, tell))
        if opened.resumed:
            # A driver elsewhere may hold the study: then nothing of it runs here.
            current.may_connect.set()
            await current.connected()
        yield current
        current.wind_up()
        await current.connected()
    except InputError:
        # What is refused before the first result leaves nothing behind.
        own = opened.study.history.evidence.trials >= 0
        unused = not opened.resumed and not own.any()
        raise
    finally:
        await _close(opened, current, tell)
        if unused:
            shutil.rmtree(opened.folder, ignore_errors=True)
            if current is not None and current.parent_run not in (None, adopt):
                await asyncio.to_thread(current.tracker.connection.client.delete_run, current.parent_run)


async def _connect(current: Session, tell: Callable[[str], None]) -> str | None:
    await current.may_connect.wait()
    if current.refused:
        return None
    told = False
    while True:
        try:
            return await asyncio.to_thread(current.tracker.start)
        except Away as error:
            # It answered before the study began, and a study that has begun does not need it.
            if current.resumed:
                raise
            over = current.over.is_set()
            if not told:
                told = True
                tell(f"the study {'' if over else 'goes on, and '}waits to be shown in MLflow: {error}")
            if over:
                command = f"hpo sync {shlex.quote(current.study.name)}"
                if isinstance(error, Denied):
                    tell(f"MLflow has not taken the study; `{command}` delivers everything once it does")
                else:
                    tell(f"MLflow is away; `{command}` delivers everything once it is back")
                return None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(current.over.wait(), _RETRY_SECONDS)


async def _close(opened: Opened, current: Session | None, tell: Callable[[str], None]) -> None:
    opened.journal.sync()
    if current is not None:
        current.wind_up()
        if current.connecting is not None:
            await asyncio.wait([current.connecting])  # if it failed, whoever needed it has been told
        current.tracker.notify()
        complete = await _delivered(current.tracker, tell)
        status = current.tracker.status
        why = redacted(status.degraded or "")
        if not complete:
            tell(
                f"MLflow has not taken everything yet{f' ({why})' if why else ''}; `hpo sync "
                f"{shlex.quote(opened.study.name)}`, or the next command on this study, delivers the rest"
            )
        elif status.refused:
            tell(f"{why}; `hpo resync {shlex.quote(opened.study.name)}` writes all runs anew")
    opened.journal.close()


async def _delivered(tracker: StudyTracker, tell: Callable[[str], None]) -> bool:
    """Wait for MLflow to take what is left, and say so when that takes longer; whether it took all."""
    closing = asyncio.create_task(asyncio.to_thread(tracker.close, _DELIVER_SECONDS))
    try:
        if not (await asyncio.wait([closing], timeout=_SILENT_SECONDS))[0]:
            status = tracker.status
            waits = {"events": status.pending_events, "files": status.pending_files}
            left = " and ".join(f"{n} {what}" for what, n in waits.items() if n)
            tell(f"MLflow is still to get {left or 'the end of the study'}")
        return await asyncio.shield(closing)
    except asyncio.CancelledError:  # the process is to end, but what is nearly done may be done
        if not (await asyncio.wait([closing], timeout=_GRACE_SECONDS))[0]:
            tracker.give_up()
        return await closing
