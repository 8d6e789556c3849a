"""Carry out a plan: open the study, run its trials, make the final model, say what came out."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from flows._drive_session import Recalled, Watch, drive, nobody_recalls
from flows._final import is_kept, is_made, make_final_model
from flows._notes import TRACKING, final_model, newest, shown_by, whereabouts_of
from flows._plan import Plan, with_past
from flows._report import attach_report
from flows._session import Session, session
from flows._stretch import Orchestrate, bare
from flows._workspace import read_study, study_folder
from hpo_core import InputError, TrialState
from tracking import load_writers

Finalise = Callable[[Session, Plan], Awaitable[None]]

# What models the end of a study writes, by ready objective.
_FLAVORS = {"lgbm": ("lightgbm", "sklearn"), "sklearn": ("sklearn",), "torch": ("pyfunc",)}
_FOR_THE_REPORT = ("matplotlib.figure", "matplotlib.backends.backend_agg")
# How often is looked whether the first trial is there.
_LOOK_SECONDS = 0.5


def nothing_to_do(plan: Plan, *, finished: bool) -> bool:
    """Whether the study is finished and has all that the plan asks for, so that it need not be run."""
    if not finished or plan.table is None:
        return finished
    study = read_study(study_folder(plan.terms.name), space=plan.terms.space)
    return not study.history.count(TrialState.COMPLETE) or is_made(study, plan.register_as)


async def carry_out(
    plan: Plan,
    *,
    tell: Callable[[str], None],
    watch: Watch,
    orchestrate: Orchestrate = bare,
    finalise: Finalise = make_final_model,
    opened: Callable[[Session], Awaitable[None]] | None = None,
    recalled: Recalled = nobody_recalls,
) -> dict[str, Any]:
    """Run the plan; returns the fields of :class:`flows.Result`.

    ``opened`` is awaited with the open session, ``recalled`` now and then: see :func:`flows._session.drive`.
    """
    plan = await asyncio.to_thread(with_past, plan)
    async with session(plan.terms, plan.tracking, edit=plan.edit, past=plan.past or (), tell=tell) as current:
        noting = asyncio.create_task(_note_tracking(current))
        loading = asyncio.create_task(_load_for_the_end(current, plan))
        try:
            if opened is not None:
                await opened(current)
            watch(current)
            stopped = current.study.stopped
            if stopped is None or stopped.resumable:
                await drive(
                    current,
                    plan.objective,
                    plan.runner_terms,
                    orchestrate=orchestrate,
                    tell=tell,
                    watch=watch,
                    recalled=recalled,
                )
        except InputError:
            current.refuse()
            raise
        finally:
            # Whatever went wrong above is the error to show.
            current.wind_up()
            loading.cancel()
            await asyncio.wait([noting, loading])
            untracked = noting.exception()
        if untracked is not None:
            raise untracked
        stopped = current.study.stopped
        wanted = plan.table is not None and stopped is not None and stopped.state == "finished"
        complete = current.study.history.count(TrialState.COMPLETE)
        if wanted and complete and not await asyncio.to_thread(is_kept, current, plan.register_as):
            tell("making the final model")
            await finalise(current, plan)
        await attach_report(current, tell)
        return _summary(current)


async def _load_for_the_end(current: Session, plan: Plan) -> None:
    """Import what the final model and the report need, beside trials and not after the last one.

    The driver has little to do between trials; afterwards nothing else runs and the user waits. Not
    before the first trial is complete: until then trial processes load what they need themselves.
    """
    if plan.table is None:
        return
    while not current.study.history.count(TrialState.COMPLETE):
        await asyncio.sleep(_LOOK_SECONDS)
    await current.connected()
    flavors = _FLAVORS[plan.table.name] if current.parent_run is not None else ()
    await asyncio.to_thread(_load, flavors)


def _load(flavors: tuple[str, ...]) -> None:
    load_writers(*flavors)
    for module in _FOR_THE_REPORT:
        # Who needs it and cannot have it says so then.
        with contextlib.suppress(Exception):
            importlib.import_module(module)


async def _note_tracking(current: Session) -> None:
    """Keep in the journal where the study is shown, for commands that find it by its name alone."""
    study = current.study
    meant = {**whereabouts_of(current.uri), "experiment": current.tracker.experiment}
    if not newest(study, TRACKING) and meant != {"uri": None, "experiment": study.name}:
        # Before MLflow has heard of it: when it is away, `hpo sync` has to know where to deliver.
        study.note(TRACKING, meant, now=current.now())
    await current.connected()
    if current.parent_run is None:
        return
    shown = shown_by(current.tracker, current.parent_run)
    if newest(study, TRACKING) != shown:
        study.note(TRACKING, shown, now=current.now())


def _summary(current: Session) -> dict[str, Any]:
    study = current.study
    final = final_model(study)
    counts = {s.label: study.history.count(s) for s in TrialState if study.history.count(s)}
    return {
        "study": study,
        "name": study.name,
        "ended": current.ended or (study.stopped.reason if study.stopped else ""),
        "run_id": current.parent_run,
        "run_url": current.tracker.parent_url,
        "model": final.get("model"),
        "scores": dict(final.get("scores", {})),
        "summary": {
            "counts": counts,
            "resumed": current.resumed,
            "final": final,
            "tracking": None if current.parent_run is None else newest(study, TRACKING),
        },
    }
