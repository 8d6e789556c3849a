"""``hpo tune --dry-run``: what would run, and how long it would take. Creates nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import typer

from flows.cli._output import only_json

if TYPE_CHECKING:
    from flows._plan import Plan
    from hpo_core import Limits
    from hpo_core.inner import Plan as Explained


def explain(plan: Plan, *, as_json: bool) -> int:
    """Print the space, what the strategy will do and an estimate of the time; the exit code."""
    from flows._plan import with_past
    from flows._words import planned

    plan = with_past(plan)
    terms, workers = plan.terms, plan.runner_terms.workers
    explained = planned(terms.strategy, terms.limits.trials, terms.settings, terms.meta)
    with only_json(as_json):
        pace = _measured(plan)
    seconds = None if pace is None else explained.seconds(workers, pace.step, pace.set_up)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "study": terms.name,
                    "strategy": terms.strategy.name,
                    "rungs": explained.rungs,
                    "trials": explained.total_trials,
                    "steps": explained.total_steps,
                    "steps_are": "exact" if explained.exact else "most" if explained.most else "about",
                    "step_unit": terms.meta.get("step_unit"),
                    "step_seconds": None if pace is None else pace.step,
                    "set_up_seconds": None if pace is None else pace.set_up,
                    "seconds": seconds,
                    "limits": terms.limits.to_json(),
                    "constraints": terms.settings.outcome_constraints,
                    "warm_start": [str(fitting) for fitting in plan.past or ()],
                    "space": terms.space.to_json() if terms.space is not None else None,
                }
            )
        )
        return 0
    typer.echo(f"study {terms.name}: strategy {terms.strategy.words}, {workers} workers")
    for name, parameter in terms.space.parameters.items() if terms.space is not None else ():
        typer.echo(f"  {name}: {parameter!r}")
    for constraint in terms.settings.outcome_constraints:
        typer.echo(f"a result counts where {constraint}")
    for line in (*explained.lines, *_ends(terms.limits), *_cost(plan, explained, pace, seconds)):
        typer.echo(line)
    for note in (*plan.notes, *(plan.past or ())):
        typer.echo(f"note: {note}")
    typer.echo("dry run: nothing was created")
    return 0


def _ends(limits: Limits) -> Iterator[str]:
    """What may end the study before its last trial."""
    from tracking import duration

    if limits.seconds is not None:
        yield f"ends after {duration(limits.seconds)}"
    if limits.cost is not None:
        yield f"ends once its trials have taken {duration(limits.cost)} together"
    if limits.steps is not None:
        yield f"ends once its trials have taken {limits.steps:,} steps together"
    if limits.failures is not None:
        yield f"ends once {limits.failures:,} trials have failed"
    if limits.improvement not in (None, "never"):
        less = "the noise of a result" if limits.improvement == "noise" else f"{limits.improvement:g}"
        yield f"ends when all further trials are expected to gain less than {less}"


def _cost(plan: Plan, explained: Explained, pace: Pace | None, seconds: float | None) -> Iterator[str]:
    """Total steps, and the wall time that they should take."""
    from tracking import duration

    workers, unit = plan.runner_terms.workers, plan.terms.meta.get("step_unit")
    bound = "" if explained.exact else "at most " if explained.most else "about "
    if explained.total_steps is not None:
        one = unit if not unit or unit[0].isdigit() else f"one {unit}"
        yield f"total: {bound}{explained.total_steps:,} steps" + (f"; a step is {one}" if one else "")
    if pace is not None and seconds is not None:
        before = f" and {pace.set_up:.2g} s before the first" if pace.set_up else ""
        yield (
            f"estimate: {bound}{duration(seconds)} on {workers} workers, at {pace.step:.2g} s a step{before} "
            "(measured with the default configuration)"
        )
    elif (steps := explained.seconds(workers, 1.0)) is not None:
        yield f"on {workers} workers: as long as {bound}{steps:,.0f} steps in a row"


class Pace(NamedTuple):
    """Seconds of a step, and those before the first step of a trial."""

    step: float
    set_up: float


def _measured(plan: Plan) -> Pace | None:
    """With the default configuration; ``None`` for a function of the user's own, which a dry run must not
    call.
    """
    if plan.table is None or plan.terms.space is None:
        return None
    from flows.objectives import Rerun

    params = plan.terms.space.decode(plan.terms.space.default_unit())

    def run(steps: int) -> float:
        start = time.perf_counter()
        plan.table(Rerun(params, plan.terms.seed or 0, most=steps))
        return time.perf_counter() - start

    run(1)  # imports and reads what a worker does only once
    return pace_of(run(1), run(2)) if plan.terms.settings.max_steps != 1 else Pace(run(1), 0.0)


def pace_of(one: float, two: float) -> Pace:
    """From the seconds of a trial of one step and of one of two."""
    step = min(two - one, two / 2)
    # The clock's noise must not make steps of no time.
    return Pace(step, one - step if step < one else 0.0) if step > 0.0 else Pace(one, 0.0)
