"""The kinds of parameter: frozen records that know their own map to and from [0, 1].

Every ``decode`` is monotone in ``u`` for numeric kinds, and ``decode(encode(v)) == v`` for every
value in range (floats up to rounding). Numbers live in modules of their own; what is here are the kinds
that hold any JSON value, and the way from JSON to a parameter.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from hpo_core._conditions import same
from hpo_core._domain import (
    CONTINUOUS,
    INTEGER,
    NOMINAL,
    ORDINAL,
    Parameter,
    checked_flag,
    json_text,
    plain_json,
    set_fields,
    shortened,
)
from hpo_core._errors import SpaceError, nearest
from hpo_core._normal import LogNormal, Normal
from hpo_core._numeric import Float, Int

__all__ = [
    "CONTINUOUS",
    "INTEGER",
    "NOMINAL",
    "ORDINAL",
    "Categorical",
    "Constant",
    "Float",
    "Int",
    "LogNormal",
    "Normal",
    "Parameter",
    "parameter_from_json",
    "plain_json",
]


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Categorical(Parameter):
    """One of ``choices``: any JSON values, each once; ``ordered`` when their order carries meaning.

    Tuples become lists, as JSON has no tuples. ``default=None`` means that none was declared.
    """

    _required = ("choices",)
    _optional: ClassVar[Mapping[str, Any]] = {"ordered": False, "default": None}

    choices: tuple[Any, ...]
    ordered: bool
    default: Any

    def __init__(self, choices: Sequence[Any], *, ordered: bool = False, default: Any = None) -> None:
        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise SpaceError(f"Categorical needs a non-empty list of choices, got {choices!r}")
        choices = tuple(plain_json(c) for c in choices)
        set_fields(
            self,
            choices=choices,
            ordered=checked_flag(ordered, "Categorical: ordered"),
            default=None,
            conditions=(),
        )
        if len(self._index) != len(choices):
            # The index keeps the last of equals, so an earlier one is not where it should be.
            twice = next(c for i, c in enumerate(choices) if self._index[json_text(c)] != i)
            raise SpaceError(f"Categorical: the choice {twice!r} appears twice; list it once")
        if default is not None:
            if not self.contains(default):
                raise SpaceError(f"Categorical: default {default!r} is not one of {shortened(list(choices))}")
            set_fields(self, default=plain_json(default))

    @property
    def kind(self) -> int:
        """ORDINAL when ordered, else NOMINAL."""
        return ORDINAL if self.ordered else NOMINAL

    @property
    def cardinality(self) -> int:
        """Number of choices."""
        return len(self.choices)

    @property
    def numeric(self) -> bool:
        """False: choices have no scale, even where they look like numbers."""
        return False

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {json_text(c): i for i, c in enumerate(self.choices)}

    def decode(self, u: float) -> Any:
        """The choice of the cell that ``u`` falls into."""
        choice = self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]
        # A list or dict goes to user code, which may change it.
        return copy.deepcopy(choice) if isinstance(choice, list | dict) else choice

    def position(self, value: Any) -> int | None:
        """The place of a choice among all; ``[True]`` is not ``[1]``, though Python calls them equal."""
        return self._index.get(json_text(plain_json(value)))

    def encode(self, value: Any, name: str = "") -> float:
        """The cell centre of a choice."""
        index = self.position(value)
        if index is None:
            known = [c for c in self.choices if isinstance(c, str)]
            hint = nearest(value, known) if isinstance(value, str) else ""
            raise SpaceError(
                f"parameter {name!r}: {value!r} is not one of {shortened(list(self.choices))}{hint}"
            )
        return (index + 0.5) / len(self.choices)

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The choices of both, the known ones first; an order cannot take new choices."""
        if isinstance(other, Categorical):
            new = [c for c in other.choices if json_text(c) not in self._index]
            if not new:
                return self
            if not self.ordered and not other.ordered:
                union = Categorical([*self.choices, *new], default=self.default)
                return union._under(self.conditions)
        return Parameter.widened(self, other, name)


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Constant(Parameter):
    """A fixed JSON value: part of every configuration, not of the search."""

    _required = ("value",)
    value: Any

    def __init__(self, value: Any) -> None:
        set_fields(self, value=plain_json(value), default=None, conditions=())

    @property
    def kind(self) -> int:
        """NOMINAL."""
        return NOMINAL

    @property
    def cardinality(self) -> int:
        """One value."""
        return 1

    @property
    def numeric(self) -> bool:
        """Whether the value is a number."""
        return isinstance(self.value, int | float) and not isinstance(self.value, bool)

    def decode(self, u: float) -> Any:  # noqa: ARG002 - the base's signature
        """The value."""
        return copy.deepcopy(self.value) if isinstance(self.value, list | dict) else self.value

    def encode(self, value: Any, name: str = "") -> float:
        """0.5, if the value is the constant."""
        if not same(plain_json(value), self.value):
            raise SpaceError(f"parameter {name!r} is fixed at {self.value!r}, got {value!r}")
        return 0.5

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The constant, where the objective asks for a range that holds it: it was fixed on purpose."""
        return self if other.contains(self.value) else Parameter.widened(self, other, name)


_BY_TYPE: dict[str, type[Parameter]] = {
    c.__name__.lower(): c for c in (Float, Int, Categorical, Normal, LogNormal, Constant)
}


def parameter_from_json(name: str, data: Mapping[str, Any]) -> Parameter:
    """The parameter that :meth:`Parameter.to_json` wrote, or a user's space file has.

    Raises :class:`SpaceError` naming the parameter and the field.
    """
    if not isinstance(data, Mapping) or "type" not in data:
        raise SpaceError(f"parameter {name!r} needs a type, one of {sorted(_BY_TYPE)}; got {data!r}")
    kind = _BY_TYPE.get(str(data["type"]).lower())
    if kind is None:
        hint = nearest(str(data["type"]), _BY_TYPE)
        raise SpaceError(f"parameter {name!r}: type {data['type']!r} is not one of {sorted(_BY_TYPE)}{hint}")
    fields = [*kind._required, *kind._optional]
    arguments = {k: v for k, v in data.items() if k not in ("type", "when")}
    for given in arguments:
        if given not in fields:
            raise SpaceError(
                f"parameter {name!r}: {given!r} is not a field of {data['type']}: "
                f"{[*fields, 'when']}{nearest(str(given), fields)}"
            )
    for needed in kind._required:
        if needed not in arguments:
            raise SpaceError(f"parameter {name!r}: a {data['type']} needs {needed!r}, got {dict(data)!r}")
    try:
        parameter = kind(**arguments)
        for condition in data.get("when", ()):
            parameter = _conditional(parameter, condition)
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from None
    return parameter


def _conditional(parameter: Parameter, condition: Any) -> Parameter:
    known = {"parent", "values", "ge", "le"}
    if not isinstance(condition, Mapping) or "parent" not in condition or set(condition) - known:
        raise SpaceError(
            "a condition is {'parent': NAME, 'values': [...]} or {'parent': NAME, 'ge': ..., 'le': ...}, "
            f"got {condition!r}"
        )
    values, bounds = condition.get("values", ()), {k: condition.get(k) for k in ("ge", "le")}
    return parameter.when(condition["parent"], *values, **bounds)
