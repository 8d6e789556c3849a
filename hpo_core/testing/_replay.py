"""The replay contract: cut the journal anywhere, replay it anywhere, and the next decision is the same."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hpo_core._event_log import EventLog
from hpo_core._events import Event, TrialAsked, TrialFinished, TrialResumed
from hpo_core._journal import decode_line
from hpo_core._space import SearchSpace
from hpo_core._states import TrialState
from hpo_core._strategies import make_strategy
from hpo_core._strategy import Start
from hpo_core._study import Study
from hpo_core.testing._script import Recorder, Script

__all__ = ["check_replay", "check_replays", "decision"]

# How many times a journal is replayed from its beginning.
_REPLAYS = 6


def decision(study: Study) -> str:
    """Everything that the strategy would decide now, as text; changes nothing.

    That is the scheduler's next action, the configuration of the next trial where it would start one,
    the verdict on every running trial that has reported, and the reasons given.
    """
    history, decider = study.history, study.execution.decider
    action = decider.ask_scheduler()
    choice = None
    if isinstance(action, Start) and history.trials_left != 0:
        choice = decider._proposer.choose(history, study.state.queue)
        if choice is None:
            action = decider.ask_scheduler(exhausted=True)
    judged = {
        t: _plain(study.strategy.scheduler.judge(history, t))
        for t in history.in_state(TrialState.RUNNING).tolist()
        if history.reports_of(t)
    }
    why = [study.why(t) for t in history.pending.tolist()[:5]]
    return json.dumps([_plain(action), _plain(choice), judged, why])


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, np.generic):
        return value.item()
    return value


def check_replay(
    strategy: Callable[[], Any],
    *,
    space: SearchSpace | None = None,
    objectives: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    trials: int | None = None,
    events: int = 120,
    script: Script | None = None,
    every: int = 1,
    elsewhere: int = 4,
) -> None:
    """Hold a strategy to the replay contract. ``strategy()`` is anything that :class:`Study` takes.

    A study of ``events`` events is driven by ``script``. Then these agree bit for bit: after every event,
    what the study did next, and a study that followed the journal event by event and was asked each time
    (its memos were kept); after every ``every``-th event, a strategy made anew (they are dropped); here
    and there a study replayed from the journal; and, after ``elsewhere`` of the events, a study that
    another process with another hash seed replays from the journal alone.

    Raises :class:`AssertionError` naming the event.
    """
    check_replays(
        {"strategy": strategy},
        space=space,
        objectives=objectives,
        settings=settings,
        trials=trials,
        events=events,
        script=script,
        every=every,
        elsewhere=elsewhere,
    )


def check_replays(
    strategies: Mapping[str, Callable[[], Any]],
    *,
    space: SearchSpace | None = None,
    objectives: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    trials: int | None = None,
    events: int = 120,
    script: Script | None = None,
    every: int = 1,
    elsewhere: int = 4,
) -> None:
    """:func:`check_replay` of several strategies by name, with one other process for all of them."""
    script = script or Script()
    settings = settings or {"max_steps": script.max_steps, "workers": script.workers}
    jobs: list[tuple[list[bytes], list[int]]] = []
    expected: list[str] = []
    labels: list[tuple[str, int]] = []
    for name, make in strategies.items():
        journal = Recorder()
        study = Study(
            space,
            objectives,
            make(),
            seed=script.seed,
            limits={"trials": trials} if trials else None,
            settings=settings,
            journal=journal,
        )
        script.play(study, events)
        events_done = journal.events()
        decisions = _followed(name, events_done, every)
        for cut in _spread(len(decisions), _REPLAYS):
            replayed = decision(Study.replay(events_done[:cut]))
            _same(name, cut, "a study replayed up to there", decisions[cut - 1], replayed)
        cuts = _spread(len(decisions), elsewhere)
        jobs.append((journal.lines, cuts))
        expected += [decisions[cut - 1] for cut in cuts]
        labels += [(name, cut) for cut in cuts]
    if not expected:
        return
    for (name, cut), here, there in zip(labels, expected, _in_another_process(jobs), strict=True):
        _same(name, cut, "another process with another hash seed", here, there)


def _followed(name: str, events: Sequence[Event], every: int) -> list[str]:
    """The decision after each event of a study that is asked every time.

    Checks each against what the study that ran did next, and each ``every``-th against a strategy that
    knows nothing but the history.
    """
    study = Study.replay(events[:1])
    decisions = [decision(study)]
    for number, event in enumerate(events[1:], start=1):
        _check_done(name, number, decisions[-1], study, event)
        study.state.apply(event)
        decisions.append(decision(study))
        if number % every == 0:
            _same(name, number + 1, "a strategy without memos", decisions[-1], decision(_forgetful(study)))
    return decisions


def _forgetful(study: Study) -> Study:
    """The same study with a strategy made anew."""
    other = Study.__new__(Study)
    other._begin(EventLog(study.state, None), make_strategy(study.created.strategy))
    return other


def _spread(n: int, most: int) -> list[int]:
    """Up to ``most`` of 1 to ``n``, evenly, both ends included."""
    return [int(c) for c in np.linspace(1, n, min(most, n))]


def _check_done(name: str, number: int, said: str, study: Study, event: Event) -> None:
    """Where the event is a decision of the study that ran, the follower must have been about to take it."""
    action, choice, _, _ = json.loads(said)
    match event:
        case TrialAsked(parent=None):
            expected: Any = ["Start", choice and choice["params"], action.get("target")]
            did: Any = ["Start", event.params, event.target]
        case TrialAsked():
            u = np.array(action.get("u", ()), dtype=float)
            expected = ["Fork", study.space.decode(u), action.get("target")]
            did = ["Fork", event.params, event.target]
        case TrialResumed():
            expected = ["Resume", action.get("trial"), action.get("target")]
            did = ["Resume", event.trial, event.target]
        case TrialFinished() if study.trials[event.trial].state is TrialState.PAUSED:
            expected, did = ["Close", action.get("trial")], ["Close", event.trial]
        case _:
            return
    _same(name, number, "the study that ran", [action["is"], *expected[1:]], did)


def _same(name: str, cut: int, who: str, expected: Any, got: Any) -> None:
    if expected != got:
        raise AssertionError(
            f"{name}: after event {cut} the decision is\n  {expected}\nbut for {who} it is\n  {got}"
        )


def _in_another_process(jobs: Iterable[tuple[list[bytes], list[int]]]) -> list[str]:
    """The decisions at the cuts of each journal, taken by a process that knows the journals alone."""
    request = [{"lines": [line.decode() for line in lines], "cuts": cuts} for lines, cuts in jobs]
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "from hpo_core.testing._replay import _answer; _answer()"],
        input=json.dumps(request),
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)},
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(
            "the journal cannot be replayed in another process (a strategy must be importable by name, "
            f"and its options JSON):\n{done.stderr}"
        )
    return [str(answer) for answer in json.loads(done.stdout)]


def _answer() -> None:
    """The other process: read journals and cuts, write decisions."""
    answers = []
    for job in json.load(sys.stdin):
        events = [decode_line(line.encode())[1] for line in job["lines"]]
        answers += [decision(Study.replay(events[:cut])) for cut in job["cuts"]]
    json.dump(answers, sys.stdout)
