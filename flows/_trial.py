"""The trial as an objective sees it, wherever it runs."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Protocol, SupportsFloat

from flows.runners import _messages as m
from flows.runners._messages import Job
from flows.runners._port import Curve, Message, Report, Saved
from hpo_core import InputError, TrialPaused, TrialPruned
from hpo_core.inner import Suggesting, Suggestions, budgets_below, checked_metrics, checked_step, single


class Channel(Protocol):
    """The worker's end of the line to the driver."""

    def send(self, message: Message) -> None:
        """Pass a message on; never waits for an answer."""
        ...

    def ask_run_id(self) -> str:
        """The MLflow run of the trial; waits until the driver has it."""
        ...


def checked_run_id(answer: str) -> str:
    """The id that the driver has answered with. Raises ``RuntimeError`` for none, an empty answer."""
    if not answer:
        raise RuntimeError(
            "this trial has no MLflow run: its study runs offline, or the tracking server cannot be reached"
        )
    return answer


class Signals:
    """What the driver wants of a running trial; set from another thread."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.suspend = threading.Event()


class Checkpoint:
    """A saved state to go on from: ``step`` and ``path``; ``load()`` gives back what was saved."""

    def __init__(self, step: int, path: Path, on_use: Callable[[], None]) -> None:
        self.step = step
        self._path = path
        self._on_use = on_use

    @property
    def path(self) -> Path:
        """The folder (or the file, where one file was saved)."""
        self._on_use()
        return self._path

    def load(self) -> Any:
        """What was saved: bytes, a path, arrays, a torch state, a model."""
        from tracking import load_checkpoint

        self._on_use()
        return load_checkpoint(self._path)

    def __repr__(self) -> str:
        return f"Checkpoint(step={self.step})"


class NoSpace(OSError):
    """The study's disk is full."""


# Bytes.
_NOTHING_LEFT = 2**16
# Points of a curve in one message.
_CURVE = 100_000


def is_full(error: BaseException) -> bool:
    """Whether it says that a disk, or a quota on it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class LiveTrial(Suggesting):
    """One trial of a study, as handed to the objective.

    ``number``, ``params``, ``seed`` (for the objective's own randomness), ``study_seed`` (the same in all
    trials), ``attempt``. Reports and checkpoints go to the driver without waiting for it; its decisions
    arrive a step later at most.
    """

    def __init__(self, job: Job, channel: Channel, signals: Signals) -> None:
        super().__init__(Suggestions(job.params, job.seed))
        self._job = with_checkpoint(job)
        self._left_behind = "" if self._job.checkpoint else job.checkpoint
        self._channel = channel
        self._signals = signals
        self._last_step = self._job.from_step
        self._checkpoint_used = False
        self._saved = False
        self._reported = self._job.known_step
        # The newest report of this attempt, and whether there was one that did not come after it.
        self._heard, self._unheard = 0, False
        # The checkpoint that the driver has not been told of, as its step may be about to be reported.
        self._untold: Saved | None = None
        self._stepping = self._anew = False
        self._end: int | None = None  # the last step that the objective loops to
        self._ended = ""
        self.number = job.trial
        self.seed = job.seed
        self.study_seed = job.study_seed
        self.attempt = job.attempt
        self.remark = ""
        """Something the user should be told that the objective has found out."""

    @property
    def params(self) -> dict[str, Any]:
        """The configuration; in a define-by-run objective, what has been asked for so far."""
        return {**self._job.params, **self._suggestions.used}

    @property
    def suggestions(self) -> Suggestions:
        """What a define-by-run objective asked for."""
        return self._suggestions

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The state to go on from: the trial's own last, or that of the trial it was forked from."""
        if not self._job.checkpoint:
            return None
        return Checkpoint(self._job.from_step, Path(self._job.checkpoint), self._mark_used)

    def _mark_used(self) -> None:
        self._checkpoint_used = True

    @property
    def should_stop(self) -> bool:
        """Whether the study wants this trial to end now; :meth:`steps` and :meth:`report` heed it.

        Once it has said so, whatever the objective returns is not taken as its final result.
        """
        self._ended = self._end_reason() or self._ended
        return bool(self._ended)

    def _end_reason(self) -> str:
        if self._signals.stop.is_set():
            return m.STOPPED
        if self._job.target is not None and self._last_step >= self._job.target:
            return m.PAUSED
        if self._signals.suspend.is_set() and (self._saved or self._anew):
            return m.SUSPENDED
        return ""

    @property
    def ended(self) -> str:
        """``STOPPED``, ``PAUSED`` or ``SUSPENDED`` once the objective was told to end, else empty."""
        return self._ended

    def steps(self, n: int) -> Iterator[int]:
        """Step numbers up to ``n``, from 1 or from the one after the checkpoint.

        Ends early when the study stops or pauses the trial; whatever the objective returns then is
        not taken as its final result.
        """
        n = _whole("the number of trial.steps", n, 1)
        self._stepping, self._end = True, n
        if reason := self._end_reason():
            # A segment that was lost after its last step. What the body makes is missing behind the loop.
            self._mark_used()
            self._leave(reason)
        for step in range(self._job.from_step + 1, n + 1):
            yield step
            if step < n:
                self.hand_over()
            # The body may save after it reported, so a decision takes effect between two steps.
            self._last_step = max(self._last_step, step)
            if step < n and (reason := self._end_reason()):
                self._ended = reason
                return

    def budgets(self, n: int) -> Iterator[int]:
        """The steps, of 1 .. ``n``, at which the study wants a result of training that begins anew each time.

        For what nothing can go on from, such as a share of the rows: train with the budget, report at that
        step, and go round. A strategy that pauses trials wants one step at a time, one that stops them
        n / 9, n / 3 and n as far as they get, the others n alone. A result that an attempt before has
        reported is not asked for again; no checkpoint is needed. Ends early as :meth:`steps`.
        """
        n = _whole("the number of trial.budgets", n, 1)
        self._stepping, self._end, self._anew = True, n, True
        target = self._job.target
        if target is not None and target <= self._job.known_step and target < n:
            self._leave(m.PAUSED)  # a segment that was lost after its report
        for budget in self._wanted(n):
            yield budget
            self._last_step = max(self._last_step, budget)
            if budget < n and (reason := self._end_reason()):
                self._ended = reason
                return

    def _wanted(self, n: int) -> Sequence[int]:
        if self._job.budgets:
            return self._job.budgets
        if self._job.target is not None:
            return [min(self._job.target, n)]
        below = budgets_below(n)[:-1] if self._job.judged else ()
        return [*(budget for budget in below if budget > self._job.known_step), n]

    def report(
        self, step: int, metrics: Mapping[str, SupportsFloat] | None = None, **more: SupportsFloat
    ) -> None:
        """All metrics at a step; steps must rise. Never waits.

        What is reported of a step that is not above the last one is left out, and the user is told so: it has
        been decided by what came first.
        In an objective that does not loop over :meth:`steps` this call ends the trial when the study
        stops or pauses it, by an exception that must not be caught; save before you report then.
        """
        if metrics is not None and not isinstance(metrics, Mapping):
            raise InputError(
                f"trial.report takes metrics by name, such as trial.report({step}, loss=0.1), got {metrics!r}"
            )
        values = checked_metrics({**(metrics or {}), **more}, ())
        step = _whole("the step of trial.report", step, 1)
        if not values:
            raise InputError("trial.report needs at least one metric, such as trial.report(3, loss=0.1)")
        self._unheard = self._unheard or step <= self._heard
        if step > max(self._job.known_step, self._heard):
            self._channel.send(Report(step, values, self._begun()))
        self._heard = max(self._heard, step)
        self._reported = max(self._reported, step)
        self._hand_over_reported()
        self._last_step = max(self._last_step, step)
        if not self._stepping and (reason := self._end_reason()):
            self._leave(reason)

    def _begun(self) -> int | None:
        """Where the training began that leads to what is reported next, if not at the trial's last step."""
        if self._anew:
            return 0
        behind = self._heard <= self._job.known_step and self._job.from_step < self._job.known_step
        # Who neither loops nor repeats a report has gone on by means of its own.
        return self._job.from_step if behind and (self._stepping or self._heard) else None

    def _leave(self, reason: str) -> NoReturn:
        self._ended = reason
        raise TrialPruned("stopped by the study") if reason == m.STOPPED else TrialPaused(reason)

    def hear(self, seconds: float) -> None:
        """Wait for a decision on what was reported last to stop the trial, this long at most."""
        self._signals.stop.wait(seconds)

    def log_curve(self, name: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """Points of a curve that are to be seen in MLflow and that no decision reads.

        An attempt that repeats steps which an earlier one of the trial has logged adds nothing there.
        """
        checked_metrics({name: 0.0}, ())
        counted = [_whole("a step of trial.log_curve", s, 0) for s in steps]
        points = [float(v) for v in values]
        if len(counted) != len(points):
            raise InputError(
                f"trial.log_curve takes a value for each step, got {len(counted)} steps and {len(points)} "
                "values"
            )
        for at in range(0, len(points), _CURVE):
            self._channel.send(Curve(name, counted[at : at + _CURVE], points[at : at + _CURVE]))

    def save(self, step: int, thing: Any) -> None:
        """Save a checkpoint: bytes, a path to a file or folder, arrays, a torch state, a model.

        The trial can be resumed from it after a pause or a crash, and others can be forked from it: once the
        step has been reported, or is over. A trial that is killed between the two repeats the step; it would
        lack the report otherwise, and be judged by nothing. One of the last step counts when the objective
        has returned: who went on from it had no step to do, and nothing to return.
        """
        from tracking import save_checkpoint

        step = _whole("the step of trial.save", step, 0)
        folder = checkpoint_folder(Path(self._job.folder), self.number, step, self.attempt)
        try:
            size = save_checkpoint(folder, thing)
        except Exception as error:  # PyTorch does not say what it was that the disk refused
            if is_full(error) or shutil.disk_usage(self._job.folder).free < _NOTHING_LEFT:
                raise NoSpace(f"no checkpoint of step {step} could be saved: {error}") from error
            raise
        self._saved = True
        self.hand_over()
        self._untold = Saved(step, str(folder), size)
        self._hand_over_reported()

    def hand_over(self) -> None:
        """Tell the driver of the checkpoint that was saved last, if it has not been told yet."""
        if self._untold is not None:
            self._channel.send(self._untold)
            self._untold = None

    def _hand_over_reported(self) -> None:
        saved = self._untold
        if saved is not None and saved.step <= self._reported and saved.step != self._end:
            self.hand_over()

    def log_model(self, model: Any, **options: Any) -> None:
        """Log a model to the trial's run; ``options`` as for the flavour's ``log_model``."""
        from tracking import log_trial_model

        log_trial_model(self._channel.ask_run_id(), model, **options)

    def notice(self) -> str:
        """What the user should be told of how the objective used the trial, as what the trial did; the same
        words for the same use, which is told once.
        """
        if self._job.checkpoint and not self._checkpoint_used:
            return (
                "was to go on from its checkpoint but the objective never loaded it, so it began anew; use "
                "trial.checkpoint.load() or .path, or save none where nothing pauses trials"
            )
        if self._left_behind:
            return (
                f"began anew: its checkpoint {self._left_behind} has not come along to "
                f"{self._job.folder} (it was never uploaded, see --upload-checkpoints, or is a pickle, "
                "which is not taken from MLflow)"
            )
        if self._job.known_step and not self._job.checkpoint and not self._anew:
            return (
                "had got further but never saved a checkpoint, or it was given up, for the quota or as the "
                "study ended, so it began anew; call trial.save(step, ...)"
            )
        if self._unheard and not self.remark:
            return (
                "reported a step that was not above the last one, which was left out; give all metrics of a "
                "step in one call, trial.report(step, loss=..., accuracy=...), and let steps rise"
            )
        return self.remark

    def __repr__(self) -> str:
        return f"Trial({self.number}, {self.params})"


def with_checkpoint(job: Job) -> Job:
    """The job with its checkpoint where the study lies now, or without it where it has not come along.

    A study that was moved, or fetched from MLflow on another machine, may have come without. Its trials
    begin anew then, as those that never saved; a fork, which cannot, keeps a path that leads nowhere.
    """
    if not job.checkpoint:
        return job
    from tracking import locate_checkpoint

    folder = locate_checkpoint(Path(job.folder), job.checkpoint)
    own = f"trial-{job.trial:06d}" in Path(job.checkpoint).parts
    if own and (folder is None or not folder.exists()):
        return replace(job, checkpoint="", from_step=0)
    return replace(job, checkpoint=str(folder or Path(job.folder, "checkpoints", "elsewhere")))


def _whole(what: str, given: Any, least: int) -> int:
    """A plain ``int``: loops over arrays have numpy's numbers, and some count in floats."""
    number = single(given)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return checked_step(number, least, what)


def checkpoint_folder(study: Path, trial: int, step: int, attempt: int) -> Path:
    """Where a checkpoint lies; a late worker of an earlier attempt cannot write into a later one's."""
    return study / "checkpoints" / f"trial-{trial:06d}" / f"step-{step:08d}-{attempt}"
