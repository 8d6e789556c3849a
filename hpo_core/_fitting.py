"""Whether a configuration from elsewhere is one of a space, and which."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpo_core._conditions import same
from hpo_core._domain import json_text
from hpo_core._errors import SpaceError
from hpo_core._parameters import Categorical, Constant, Int, Parameter
from hpo_core._space import MissingPredicate, SearchSpace

__all__ = ["Unfit", "fitted", "in_its_type", "meets", "read_text"]


class Unfit(Exception):
    """A configuration is none of the space; the message says why."""


def fitted(space: SearchSpace, params: Mapping[str, Any], *, text: bool = False) -> dict[str, Any]:
    """The active part of the configuration in the space's types; names beyond the space are ignored.

    ``text``: the values are text, as MLflow keeps them. Raises :class:`Unfit` when a value is out of range,
    a parameter that would be active is missing, or a constraint does not hold.
    """
    found: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if name not in params:
            continue
        try:
            value = read_text(parameter, params[name]) if text else in_its_type(parameter, params[name])
            parameter.encode(value, name)
        except SpaceError:
            raise Unfit(f"with {name!r} outside its range") from None
        found[name] = value
    u = space.encode(found)
    complete = space.snap(u[None, :])
    missing = np.flatnonzero(np.isnan(u) & ~np.isnan(complete[0]))
    if len(missing):
        raise Unfit(f"without {space.column_names[int(missing[0])]!r}")
    if not meets(space, space.configuration(complete[0])):
        raise Unfit("against the constraints")
    inactive = {n for n, v in zip(space.column_names, u, strict=True) if np.isnan(v)}
    return {name: value for name, value in found.items() if name not in inactive}


def meets(space: SearchSpace, params: Mapping[str, Any]) -> bool:
    """Whether a configuration that was not drawn from the space meets its input constraints.

    A function that fails for it says no. One that is missing says nothing: whoever only reads the study may
    lack it.
    """
    known = (c for c in space.constraints if not isinstance(c.original, MissingPredicate))
    try:
        return all(constraint.holds(dict(params)) for constraint in known)
    except SpaceError:
        return False


def in_its_type(parameter: Parameter, value: Any) -> Any:
    """The value as the parameter has it: a whole number may come as a float, from Hyperopt or a table's row.

    No ``range()`` takes it so.
    """
    if isinstance(parameter, Int) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def read_text(parameter: Parameter, text: Any) -> Any:
    """The value that a text, written by ``str`` or as JSON, stands for. Raises :class:`SpaceError`."""
    if not isinstance(text, str):
        return text
    if isinstance(parameter, Categorical | Constant):
        choices = parameter.choices if isinstance(parameter, Categorical) else (parameter.value,)
        found = [c for c in choices if _says(text, c)]
        if len(found) != 1:
            raise SpaceError(f"{text!r} stands for {found or 'none'} of the choices {list(choices)!r}")
        return found[0]
    if isinstance(parameter, Int):
        with contextlib.suppress(ValueError):
            return int(text)  # a float has no digits for large ones
    try:
        number = float(text)
    except ValueError:
        raise SpaceError(f"{text!r} is no number") from None
    return in_its_type(parameter, number)


def _says(text: str, choice: Any) -> bool:
    if text in (str(choice), json_text(choice)):
        return True
    if isinstance(choice, str):
        return False
    try:
        return same(json.loads(text), choice)
    except ValueError:
        return False
