"""What people are told of a study, in words and figures, whichever screen or page they see it on."""

from __future__ import annotations

import re
import shlex
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from flows._cut_off import cut_off, enough_seconds, enough_steps, told
from flows._notes import newest, request_data
from hpo_core import Settings, Strategy, Study, TrialRecord, TrialState
from hpo_core.confirm import CONFIRMS
from hpo_core.inner import BAD, Plan, events, leaders, many, ranks
from tracking import failure_lines, number_text

# So many trials that fail, and none that does not, are no coincidence.
_ALL_FAILED = 5
# So many trials are named, and scores said.
LEADERS = 10
_SCORES = 4
# The limit on trials, and the steps that the strategy plans for it.
_PLANNED: weakref.WeakKeyDictionary[Study, tuple[int | None, int | None]] = weakref.WeakKeyDictionary()
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """``text`` with escapes for what would steer a terminal: control characters, changes of direction."""
    return _STEERING.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def progress_of(study: Study) -> dict[str, Any]:
    """Counts, best so far, seconds spent and an estimate of the seconds left."""
    history = study.history
    done = sum(history.count(s) for s in TrialState if s.finished)
    planned = history.planned
    best = study.best if history.count(TrialState.COMPLETE) else None
    spent = study.state.seconds_spent
    limits, left = study.state.limits, []
    if planned and spent and (estimate := _left(study, done, planned)) is not None:
        left.append(estimate)
    if limits.seconds is not None:
        left.append(limits.seconds - spent)
    if limits.cost is not None:
        left.append((limits.cost - study.state.cost_spent) / study.state.settings.workers)
    return {
        "done": done,
        "planned": planned,
        "running": history.count(TrialState.RUNNING),
        "paused": history.count(TrialState.PAUSED),
        "failed": sum(history.count(s) for s in BAD),
        "best": None if best is None else dict(best.values),
        "best_trial": None if best is None else best.number,
        "spent": spent,
        "left": max(min(left), 0.0) if left else None,
    }


def _left(study: Study, done: int, planned: int) -> float | None:
    """Seconds until ``planned`` trials are through, of which ``done`` are; ``None`` where nothing says.

    Where trials pause hardly one is done before the end. There it is by the steps of the scheduler's plan, or
    by the trials that have begun, if that is longer: asynchronous promotions exceed their plan.
    """
    paused, steps = study.history.count(TrialState.PAUSED), study.state.steps_spent
    spent = study.state.seconds_spent
    total = _planned_steps(study) if paused and steps else None
    if total is None:
        return _seconds_left(study, done, planned - done) if done else None
    begun = done + paused
    return max(spent / steps * (total - steps), spent / begun * (planned - begun))


def _planned_steps(study: Study) -> int | None:
    """Planned once for a limit on trials; ``None`` where forks come on top of them."""
    if study.strategy.training_steps == "needed":
        return None
    trials = study.state.limits.trials
    known = _PLANNED.get(study)
    if known is None or known[0] != trials:
        settings = study.state.settings
        known = _PLANNED[study] = (
            trials,
            planned(study.strategy, trials, settings, study.created.meta).total_steps,
        )
    return known[1]


def planned(strategy: Strategy, trials: int | None, settings: Settings, meta: Mapping[str, Any]) -> Plan:
    """What the strategy is going to do with the trials of such a study."""
    plan = strategy.explain(trials, settings.max_steps)
    return plan.trained_anew() if meta.get("summary", {}).get("budget") == "rows" else plan


def _seconds_left(study: Study, done: int, to_come: int) -> float | None:
    """How long the trials ``to_come`` will take, if they are as long as those that are ``done``; ``None`` for
    those that have run longer already.

    What runs has done a part of its work: without that the estimate grew until the next one ended.
    """
    state = study.state
    spent, used = state.seconds_spent, state.cost_until(state.last_at)
    if not state.cost_spent:
        return spent / done * to_come
    work = state.cost_spent / done * to_come - (used - state.cost_spent)
    if to_come and work <= 0.0:
        return None
    return max(work, 0.0) / min(used / spent, max(to_come, 1))


def scores(values: dict[str, float]) -> str:
    """``auc 0.991, f1 0.95``."""
    return printable(", ".join(f"{name} {number_text(value)}" for name, value in values.items()))


def counted(study: Study, *, driven: bool = True) -> str:
    """``28 complete, 2 failed``; what was running when its driver died is ``interrupted``."""
    counts = {s.label: study.history.count(s) for s in TrialState}
    if not driven:
        counts["interrupted"] = counts.pop(TrialState.RUNNING.label)
    return ", ".join(f"{n} {label.replace('_', ' ')}" for label, n in counts.items() if n) or "no trial yet"


def configuration(trial: TrialRecord) -> str:
    """``lr=0.01  depth=3``."""
    return printable("  ".join(f"{name}={_short(value)}" for name, value in trial.params.items()))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def failures(study: Study) -> list[str]:
    """Why trials ended badly, the most frequent reason first, with the trials' numbers."""
    return failure_lines((t.number, t.state.label, t.reason) for t in study.trials if t.state in BAD)


def ended_badly(study: Study) -> list[tuple[str, str]]:
    """Labelled lines: why trials failed, and, where none is complete, why the others ended as they did."""
    lines = [("failed", line) for line in failures(study)]
    if study.history.count(TrialState.COMPLETE):
        return lines
    again = {trial.number for trial in cut_off(study)}
    for state in (TrialState.INFEASIBLE, TrialState.PRUNED):
        ended = [(t.number, "", t.reason) for t in study.trials if t.state is state and t.number not in again]
        lines += [(state.label, line) for line in failure_lines(ended)]
    return lines + [("cut off", line) for line in told(study)]


def all_failed(study: Study) -> str:
    """What to say at the moment when the first few trials have all failed; empty at any other."""
    history = study.history
    bad = sum(history.count(s) for s in BAD)
    undecided = sum(history.count(s) for s in (TrialState.WAITING, TrialState.RUNNING))
    if bad != _ALL_FAILED or bad + undecided < history.n_trials or history.trials_left == 0:
        return ""
    return (
        f"the first {bad} trials have all failed: {'; '.join(failures(study))}. The study goes on; "
        f"`hpo cancel {shlex.quote(study.name)}` ends it, and --max-failures does so by itself"
    )


def beyond(study: Study, trial: int) -> str:
    """What to say of a trial that got further than the study takes a complete one to get; mostly nothing."""
    end, step = study.state.settings.max_steps, study.trials[trial].step
    if end is None or step <= end:
        return ""
    return (
        f"trial {trial} went on to step {step}, and the study takes trials for complete at max_steps {end}, "
        f"on which rungs and limits on steps count; if {step} is the last step, begin a study that says so"
    )


def left_out(study: Study, queued: Sequence[dict[str, Any]]) -> str:
    """What of the configurations that were ``queued`` a change of the space has taken out; mostly nothing."""
    left = study.state.queue
    # Each is looked for in all the others: not after every trial, of a thousand that are queued.
    gone = [params for params in queued if params not in left] if len(left) < len(queued) else []
    return f"not tried, as the search space leaves it out: {', '.join(map(str, gone))}" if gone else ""


def edited(study: Study) -> str:
    """What an edit of the search space means for the trials so far."""
    said = "the search space was changed; earlier trials that still fit it are kept"
    complete = [n for n in study.history.outside if study.trials[n].state is TrialState.COMPLETE]
    if not complete:
        return said
    rank = "rank until others are complete" if ranks(study.history)[complete].any() else "no longer rank"
    return f"{said}; {many(len(complete), 'complete trial')} outside of it {rank}"


def best_line(study: Study) -> str:
    """The best trial, or how many share the front."""
    if len(study.objectives) > 1:
        front = leaders(study.history).tolist()
        more = ", ..." if len(front) > LEADERS else ""
        shown = ", ".join(map(str, front[:LEADERS]))
        return f"{many(len(front), 'trial')} on the Pareto front: {shown}{more}"
    return f"trial {study.best.number}, {scores(study.best.values)}"


def test_line(final: dict[str, float]) -> str:
    """The final model's scores, the tuned metric first."""
    first, *others = [scores({name: value}) for name, value in final.items()]
    rest = f" ({', '.join(others[: _SCORES - 1])})" if others else ""
    return f"{first}{rest} on rows that tuning never saw"


def ways_to_see(tracking: dict[str, Any] | None) -> list[tuple[str, str]]:
    """How to open the study in a browser."""
    if not tracking or not tracking.get("run_id"):  # it has not been shown yet
        return []
    if tracking.get("url"):
        return [("MLflow", tracking["url"])]
    # MLflow's own server, and the study pages on it.
    # A URI with a password is not kept; whoever has one has it in the environment.
    uri = shlex.quote(tracking["uri"]) if tracking["uri"] else "$MLFLOW_TRACKING_URI"
    server = f"mlflow server --app-name hpo --backend-store-uri {uri}"
    return [("MLflow", server), ("MLflow", f"http://127.0.0.1:5000/hpo/studies/{tracking['run_id']}")]


def _used_up(study: Study) -> dict[str, float]:
    """The limit that has ended the study, doubled at least, by its name in ``tune``; empty where none has."""
    limits, spent = study.state.limits, study.state
    if limits.failures is not None and sum(study.history.count(s) for s in BAD) >= limits.failures:
        return {"max_failures": 2 * limits.failures}
    if limits.seconds is not None and spent.seconds_spent >= limits.seconds:
        return {"timeout": enough_seconds(study, limits.seconds, spent.seconds_spent, together=False)}
    if limits.cost is not None and spent.cost_spent >= limits.cost:
        return {"max_cost": enough_seconds(study, limits.cost, spent.cost_spent, together=True)}
    # Steps that are left may be too few for any trial to go on.
    reason = study.stopped.reason if study.stopped else ""
    if limits.steps is not None and (
        spent.steps_spent >= limits.steps or f"limit of {limits.steps} steps" in reason
    ):
        return {"max_total_steps": enough_steps(study, limits.steps, spent.steps_spent)}
    # Last of all: where the others are used up, more trials would not be started, and none would go on.
    if limits.trials is not None and study.history.trials_left == 0 and events.ALL_TRIED not in reason:
        return {"trials": 2 * limits.trials}
    return {}


def way_on(study: Study, **raised: float) -> str:
    """The command that goes on with a study, or the call where no command could find its objective.

    A notebook or a script that defines it has it in ``__main__``, which is another one in every process.
    """
    said = {name: f"{value:g}" if isinstance(value, float) else value for name, value in raised.items()}
    objective = str(request_data(study.created.meta).get("objective", ""))
    if objective.startswith("__main__:") or "<" in objective:
        more = "".join(f", {name}={value}" for name, value in said.items())
        return f"tune(..., name={study.name!r}{more})"
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in said.items())
    return f"hpo {'extend' if raised else 'resume'} {shlex.quote(study.name)}{options}"


def what_next(study: Study) -> list[str]:
    """Commands that a user may want now."""
    name = shlex.quote(study.name)
    if study.stopped is None or study.stopped.resumable:
        return [way_on(study)]
    lines = [f"hpo show {name}"]
    by_name = way_on(study).startswith("hpo")
    if of := request_data(study.created.meta).get("confirms"):
        # More trials of it would be drawn at random, and its verdict is told by the command that began it.
        lines += [_verdict_on(study, str(of))] if by_name and not newest(study, CONFIRMS) else []
    # Where something else has ended it, a space that is exhausted, say, raising a limit is no way on.
    elif study.stopped.state in ("finished", "failed") and (used_up := _used_up(study)):
        lines.append(way_on(study, **used_up))
    if any(study.history.count(s) for s in BAD) and by_name:
        lines.append(f"hpo retry {name} --failed")
    return lines


def _verdict_on(study: Study, of: str) -> str:
    """The command that says what the study, which confirms trials of ``of``, has found."""
    named = "" if study.name == f"{of}-confirm" else f" --name {shlex.quote(study.name)}"
    return f"hpo confirm {shlex.quote(of)} --top {study.history.n_trials}{named}"
