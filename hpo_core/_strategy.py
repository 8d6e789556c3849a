"""What a strategy is: a sampler that chooses configurations and a scheduler that gives out budget.

Both are frozen configuration with pure methods. A sampler or scheduler may keep a memo for speed, as
long as dropping it at any moment changes no decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hpo_core._history import History
from hpo_core._plan import Plan as Plan
from hpo_core._space import SearchSpace


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration to try: ``u`` is ``(d,)`` canonical; ``note`` says in one line why."""

    u: NDArray[np.float64]
    note: str = ""


@runtime_checkable
class Sampler(Protocol):
    """Chooses which configuration to try next.

    One that comes to an end by itself, as a grid does, says so as ``finite = True``.
    """

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Raise :class:`StrategyError` naming the parameter and the strategies that can handle it."""
        ...

    def sample(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """The next configuration, given finished, running and paused trials.

        Pure in ``(history, rng)``. ``history.evidence`` holds what is known; ``history.pending_X``
        holds what is being tried. With evidence ``[(0.1, 3.0), (0.9, 5.0)]`` and 0.5 pending, a
        sampler sees two results and must not propose 0.5 as if nobody were trying it. ``None`` says
        that nothing is left to propose, as a grid does at its end.
        """
        ...


@dataclass(frozen=True, slots=True)
class Start:
    """Start a new trial, to run to step ``target`` (``None``: to the end)."""

    target: int | None = None
    bracket: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Resume:
    """Let a paused trial run on from its checkpoint to step ``target`` (``None``: to the end)."""

    trial: int
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a new trial with configuration ``u`` from the checkpoint of ``source`` at ``step``."""

    source: int
    step: int
    u: NDArray[np.float64]
    target: int | None = None
    bracket: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Close:
    """End a paused trial as pruned. The scheduler is asked again at once."""

    trial: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Start nothing until something that runs has reported or ended."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing will ever be left to start; running trials may end, paused ones are closed.

    ``state``: what the study ends as, see :class:`hpo_core._events.StudyStopped`.
    """

    reason: str
    state: str = "finished"


Action = Start | Resume | Fork | Close | Wait | Finish


@dataclass(frozen=True, slots=True)
class Stop:
    """End the running trial early, as pruned."""

    reason: str


CONTINUE = None
"""What a scheduler says of a trial that may run on."""


TrainingSteps = Literal["needed", "better", ""]
"""Whether a step has to be a piece of training that goes on from a checkpoint, as an epoch is and a
cross-validation fold is not; ``""``: either will do. A scheduler may say so as ``training_steps``.
"""


@runtime_checkable
class Scheduler(Protocol):
    """Gives out budget: which trial runs how far, and which is stopped."""

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Raise :class:`StrategyError` when the scheduler cannot work under these terms."""
        ...

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """What to do with a free slot.

        Asked again after a :class:`Close`. A :class:`Start` when ``history.trials_left`` is 0 is
        taken as :class:`Finish` once nothing is running, else as :class:`Wait`.
        """
        ...

    def judge(self, history: History, trial: int) -> Stop | None:
        """Whether a running trial, whose latest report has just been folded, may go on."""
        ...

    def why(self, history: History, trial: int) -> str:
        """Why the trial is where it is, in one sentence, and what a paused one waits for."""
        ...

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """The plan for this many trials."""
        ...


# Elements of a list that a line about a strategy has room for.
_LISTED = 3


def strategy_words(config: Mapping[str, Any]) -> str:
    """What a strategy's JSON says, as :attr:`Strategy.words`."""
    parts = (config.get(what) for what in ("sampler", "scheduler"))
    options = (part.items() for part in parts if isinstance(part, Mapping))
    given = [_option_words(name, value) for items in options for name, value in items if name != "name"]
    name = str(config.get("name", ""))
    return f"{name} ({', '.join(given)})" if given else name


def _option_words(name: str, value: Any) -> str:
    """An option of a strategy in a line about it, of long lists how long they are: ``7 parameters``."""
    long = isinstance(value, list | tuple) and len(value) > _LISTED
    return f"{len(value)} {name}" if long else f"{name}={value}"


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A named pair of sampler and scheduler, and the plain JSON it can be built from again."""

    name: str
    sampler: Sampler
    scheduler: Scheduler
    config: Mapping[str, Any] = field(default_factory=dict)

    def check(self, space: SearchSpace, n_objectives: int, max_steps: int | None) -> None:
        """Raise :class:`StrategyError` before anything runs, with the reason and the remedy."""
        self.sampler.check(space, n_objectives)
        self.scheduler.check(n_objectives, max_steps)

    @property
    def words(self) -> str:
        """Its name, with the options that were given: ``asha (eta=2)``."""
        return strategy_words({**self.config, "name": self.name})

    @property
    def training_steps(self) -> TrainingSteps:
        """What the scheduler asks of the steps: an objective with several budget axes chooses by it."""
        asked: TrainingSteps = getattr(self.scheduler, "training_steps", "")
        return asked

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """Rungs, brackets, counts and total cost."""
        return self.scheduler.explain(trials, max_steps)

    def warm_up(self) -> None:
        """Import what the first proposals need, which takes a second: for whoever has one before them.

        A sampler that imports much when it is first asked has a method of this name. No decision changes.
        """
        warm_up = getattr(self.sampler, "warm_up", None)
        if warm_up is not None:
            warm_up()
