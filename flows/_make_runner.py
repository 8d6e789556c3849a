"""How and where trials run, and the runner for that."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flows._execute import Objective
from flows.runners import _messages as m
from flows.runners._child_process import Crew
from flows.runners._port import Runner, TrialLimits, Work
from hpo_core import InputError
from hpo_core.inner import nearest

if TYPE_CHECKING:
    from flows._session import Session

RUNNERS = ("local", "dask", "gpu")
ISOLATIONS = ("process", "thread")


@dataclass(frozen=True, kw_only=True)
class RunnerTerms:
    """How and where trials run; nothing in here changes what a study finds.

    ``runner``: ``local``, ``dask`` or ``gpu``. ``isolation``: ``process`` or ``thread``.
    ``granularity``: seconds of tiny trials that share one Prefect task run. ``quota``: bytes for checkpoints.
    ``crew``: processes for the local runner that load the objective already.

    Raises :class:`InputError` for a runner or an isolation that there is not.
    """

    workers: int = 1
    runner: str = "local"
    isolation: str = "process"
    limits: TrialLimits = field(default_factory=TrialLimits)
    granularity: float = 1.0
    quota: int | None = None
    gpus_per_trial: float | None = None
    dask: str | None = None
    crew: Crew | None = None

    def __post_init__(self) -> None:
        for name, known in (("runner", RUNNERS), ("isolation", ISOLATIONS)):
            value = getattr(self, name)
            if value not in known:
                raise InputError(
                    f"{name} must be one of {', '.join(known)}, got {value!r}{nearest(str(value), known)}"
                )


def make_runner(
    current: Session,
    objective: Objective,
    terms: RunnerTerms,
    tell: Callable[[str], None] = lambda line: None,
) -> Runner:
    """The runner that these terms ask for. Raises :class:`InputError` for terms that make none."""
    if (most := current.study.state.limits.trials) is not None:
        # Each of them is a process that imports the objective, and a trial is never in two of them.
        terms = replace(terms, workers=min(terms.workers, most))
    crew = terms.crew
    packed = ""
    if terms.isolation == "process":
        packed = m.pack(objective) if crew is None else crew.objective
    work = Work(
        objective=packed,
        folder=current.folder,
        tracking=current.tracker.worker_settings(),
        environment=_environment(),
        limits=terms.limits,
    )
    if terms.isolation == "thread":
        from flows.runners._threads import ThreadRunner

        return ThreadRunner(work, slots=terms.workers, objective=objective)
    if terms.runner == "dask":
        return _dask_runner(work, terms, tell)
    from flows.runners._local import LocalRunner

    if terms.runner == "gpu":
        from flows.runners._gpu import gpu_slots, visible_gpus

        gpus = visible_gpus()
        if gpus:
            each = terms.gpus_per_trial or 1
            cards = gpu_slots(gpus, gpus_per_trial=each, most=terms.workers)
            if len(cards) < terms.workers:
                share = f"each trial takes {each:g} of GPUs {', '.join(gpus)}"
                tell(f"{len(cards)} at once, not {terms.workers}: {share}")
            environments = [{"CUDA_VISIBLE_DEVICES": card} for card in cards]
            return LocalRunner(work, slots=len(cards), environments=environments)
        tell("this machine has no GPU that CUDA shows; the trials run on the CPU")
    return LocalRunner(work, slots=terms.workers, crew=crew)


async def check_runner(terms: RunnerTerms) -> None:
    """Raise :class:`InputError` when what the trials shall run on does not answer; nothing is made then."""
    if terms.runner == "dask":
        with _needs_distributed():
            from flows.runners._dask_connection import check_scheduler
        if terms.dask is not None:
            await check_scheduler(terms.dask)


@contextlib.contextmanager
def _needs_distributed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"the dask runner needs the package distributed ({error}): pip install 'mlflow-hpo[dask]'"
        ) from None


def _dask_runner(work: Work, terms: RunnerTerms, tell: Callable[[str], None]) -> Runner:
    with _needs_distributed():
        from flows.runners._dask import DaskRunner
        from flows.runners._dask_connection import PATIENCE_SECONDS
    resources = {} if terms.gpus_per_trial is None else {"GPU": terms.gpus_per_trial}
    patience = os.environ.get("HPO_DASK_PATIENCE", f"{PATIENCE_SECONDS:g}")
    seconds = math.nan
    with contextlib.suppress(ValueError):
        seconds = float(patience)
    if not seconds >= 0:
        raise InputError(
            f"HPO_DASK_PATIENCE must be a number of seconds, got {patience!r}; leave it out for "
            f"{PATIENCE_SECONDS:g}"
        )
    return DaskRunner(
        work,
        slots=terms.workers,
        address=terms.dask,
        resources=resources,
        patience=seconds,
        tell=tell,
    )


@contextlib.contextmanager
def crew_for(objective: Objective, terms: RunnerTerms, most: int | None) -> Iterator[RunnerTerms]:
    """For a session that is about to be opened in the block: its worker processes begin to load now.

    ``most``: trials of the study, as far as is known. Only those on this machine without cards of their own.
    """
    if terms.runner != "local" or terms.isolation != "process":
        yield terms
        return
    size = terms.workers if most is None else min(terms.workers, most)
    crew = Crew(m.pack(objective), _environment(), size)
    try:
        yield replace(terms, crew=crew)
    finally:
        crew.end()


def _environment() -> dict[str, str]:
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
