"""What several schedulers say in the same words."""

from __future__ import annotations

from fractions import Fraction

from hpo_core._errors import StrategyError
from hpo_core._history import History
from hpo_core._states import TrialState
from hpo_core._strategy import Action, Finish, Plan, Resume, Start, Wait
from hpo_core._words import many

__all__ = [
    "end_step",
    "exact",
    "idle",
    "lacks_result",
    "needs_end",
    "plan_to_the_end",
    "run_to_the_end",
    "settle",
    "why_by_state",
]


def needs_end(owner: str, own: int | None, max_steps: int | None) -> int:
    """The step at which a trial is complete, from the scheduler's option or the study's setting."""
    if own is None and max_steps is None:
        raise StrategyError(
            f"{owner} compares trials at fractions of a complete run and must know how long that is; give "
            "the study max_steps (--max-steps 81, settings={'max_steps': 81}), or the scheduler its own"
        )
    return own if own is not None else int(max_steps or 0)


def end_step(own: int | None, history: History) -> int:
    """The same, of a study that was checked."""
    return needs_end("the scheduler", own, history.max_steps)


def exact(share: float) -> Fraction:
    """The decimal that the user wrote: 0.29 of 100 is 29, which the nearest double makes 28.99..."""
    return Fraction(repr(float(share)))


def idle(history: History) -> bool:
    """Whether nothing runs and nothing waits to run."""
    return not history.count(TrialState.RUNNING) and not history.count(TrialState.WAITING)


def lacks_result(history: History) -> bool:
    """Whether nothing is on its way and no trial that the space can have is complete."""
    if not idle(history):
        return False
    outside = sum(bool(history.states[trial] == TrialState.COMPLETE) for trial in history.outside)
    return history.count(TrialState.COMPLETE) == outside


def settle(history: History, left: str) -> Wait | Finish:
    """Nothing can be started: wait for what runs, or finish. ``left`` says what a running trial may bring."""
    busy = history.count(TrialState.RUNNING) + history.count(TrialState.WAITING)
    if busy:
        return Wait(f"{many(busy, 'running trial')} decide{'s' * (busy == 1)} {left}")
    paused = history.count(TrialState.PAUSED)
    rest = f"; {many(paused, 'paused trial')} rank{'s' * (paused == 1)} too low to go on" if paused else ""
    return Finish(f"every trial of the plan has been started{rest}")


def run_to_the_end(history: History) -> Action:
    """The next action of a scheduler that never pauses: trials one after the other, each to its end.

    A trial that something else paused goes on first, so that none stays paused.
    """
    if history.count(TrialState.PAUSED):
        return Resume(int(history.in_state(TrialState.PAUSED)[0]))
    return Start()


_BY_STATE = {
    TrialState.WAITING: "it waits for a worker",
    TrialState.RUNNING: "it is running",
    TrialState.COMPLETE: "it ran to its end",
    TrialState.PRUNED: "it was stopped early",
    TrialState.FAILED: "it failed",
    TrialState.INFEASIBLE: "its configuration cannot be evaluated",
    TrialState.TIMED_OUT: "it ran into its time limit",
    TrialState.OUT_OF_MEMORY: "it ran into its memory limit",
    TrialState.CANCELLED: "it was cancelled",
    TrialState.LOST: "its workers vanished too often",
}


def why_by_state(history: History, trial: int) -> str:
    """Why a trial that is not paused is where it is."""
    state = TrialState(int(history.states[trial]))
    target, step = int(history.targets[trial]), int(history.steps[trial])
    if state is TrialState.PAUSED:
        return f"it was paused at step {step} and goes on as soon as a worker is free"
    if state in (TrialState.RUNNING, TrialState.WAITING):
        goal = "its end" if target < 0 else f"step {target}"
        return f"{_BY_STATE[state]}, to {goal}; it has reported up to step {step}"
    return f"{_BY_STATE[state]}, at step {step}"


def plan_to_the_end(trials: int | None, max_steps: int | None, rule: str = "") -> Plan:
    """All trials, all steps; with a ``rule`` that stops some of them this is the most it can cost."""
    total = trials * max_steps if trials is not None and max_steps is not None else None
    count = "trials until a limit is reached" if trials is None else many(trials, "trial")
    line = f"{count}, each run to its end" + (f" ({many(max_steps, 'step')})" if max_steps else "")
    return Plan(
        rungs=((0, 0, trials, max_steps),) if trials and max_steps else (),
        total_trials=trials,
        total_steps=total,
        exact=not rule,
        most=bool(rule),
        lines=(line, f"stopped on the way: {rule}; the steps are the most it can cost") if rule else (line,),
    )
