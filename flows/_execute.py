"""Run one segment of a trial: call the objective and say how it ended. The same code in every runner."""

from __future__ import annotations

import contextlib
import numbers
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flows._run_context import running_trial
from flows._trial import Channel, LiveTrial, NoSpace, Signals, is_full
from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from hpo_core import Infeasible, InputError, TrialPaused, TrialPruned
from hpo_core.inner import checked_metrics, single
from tracking import redacted

Objective = Callable[[Any], Any]


def execute(
    objective: Objective,
    job: Job,
    channel: Channel,
    signals: Signals,
    active_run: Callable[[Callable[[], str]], contextlib.AbstractContextManager[object]] | None = None,
    *,
    whole_process: bool = False,
) -> Outcome:
    """The outcome of the segment; never raises for what the objective does.

    ``active_run`` makes the trial's MLflow run the active one, given a way to ask for its id.
    ``whole_process``: nothing else runs here meanwhile.
    """
    trial, process = LiveTrial(job, channel, signals), os.getpid()
    surrounding = active_run(channel.ask_run_id) if active_run else contextlib.nullcontext()
    tagged = running_trial(job.tags, whole_process=whole_process)
    with _caught() as caught, tagged, surrounding:
        caught.returned = objective(trial)
        if os.getpid() == process:  # a fork that comes back has nothing to say
            trial.hand_over()
    try:
        outcome = _outcome(trial, caught)
    except Exception as error:  # noqa: BLE001 - an exception of the user's own that cannot even be printed
        kinds = f"{type(error).__name__} while reading {type(caught.error or caught.returned).__name__}"
        outcome = Outcome(kind=m.RAISED, reason=f"what the objective came to cannot be read: {kinds}")
    used = trial.suggestions
    return Outcome(
        kind=outcome.kind,
        values=outcome.values,
        reason=_writable(outcome.reason),
        traceback=_writable(outcome.traceback),
        params=trial.params if used.found else {},
        found={name: parameter.to_json() for name, parameter in used.found.items()},
        note=trial.notice(),
    )


class _Caught:
    returned: Any = None
    error: BaseException | None = None


@contextlib.contextmanager
def _caught() -> Iterator[_Caught]:
    caught = _Caught()
    try:
        yield caught
    except BaseException as error:  # noqa: BLE001 - SystemExit of an objective must not end the worker
        caught.error = error


def _outcome(trial: LiveTrial, caught: _Caught) -> Outcome:
    error = caught.error
    if isinstance(error, Infeasible):
        return Outcome(kind=m.INFEASIBLE, reason=_with_notes(error))
    if isinstance(error, TrialPruned | TrialPaused) and trial.ended:
        return Outcome(kind=trial.ended)
    if isinstance(error, TrialPruned):
        return Outcome(kind=m.PRUNED, reason=_with_notes(error) or "the objective pruned it")
    if isinstance(error, NoSpace):
        return Outcome(kind=m.NO_SPACE, reason=_one_line(error))
    if error is not None and is_full(error):
        # It says nothing about the configuration, and there may be room where the next attempt runs.
        return Outcome(kind=m.LOST, reason=_one_line(error), traceback=_traceback(error))
    if isinstance(error, MemoryError):
        return Outcome(kind=m.OUT_OF_MEMORY, reason=_one_line(error), traceback=_traceback(error))
    if error is not None:
        return Outcome(kind=m.RAISED, reason=_one_line(error), traceback=_traceback(error))
    if trial.ended:
        return Outcome(kind=trial.ended)
    try:
        return Outcome(kind=m.RETURNED, values=plain_results(caught.returned))
    except (TypeError, InputError) as wrong:
        return Outcome(kind=m.RAISED, reason=str(wrong))


def plain_results(returned: Any) -> dict[str, float] | float | None:
    """What an objective returned as plain floats.

    Raises ``TypeError`` for anything else, and :class:`InputError` for a name that no metric can have.
    """
    if returned is None:
        return None
    if isinstance(returned, Mapping):
        return checked_metrics({str(name): _number(value) for name, value in returned.items()}, ())
    return _number(returned)


def _number(value: Any) -> float:
    number = single(value)
    if isinstance(number, numbers.Real):
        with contextlib.suppress(OverflowError):  # of a whole number beyond all floats
            return float(number)
    raise TypeError(
        "an objective returns a number, a dict of numbers, or nothing when it reported its steps; got "
        f"{type(value).__name__} {str(value)[:80]!r}"
    )


def _writable(text: str) -> str:
    """The text for files and databases, which take no half characters (of a file's name, say) and no NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _one_line(error: BaseException) -> str:
    text = redacted(" ".join(_with_notes(error).split()))
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__


def _with_notes(error: BaseException) -> str:
    """What it says, and what was added on its way here."""
    added = getattr(error, "__notes__", ())
    notes = "; ".join(map(str, added)) if isinstance(added, list) else ""
    return f"{error} ({notes})".lstrip() if notes else str(error)


def _traceback(error: BaseException) -> str:
    """The traceback from the user's code on; the frames above it are ours and say nothing about it."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return redacted("".join(traceback.format_exception(type(error), error, frames)))
