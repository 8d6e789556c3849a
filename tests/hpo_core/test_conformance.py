"""Every sampler and scheduler of ours passes the suite that is shipped, and the suite catches faults.

That another process decides the same is shown in test_replay.py, with one process for all strategies.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from hpo_core import SearchSpace, StrategyError
from hpo_core._history import History
from hpo_core._plan import Plan
from hpo_core._states import TrialState
from hpo_core._strategies import SAMPLERS, SCHEDULERS
from hpo_core._strategy import (
    Action,
    Close,
    Finish,
    Fork,
    Proposal,
    Resume,
    Scheduler,
    Start,
    Stop,
    Wait,
)
from hpo_core.samplers import Random
from hpo_core.testing import SPACES, check_sampler, check_scheduler
from tests.hpo_core.stubborn import Stubborn
from tests.hpo_core.studies import Scripted
from tests.hpo_core.test_schedulers_conformance import MAKERS

SLOW = {"auto", "gp", "forest"}
# Those whose proposals do not depend on the results need not be shown results of every kind.
BLIND = {"random", "grid", "sobol", "halton"}
OPTIONS: dict[str, dict[str, Any]] = {"threshold": {"upper": 50.0}}


def class_of(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_samplers(name: str) -> None:
    factory = class_of(SAMPLERS[name])
    if name in SLOW:
        few = {n: SPACES[n] for n in ("mixed", "small", "one point")}
        check_sampler(factory, spaces=few, objectives=(1,), trials=4, replayed_events=12, elsewhere=0)
    else:
        objectives = (1,) if name in BLIND else (1, 2)
        check_sampler(factory, objectives=objectives, trials=6, replayed_events=25, elsewhere=0)


def default(name: str) -> Scheduler:
    scheduler: Scheduler = class_of(SCHEDULERS[name])(**OPTIONS.get(name, {}))
    return scheduler


# Held to more of the same by their own tests.
LONGER = {name for name, make in MAKERS.items() if name in SCHEDULERS and make() == default(name)}


@pytest.mark.parametrize("name", sorted(SCHEDULERS.keys() - LONGER))
def test_schedulers(name: str) -> None:
    check_scheduler(functools.partial(default, name), trials=10, replayed_events=90, elsewhere=0)


# -- samplers with one fault each ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Draws(Random):
    """A random sampler; what follows differs from it in one point."""


class Raw(Draws):
    """Proposes points that are not canonical."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        return Proposal(rng.random(history.space.dims), "")


class Impure(Draws):
    """Depends on more than the history."""

    calls = 0

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        Impure.calls += 1
        return Random.sample(self, history, np.random.default_rng(Impure.calls))


class Loud(Draws):
    """Warns where all trials have failed."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        values = history.evidence.values[:, 0]
        if len(values):
            np.nanmean(values)
        return Random.sample(self, history, rng)


class Fragile(Draws):
    """Cannot stand failures."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        values = history.evidence.values
        if np.isnan(values).any():
            raise ValueError("NaN")
        return Random.sample(self, history, rng)


class Scribbling(Draws):
    """Writes into the history."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        history._values[0] = 0.0 if history.n_trials else np.nan
        return Random.sample(self, history, rng)


class Snobbish(Draws):
    """Refuses everything."""

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        raise StrategyError("this sampler is too good for your space")


class Curt(Draws):
    """Refuses without a reason."""

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        raise StrategyError("no")


class Unruly(Draws):
    """Knows nothing of constraints."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        return Proposal(history.space.snap(rng.random((1, history.space.dims)))[0], "")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (Raw, "expected a canonical point"),
        (functools.partial(Stubborn, u=0.25), "expected a canonical point|not running or known"),
        (Impure, "the same answer to the same question"),
        (Loud, "Mean of empty slice|All-NaN|empty slice"),
        (Fragile, "NaN"),
        (Scribbling, "a history that is read and not written|row 0 of 0"),
        (Snobbish, "refused every space"),
        (Curt, "a refusal that says why"),
        (Unruly, "a point that meets the constraints"),
    ],
)
def test_the_suite_catches_samplers(factory: Callable[[], Any], words: str) -> None:
    with pytest.raises((AssertionError, Warning, ValueError, IndexError), match=words):
        check_sampler(factory, trials=8, replayed_events=30)


# -- schedulers with one fault each ----------------------------------------------------------------


@dataclass(frozen=True)
class Fair(Scripted):
    """Pauses every trial once at step 3, then lets it run to its end: the right way."""

    def next(self, history: History, rng: np.random.Generator) -> Action:
        paused = history.in_state(TrialState.PAUSED).tolist()
        if paused:
            return self.promote(paused[0])
        if history.trials_left:
            return Start(target=3)
        return Wait("the last trials") if history.count(TrialState.RUNNING) else Finish("all is done")

    def promote(self, trial: int) -> Action:
        """What to do with a paused trial."""
        return Resume(trial)


class Idle(Fair):
    """Waits although nothing runs."""

    def next(self, history: History, rng: np.random.Generator) -> Action:
        return Wait("godot")


class Stuck(Fair):
    """Resumes to the step that the trial has reached."""

    def promote(self, trial: int) -> Action:
        return Resume(trial, target=3)


class Confused(Fair):
    """Resumes trials that are not paused."""

    def promote(self, trial: int) -> Action:
        return Resume(0)


class Greedy(Fair):
    """Closes everything, so that nothing is ever complete."""

    def promote(self, trial: int) -> Action:
        return Close(trial, "not good enough")


class Prophetic(Fair):
    """Forks from a step where nobody has been."""

    def promote(self, trial: int) -> Action:
        return Fork(trial, 8, np.array([0.5, 0.5]))


class Moody(Fair):
    """Depends on more than the history."""

    moods = 0

    def next(self, history: History, rng: np.random.Generator) -> Action:
        Moody.moods += 1
        return Start(target=3 + Moody.moods % 2)


class Silent(Fair):
    """Has no plan to explain."""

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        return Plan()


class Mute(Fair):
    """Cannot say why."""

    def why(self, history: History, trial: int) -> str:
        return ""


class Counting(Fair):
    """Remembers how often it has judged, which a replay does not know."""

    def judge(self, history: History, trial: int) -> Stop | None:
        self.actions.append(Start())
        return None

    def next(self, history: History, rng: np.random.Generator) -> Action:
        paused = history.in_state(TrialState.PAUSED).tolist()
        if not paused and history.trials_left:
            return Start(target=3 if len(self.actions) < 20 else 4)
        return Fair.next(self, history, rng)


def test_a_fair_scheduler_passes() -> None:
    check_scheduler(Fair)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (Idle, "no waiting while nothing runs"),
        (Stuck, "a target above step 3"),
        (Confused, "a paused trial to resume"),
        (Greedy, "at least one complete trial"),
        (Prophetic, "a fork from where the source has been"),
        (Moody, "the same answer to the same question"),
        (Silent, "lines that say what will happen"),
        (Mute, "a reason for every trial"),
        (Counting, "the decision is"),
    ],
)
def test_the_suite_catches_schedulers(factory: Callable[[], Any], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_scheduler(factory)
