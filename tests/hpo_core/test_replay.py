"""The contract: cut a study after any event, replay it anywhere, and the next decisions are the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from hpo_core import SearchSpace, StrategyError, Study, Trial, make_strategy
from hpo_core._history import History
from hpo_core._records import TrialRecord
from hpo_core._strategies import PAIRS, SAMPLERS, SCHEDULERS
from hpo_core._strategy import Proposal
from hpo_core._trial import Suggestions, trial_seed
from hpo_core.testing import SPACES, Script, check_replay, check_replays
from tests.hpo_core.studies import recorded, replayed, snapshot
from tests.hpo_core.test_ask_tell import objective

# Samplers whose fits take long are asked after every few events only.
SLOW = {"auto", "gp", "forest"}
EVENTS = 130


def names() -> dict[str, Callable[[], Any]]:
    """One strategy for every sampler, every scheduler and every ready-made pair."""
    found: dict[str, Callable[[], Any]] = {}
    for name in SAMPLERS:
        found[name] = functools.partial(make_strategy, name)
    for name in sorted(set(SCHEDULERS) - {"full"}):
        options = {"lower": 0.6} if name == "threshold" else {}
        given = {"sampler": "random", "scheduler": {"name": name, **options}}
        found[f"random+{name}"] = functools.partial(make_strategy, given)
    found |= {name: functools.partial(make_strategy, name) for name in PAIRS if name != "pbt"}
    return found


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_decides_the_same_after_every_cut(name: str) -> None:
    slow = name in SLOW
    check_replay(
        names()[name],
        space=SPACES["continuous" if name == "cmaes" else "conditional"],
        events=40 if slow else EVENTS,
        every=9 if slow else 1,
        elsewhere=0,
    )


@pytest.mark.parametrize("name", sorted(n for n in names() if n not in SAMPLERS))
def test_every_scheduler_decides_the_same_after_every_cut(name: str) -> None:
    slow = name in PAIRS
    check_replay(
        names()[name],
        space=SPACES["mixed"],
        trials=25,
        events=60 if slow else 200,
        every=9 if slow else 1,
        elsewhere=0,
        script=Script(seed=3, workers=4, trouble=0.2),
    )


def test_every_strategy_decides_the_same_in_another_process_with_another_hash_seed() -> None:
    """From the journal alone: nothing of this process is known there."""
    check_replays(
        {n: make for n, make in names().items() if n not in SLOW},
        space=SPACES["continuous"],
        events=80,
        every=80,
        elsewhere=3,
    )
    check_replays(
        {n: names()[n] for n in sorted(SLOW)}, space=SPACES["mixed"], events=20, every=20, elsewhere=3
    )


@pytest.mark.parametrize("name", ["random", "sobol", "tpe", "nsga2"])
def test_several_objectives(name: str) -> None:
    check_replay(
        names()[name],
        space=SPACES["mixed"],
        objectives={"a": "min", "b": "max", "c": "min"},
        events=100,
        every=3,
        elsewhere=0,
    )


def late(study: Study, trial: TrialRecord) -> None:
    """A define-by-run objective that has just asked for its parameters, some of which come up late."""
    asked = Trial(number=trial.number, params=trial.params, seed=trial_seed(0, trial.number))
    objective(asked)
    found: Suggestions = asked._suggestions
    study.execution.resolved(trial.number, asked.params, found.found)


@pytest.mark.parametrize("name", ["random", "sobol", "halton", "tpe"])
def test_define_by_run(name: str) -> None:
    check_replay(
        names()[name],
        space=None,
        events=160,
        every=3,
        elsewhere=0,
        script=Script(before_end=late, asides=0.0),
    )


@pytest.mark.parametrize("name", ["random", "sobol", "grid", "tpe", "random+asha"])
def test_a_study_driven_on_from_any_cut_does_what_the_unbroken_one_did(name: str) -> None:
    """Not only the next decision: all later events are the same, and so is everything that can be seen."""
    script = Script(seed=5, trouble=0.2, asides=0.15)
    settings = {"max_steps": 9, "workers": 3}
    study, journal = recorded(
        SPACES["small"], strategy=names()[name](), settings=settings, limits={"trials": 20}
    )
    script.play(study, 120)
    whole = journal.events()
    cuts = [c for c in range(1, len(whole)) if whole[c].type != "segment_started"]
    for cut in cuts[:: max(len(cuts) // 12, 1)]:
        # An action can write several events; what it wrote before the cut is there, the rest follows.
        resumed = Study.replay(whole[:cut])
        script.play(resumed, len(whole))
        if _between_actions(whole, cut):
            assert snapshot(resumed) == snapshot(study), cut
    assert snapshot(replayed(journal)) == snapshot(study)


def _between_actions(events: list[Any], cut: int) -> bool:
    """Whether the event after the cut begins an action of the script: no two events have one time then."""
    return bool(events[cut].at != events[cut - 1].at)


# -- the checks catch what they are for ------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """A sampler with one fault, by name."""

    fault: str
    _calls: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Anything goes."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """A draw that depends on something that it must not depend on."""
        self._calls.append(1)
        salt = {
            "counts its calls": len(self._calls),
            "forgets in its memo": self._remembered(history),
            "uses hashes of strings": hash("salt") % 1000,
            "draws on its own": int(np.random.default_rng().integers(1000)),
        }[self.fault]
        stream = np.random.default_rng([int(rng.integers(1000)), salt])
        return Proposal(history.space.sample(stream, 1)[0], "")

    def _remembered(self, history: History) -> int:
        # The number of results at the first call; a fresh object that is asked late has another one.
        if len(self._calls) == 1:
            self._calls.append(len(history.evidence))
        return self._calls[1]


@pytest.mark.parametrize("fault", ["counts its calls", "forgets in its memo", "draws on its own"])
def test_a_sampler_with_hidden_state_is_caught(fault: str) -> None:
    with pytest.raises(AssertionError, match=r"after event .* the decision is"):
        check_replay(
            functools.partial(Faulty, fault=fault), space=SPACES["continuous"], events=60, elsewhere=0
        )


def test_a_sampler_that_depends_on_the_process_is_caught() -> None:
    with pytest.raises(AssertionError, match="another process with another hash seed"):
        check_replay(
            functools.partial(Faulty, fault="uses hashes of strings"),
            space=SPACES["continuous"],
            events=30,
            every=10,
            elsewhere=2,
        )


def test_a_strategy_that_cannot_be_imported_is_caught() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Local(Faulty):
        fault: str = "uses hashes of strings"

    with pytest.raises(StrategyError, match=r"cannot be imported .*must be importable by its name"):
        check_replay(Local, space=SPACES["continuous"], events=10, every=100, elsewhere=1)
