"""Hyperparameters that change during training: a schedule is a function of the step, with searchable
parameters.

    schedule = Cosine(start=0.1, end=0.001, steps=100)
    for step in trial.steps(100):
        rate = schedule(step)                       # 0.1 at step 1, 0.001 at step 100

Steps count from 1, as everywhere. The kind of a schedule and its parameters can be searched like
anything else:

    space = {**searched("lr", cosine={"start": Float(1e-3, 1.0, log=True), "end": 1e-4, "steps": 100})}
    schedule = built("lr", trial.params)

What the winner of a population based study did is a schedule too: :func:`followed` reads it off the
study as plain data, and :class:`Recorded` replays it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from hpo_core._domain import checked_number
from hpo_core._errors import InputError, nearest
from hpo_core._is_study import check_study
from hpo_core._parameters import Categorical, Constant, Parameter

if TYPE_CHECKING:
    from hpo_core._study import Study

__all__ = [
    "SCHEDULES",
    "Cosine",
    "Exponential",
    "Piecewise",
    "Recorded",
    "Schedule",
    "Stretch",
    "Triangular",
    "WarmRestarts",
    "built",
    "followed",
    "lineage",
    "searched",
]


class Schedule(Protocol):
    """The value of a hyperparameter to train step ``step`` with; steps count from 1."""

    def __call__(self, step: int) -> float:
        """The value at a step."""
        ...


def _check_numbers(kind: str, schedule: Any, *positive: str) -> None:
    """Every field is a number, and those that are named are positive ones."""
    for name in (field.name for field in fields(schedule)):
        value = getattr(schedule, name)
        checked_number(value, f"{kind}: {name}")
        if name in positive and not value > 0:
            raise InputError(f"{kind}: {name} must be positive, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """From ``start`` at step 1 to ``end`` at step ``steps`` along half a cosine wave, and ``end`` after
    that.
    """

    start: float
    end: float = 0.0
    steps: int

    def __post_init__(self) -> None:
        _check_numbers("cosine", self, "steps")

    def __call__(self, step: int) -> float:
        """The value at a step."""
        done = min(max(step - 1, 0) / max(self.steps - 1, 1), 1.0)
        return self.end + (self.start - self.end) * _half_wave(done)


def _half_wave(done: float) -> float:
    """1 at 0, 0 at 1, flat at both ends."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """``start`` at step 1, times ``decay`` for every ``every`` steps after that; never below ``end``."""

    start: float
    decay: float
    every: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        _check_numbers("exponential", self, "decay", "every")

    def __call__(self, step: int) -> float:
        """The value at a step."""
        return float(max(self.start * self.decay ** (max(step - 1, 0) / self.every), self.end))


@dataclass(frozen=True, kw_only=True)
class Triangular:
    """Up from ``low`` to ``high`` and down again in ``period`` steps, over and over (Smith 2017).

    The height of each cycle is ``shrink`` times that of the one before ("triangular2" is 0.5).
    """

    low: float
    high: float
    period: int
    shrink: float = 1.0

    def __post_init__(self) -> None:
        _check_numbers("triangular", self, "period", "shrink")

    def __call__(self, step: int) -> float:
        """The value at a step."""
        cycle, place = divmod(max(step - 1, 0) / self.period, 1.0)
        height = (self.high - self.low) * self.shrink**cycle
        return float(self.low + height * (1.0 - abs(2.0 * place - 1.0)))


@dataclass(frozen=True, kw_only=True)
class WarmRestarts:
    """Half cosine waves from ``start`` to ``end``, each ``growth`` times as long as the one before.

    Loshchilov & Hutter (2017), "SGDR", equation 5; the first wave takes ``period`` steps.
    """

    start: float
    end: float = 0.0
    period: float
    growth: float = 2.0

    def __post_init__(self) -> None:
        _check_numbers("warm_restarts", self, "period")
        if self.growth < 1:
            raise InputError(f"warm_restarts: growth must be at least 1, got {self.growth!r}")

    def __call__(self, step: int) -> float:
        """The value at a step."""
        place, period = float(max(step - 1, 0)), float(self.period)
        if self.growth == 1:
            # In one go: to count the waves at each of a million steps would take longer than to train them.
            place = math.fmod(place, period)
        while place >= period:
            place, period = place - period, period * self.growth
        return self.end + (self.start - self.end) * _half_wave(place / period)


@dataclass(frozen=True, kw_only=True)
class Piecewise:
    """``values[0]`` at first, and ``values[i]`` from step ``starts[i - 1]`` on."""

    values: Sequence[float]
    starts: Sequence[int] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "starts", tuple(self.starts))
        if len(self.values) != len(self.starts) + 1:
            raise InputError(
                f"piecewise: one value more than starts is needed, got values={self.values!r} and "
                f"starts={self.starts!r}"
            )
        if any(a >= b for a, b in pairwise(self.starts)):
            raise InputError(f"piecewise: starts must ascend, got {self.starts!r}")

    def __call__(self, step: int) -> float:
        """The value at a step."""
        return self.values[bisect_right(self.starts, step)]


SCHEDULES: dict[str, type[Any]] = {
    "cosine": Cosine,
    "exponential": Exponential,
    "piecewise": Piecewise,
    "triangular": Triangular,
    "warm_restarts": WarmRestarts,
}
"""Schedules by name."""


def searched(name: str, /, **kinds: Mapping[str, Any]) -> dict[str, Parameter]:
    """Parameters of a search space from which :func:`built` makes a schedule for the hyperparameter ``name``.

    ``kinds`` maps kinds of schedule (``cosine``, ``exponential``, ``piecewise``, ``triangular``,
    ``warm_restarts``) to their options, each a :class:`Parameter` to search it or a value to fix it; of a
    list, as the values and starts of ``piecewise`` are, each element. With several kinds, which one to take
    is searched, too, and the options of the others are inactive.

    Raises :class:`InputError` for unknown kinds and options, for options left out, and for what is no number.
    """
    if not kinds:
        raise InputError(f"searched({name!r}) needs at least one kind of schedule out of {list(SCHEDULES)}")
    selector = f"{name}.schedule"
    found: dict[str, Parameter] = {
        selector: Categorical(list(kinds)) if len(kinds) > 1 else Constant(value=next(iter(kinds)))
    }
    for kind, options in kinds.items():
        _check_options(kind, options)
        for option, given in _elements(options):
            parameter = given if isinstance(given, Parameter) else Constant(value=given)
            found[f"{name}.{kind}.{option}"] = parameter.when(selector, kind) if len(kinds) > 1 else parameter
    return found


def _elements(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The options; a list in which something is searched element by element, as ``starts.0``."""
    for option, given in options.items():
        if isinstance(given, list | tuple) and any(isinstance(one, Parameter) for one in given):
            yield from ((f"{option}.{i}", one) for i, one in enumerate(given))
        else:
            yield option, given


def _check_options(kind: str, options: Mapping[str, Any]) -> None:
    if kind not in SCHEDULES:
        raise InputError(
            f"unknown schedule {kind!r}{nearest(kind, SCHEDULES)} (known: {', '.join(SCHEDULES)})"
        )
    known = {f.name: f for f in fields(SCHEDULES[kind])}
    if not isinstance(options, Mapping):
        raise InputError(f"schedule {kind!r} takes a dict of its options {list(known)}, got {options!r}")
    for option in options:
        if option not in known:
            raise InputError(
                f"schedule {kind!r} has no option {option!r}{nearest(option, known)} (it has {list(known)})"
            )
        given = options[option]
        of_numbers = str(known[option].type).startswith("Sequence")
        searched_whole = isinstance(given, Parameter) and not (of_numbers and given.numeric)
        if of_numbers and not isinstance(given, list | tuple) and not searched_whole:
            raise InputError(
                f"schedule {kind!r} takes a list for {option!r}, each element of which may be searched, as "
                f"in [{given!r}], got {given!r}"
            )
        if not of_numbers and not searched_whole:
            checked_number(given, f"{kind}: {option}")
    missing = [n for n, f in known.items() if n not in options and _required(f)]
    if missing:
        raise InputError(f"schedule {kind!r} needs {missing[0]!r}, too (it has {list(known)})")


def _required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def built(name: str, params: Mapping[str, Any]) -> Schedule:
    """The schedule of ``name`` that a trial's ``params`` describe, in a space made with :func:`searched`."""
    selector = f"{name}.schedule"
    if selector not in params:
        known = sorted(p.removesuffix(".schedule") for p in params if p.endswith(".schedule"))
        raise InputError(
            f"the configuration has no schedule for {name!r}{nearest(name, known)} (it has {known}); put "
            f"searched({name!r}, ...) into the space"
        )
    kind = str(params[selector])
    prefix = f"{name}.{kind}."
    options: dict[str, Any] = {}
    lists: dict[str, dict[int, Any]] = {}
    for key in (p.removeprefix(prefix) for p in params if p.startswith(prefix)):
        option, dot, index = key.partition(".")
        if dot:
            lists.setdefault(option, {})[int(index)] = params[prefix + key]
        else:
            options[option] = params[prefix + key]
    options |= {option: [found[i] for i in sorted(found)] for option, found in lists.items()}
    made: Schedule = SCHEDULES[kind](**options)
    return made


@dataclass(frozen=True, slots=True)
class Stretch:
    """Trial ``trial`` trained from step ``start`` (exclusive) to step ``end`` with ``params``."""

    trial: int
    start: int
    end: int
    params: dict[str, Any]


def lineage(study: Study, trial: int | None = None) -> tuple[Stretch, ...]:
    """How a trial's model came about, from the first ancestor on; of the best trial when ``None``.

    A trial without forks among its ancestors is one stretch. Raises :class:`StudyStateError` for an
    unknown trial.
    """
    check_study(study, "lineage reads")
    number: int | None = study.best.number if trial is None else study.state.trial(trial).number
    stretches: list[Stretch] = []
    end: int | None = None
    while number is not None:
        record = study.trials[number]
        last = record.step if end is None else end
        stretches.append(Stretch(number, record.start_step, last, dict(record.params)))
        number, end = record.parent, record.start_step
    return tuple(reversed(stretches))


def followed(study: Study, trial: int | None = None) -> Recorded:
    """The schedule of all hyperparameters that a trial followed through its forks; of the best trial
    when ``None``.
    """
    return Recorded(changes=[(s.start, s.params) for s in lineage(study, trial)])


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A fixed schedule of whole configurations: from step ``after + 1`` on, ``params`` apply.

    ``changes``: ``(after, params)``, ascending, the first one after step 0. Replay it in an objective
    that takes its hyperparameters from ``schedule(step)``, or one of them with ``schedule.of(name)``.
    """

    changes: Sequence[tuple[int, Mapping[str, Any]]]

    def __post_init__(self) -> None:
        changes = tuple((int(after), dict(params)) for after, params in self.changes)
        object.__setattr__(self, "changes", changes)
        afters = [after for after, _ in changes]
        if not afters or afters[0] != 0 or any(a >= b for a, b in pairwise(afters)):
            raise InputError(f"recorded: changes must begin after step 0 and ascend, got {afters!r}")

    def __call__(self, step: int) -> dict[str, Any]:
        """The configuration to train a step with."""
        afters = [after for after, _ in self.changes]
        return dict(self.changes[max(bisect_right(afters, step - 1) - 1, 0)][1])

    def of(self, name: str) -> Piecewise:
        """One hyperparameter over the steps. Raises :class:`InputError` for an unknown name."""
        missing = [params for _, params in self.changes if name not in params]
        if missing:
            raise InputError(
                f"recorded: {name!r}{nearest(name, missing[0])} is not part of every configuration"
            )
        values = [params[name] for _, params in self.changes]
        return Piecewise(values=values, starts=[after + 1 for after, _ in self.changes[1:]])

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a file or an artifact."""
        return {"changes": [[after, dict(params)] for after, params in self.changes]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recorded:
        """The schedule that :meth:`to_json` wrote."""
        return cls(changes=[(after, params) for after, params in data["changes"]])
