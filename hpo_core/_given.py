"""What users hand over, checked and in our own types. A bool counts as no number, other than in Python."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, SupportsFloat, TypeGuard, TypeVar

import numpy as np

from hpo_core._domain import check_name
from hpo_core._errors import InputError, StrategyError, nearest
from hpo_core._records import Limits, Settings, check_countable
from hpo_core._space import MissingPredicate, SearchSpace

_R = TypeVar("_R", Limits, Settings)

# Numbers as users have them: Python's, numpy's, an array or a tensor of one.
WholeNumber = int | np.integer[Any]
Metrics = Mapping[str, SupportsFloat] | SupportsFloat


def checked_objectives(objectives: Mapping[str, str] | None) -> dict[str, str]:
    """Directions by name; ``{"loss": "min"}`` where none are given."""
    try:
        objectives = {"loss": "min"} if objectives is None else dict(objectives)
    except (TypeError, ValueError):
        raise InputError(
            f"objectives must be a dict of names and directions, like {{'loss': 'min'}}, got {objectives!r}"
        ) from None
    if not objectives:
        raise InputError("a study needs at least one objective, such as {'loss': 'min'}")
    for name, direction in objectives.items():
        check_name("an objective's name", name, InputError)
        if direction not in ("min", "max"):
            raise InputError(
                f"objective {name!r}: the direction must be 'min' or 'max', got {direction!r}"
                f"{nearest(str(direction), ('min', 'max'))}"
            )
    return objectives


def record_of(kind: type[_R], given: _R | Mapping[str, Any] | None) -> _R:
    """A record of that kind, made of its fields where a dict is given."""
    if isinstance(given, kind):
        return given
    what = kind.__name__.lower()
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f"{what} must be a {kind.__name__} or a dict of its fields, got {given!r}")
    data: dict[str, Any] = {} if given is None else dict(given)
    known = list(kind.__slots__)
    for name in data:
        if name not in known:
            raise InputError(f"unknown name {name!r} among the {what}{nearest(str(name), known)} ({known})")
    return kind(**data)


def checked_metrics(values: Metrics | None, objectives: Collection[str]) -> dict[str, float]:
    """Metrics by name, as floats; a bare number is that of the only objective."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        if len(objectives) > 1:
            raise InputError(
                f"the study has the objectives {list(objectives)}; tell a dict with a value for "
                f"each, got {values!r}"
            )
        values = {next(iter(objectives)): values}
    named = {str(name): _float(str(name), value) for name, value in values.items()}
    for name in named:
        if not name.isascii():
            check_name("a metric's name", name, InputError)
    return named


def _float(name: str, value: Any) -> float:
    number = single(value)
    if not isinstance(number, str | bytes):
        try:
            return float(number)
        except (TypeError, ValueError, OverflowError):
            pass
    raise InputError(f"the value of {name!r} must be a number, got {value!r}")


def single(value: Any) -> Any:
    """The number in an array or a tensor of one, as models predict and score; anything else as it is."""
    if not hasattr(value, "item"):
        return value
    size = value.numel() if hasattr(value, "numel") else getattr(value, "size", 1)
    return value.item() if size == 1 else value


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an ``int`` or a ``float``, finite or not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_whole(what: str, value: object, least: int = 1, kind: type[InputError] = InputError) -> None:
    """Raise an error of that ``kind`` unless ``value`` is an ``int`` of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise kind(f"{what} must be a whole number of at least {least}, got {value!r}")


def check_option(owner: str, option: str, value: int, least: int) -> None:
    """:func:`check_whole` of an option of a sampler or scheduler, with a :class:`StrategyError`."""
    check_whole(f"{owner}: {option}", value, least, StrategyError)
    check_countable(f"{owner}: {option}", value, StrategyError)


def check_real(owner: str, option: str, value: object, fits: Callable[[float], bool], words: str) -> None:
    """Raise :class:`StrategyError` unless an option is a number that ``fits``, as ``words`` say."""
    with contextlib.suppress(OverflowError):
        if is_number(value) and fits(float(value)):
            return
    raise StrategyError(f"{owner}: {option} must be {words}, got {value!r}")


def checked_seed(seed: WholeNumber) -> int:
    """The seed as a plain ``int``."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number of at least 0, or None, got {seed!r}")
    return int(seed)


def checked_time(now: float) -> float:
    """The time as a plain ``float``, which is what a journal holds."""
    if isinstance(now, int | float | np.integer | np.floating) and not isinstance(now, bool):
        with contextlib.suppress(OverflowError):
            if math.isfinite(at := float(now)):
                return at
    raise InputError(f"now is a time, a number of seconds since the epoch; got {now!r}")


def checked_name(name: str) -> str:
    """The name of a study."""
    check_name("a study's name", name, InputError)
    return name


def checked_fields(what: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A dict of the user's own, for later readers."""
    if not isinstance(given, Mapping | None):
        raise InputError(f"{what} must be a dict of names and values, got {given!r}")
    return dict(given or {})


def checked_step(step: WholeNumber, least: int, what: str) -> int:
    """The step as a plain ``int``, which is what a journal holds."""
    if isinstance(step, bool) or not isinstance(step, int | np.integer) or step < least:
        raise InputError(f"{what} must be a whole number of at least {least}, got {step!r}")
    check_countable(what, int(step))
    return int(step)


def constraint_functions(space: SearchSpace | None) -> list[Callable[[dict[str, Any]], bool]]:
    """The space's predicates that are functions, which no journal can hold."""
    constraints = () if space is None else space.constraints
    return [
        c.original
        for c in constraints
        if callable(c.original) and not isinstance(c.original, MissingPredicate)
    ]
