"""The search space, and its only translation to and from the unit cube that models see.

Notation
--------
d       number of columns: one for each parameter that is not a constant
u       (d,) one configuration in the unit cube; ``NaN`` marks an inactive parameter
U       (n, d) many configurations

Each column is scaled so that the prior is uniform on [0, 1]: logarithms and the (truncated) normal
distribution function are inside the column. A parameter with ``c`` distinct values has them at the
cell centres ``(i + 0.5) / c``. A point in which every discrete column sits at a cell centre and every
inactive column is ``NaN`` is called canonical.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_core._constraints import Constraint
from hpo_core._errors import SpaceError, nearest
from hpo_core._parameters import (
    CONTINUOUS,
    INTEGER,
    NOMINAL,
    ORDINAL,
    Categorical,
    Condition,
    Constant,
    Float,
    Int,
    LogNormal,
    Normal,
    Parameter,
    parameter_from_json,
)

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
    "SearchSpace",
]

Array = NDArray[np.float64]

# A rejection sampler draws this many points per point wanted before it calls the constraints unsatisfiable.
_REJECTION_ROUNDS = 200


class SearchSpace:
    """A set of named parameters, conditions between them and constraints on the whole.

    ``parameters`` maps names to parameters. ``constraints`` are predicates on the configuration: a
    string expression over parameter names (``"a + b <= 1"``; survives JSON) or a callable
    ``dict -> bool``. A configuration that fails one is resampled and never run. A constraint that
    names an inactive parameter holds.

    Raises :class:`SpaceError` for unknown or cyclic conditions and for names that are not strings.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        constraints: Sequence[str | Callable[[dict[str, Any]], bool]] = (),
        *,
        version: int = 0,
    ) -> None:
        self.parameters: dict[str, Parameter] = dict(parameters)
        for name, parameter in self.parameters.items():
            if not isinstance(name, str) or not name:
                raise SpaceError(f"a parameter's name must be a non-empty string, got {name!r}; rename it")
            if not isinstance(parameter, Parameter):
                raise SpaceError(
                    f"parameter {name!r} must be Float, Int, Categorical, Normal, LogNormal or "
                    f"Constant, got {parameter!r}; wrap a fixed value as Constant({parameter!r})"
                )
        self.version = version
        self.names: tuple[str, ...] = tuple(self.parameters)
        self.column_names: tuple[str, ...] = tuple(
            n for n, p in self.parameters.items() if not isinstance(p, Constant)
        )
        self._column_of = {name: i for i, name in enumerate(self.column_names)}
        self._columns = tuple(self.parameters[n] for n in self.column_names)
        self.kinds = _frozen(np.array([p.kind for p in self._columns], dtype=np.int8))
        self.cardinality = _frozen(np.array([p.cardinality for p in self._columns], dtype=np.int64))
        self._discrete = [i for i, p in enumerate(self._columns) if p.count is not None]
        self._order = self._topological_order()
        self.conditional = _frozen(np.array([bool(p.conditions) for p in self._columns], dtype=bool))
        self.parents: tuple[tuple[int, ...], ...] = tuple(
            tuple(self._column_of[c.parent] for c in p.conditions if c.parent in self._column_of)
            for p in self._columns
        )
        self.constraints = tuple(Constraint.of(c, self.names) for c in constraints)

    # -- shape ---------------------------------------------------------------------------------

    @property
    def dims(self) -> int:
        """Number of columns of the unit cube."""
        return len(self.column_names)

    @functools.cached_property
    def size(self) -> int | None:
        """Number of distinct configurations, ignoring constraints; ``None`` when infinite.

        Exact for unconditional spaces; for conditional spaces the number of active combinations is
        counted by recursion over the conditions when that is cheap, else bounded from above by the
        product of the cardinalities.
        """
        product = 1
        for parameter in self._columns:
            if parameter.count is None:
                return None
            product *= parameter.count
        if product <= 100_000 and self.conditional.any():
            return len(np.unique(np.nan_to_num(self._grid(), nan=-1.0), axis=0))
        return product

    def enumerate(self) -> Array:
        """Every allowed configuration of a finite space, ``(n, d)`` canonical, in a fixed order.

        Raises :class:`SpaceError` for an infinite space and for more than a million combinations.
        """
        for name, parameter in zip(self.column_names, self._columns, strict=True):
            if parameter.count is None:
                raise SpaceError(
                    f"parameter {name!r} is continuous, so its space cannot be enumerated; give it a step"
                )
        points = self._grid()
        keyed = np.nan_to_num(points, nan=-1.0)
        _, first = np.unique(keyed, axis=0, return_index=True)
        points = points[np.sort(first)]
        return points[self.allowed(points)]

    def _grid(self) -> Array:
        total = 1
        for parameter in self._columns:
            total *= parameter.count or 1
            if total > 1_000_000:
                raise SpaceError("the space has over a million combinations; give some a larger step")
        if not self.dims:
            return np.zeros((1, 0))
        axes = [parameter.units() for parameter in self._columns]
        mesh = np.meshgrid(*axes, indexing="ij")
        return self.snap(np.stack([m.ravel() for m in mesh], axis=1))

    # -- unit cube -----------------------------------------------------------------------------

    def snap(self, points: Array) -> Array:
        """The canonical points nearest to ``points`` ``(n, d)``; the argument is not changed.

        Values are clipped to [0, 1], discrete columns go to cell centres, columns whose conditions
        fail become ``NaN``, and a column that is active but ``NaN`` gets its centre.
        """
        out = np.where(np.isnan(points), 0.5, np.clip(points, 0.0, 1.0))
        for column in self._discrete:
            out[:, column] = self._columns[column].canonical(out[:, column])
        if self.conditional.any():
            for column in self._order:
                conditions = self._columns[column].conditions
                if conditions:
                    out[~self._active(conditions, out), column] = np.nan
        return out

    def _active(self, conditions: Iterable[Condition], points: Array) -> NDArray[np.bool_]:
        """(n,) bool: rows of ``points`` in which every condition holds; parents come first."""
        active = np.ones(len(points), dtype=bool)
        for condition in conditions:
            parent = self.parameters[condition.parent]
            if isinstance(parent, Constant):
                active &= condition.holds(parent.value)
                continue
            column = points[:, self._column_of[condition.parent]]
            present = ~np.isnan(column)
            if parent.cardinality:
                cells = np.where(present, column, 0.0) * parent.cardinality
                table = condition.table(parent)
                active &= present & table[np.minimum(cells.astype(np.int64), parent.cardinality - 1)]
            else:
                held = [p and condition.holds(parent.decode(u)) for u, p in zip(column, present, strict=True)]
                active &= np.array(held, dtype=bool)
        return active

    def allowed(self, points: Array) -> NDArray[np.bool_]:
        """(n,) bool: which canonical ``points`` ``(n, d)`` meet every input constraint."""
        if not self.constraints:
            return np.ones(len(points), dtype=bool)
        return np.array([self.meets_constraints(self.decode(u)) for u in points], dtype=bool)

    def meets_constraints(self, params: Mapping[str, Any]) -> bool:
        """Whether the configuration meets every input constraint."""
        return all(constraint.holds(dict(params)) for constraint in self.constraints)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """``(n, d)`` canonical draws from the prior that meet conditions and constraints.

        Raises :class:`SpaceError` when the constraints reject nearly everything.
        """
        if not self.constraints:
            return self.snap(rng.random((n, self.dims)))
        kept: list[Array] = []
        count = 0
        for _ in range(_REJECTION_ROUNDS):
            draw = self.snap(rng.random((max(n, 16), self.dims)))
            draw = draw[self.allowed(draw)]
            kept.append(draw)
            count += len(draw)
            if count >= n:
                return np.concatenate(kept)[:n]
        raise SpaceError(
            f"the constraints {[c.source for c in self.constraints]} rejected nearly all of "
            f"{_REJECTION_ROUNDS * max(n, 16)} random configurations; loosen them or narrow the ranges"
        )

    def decode(self, u: Array) -> dict[str, Any]:
        """The configuration at ``u`` ``(d,)``: active parameters and constants, in declared order."""
        point = self.snap(np.asarray(u, dtype=float)[None, :])[0]
        params: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if isinstance(parameter, Constant):
                if all(c.parent in params and c.holds(params[c.parent]) for c in parameter.conditions):
                    params[name] = parameter.value
            else:
                value = point[self._column_of[name]]
                if value == value:  # not NaN
                    params[name] = parameter.decode(float(value))
        return params

    def encode(self, params: Mapping[str, Any]) -> Array:
        """``(d,)`` canonical point of a configuration; absent parameters become ``NaN``.

        Raises :class:`SpaceError` naming the parameter whose value is outside its range.
        """
        unknown = [name for name in params if name not in self.parameters]
        if unknown:
            raise SpaceError(
                f"unknown parameter {unknown[0]!r}{nearest(unknown[0], self.names)} "
                f"(the space has {list(self.names)})"
            )
        u = np.full(self.dims, np.nan)
        for name, column in self._column_of.items():
            if name in params:
                u[column] = self._columns[column].encode(params[name], name)
        return u

    def accepts(self, params: Mapping[str, Any]) -> bool:
        """Whether a configuration still fits: every value in range and every active one present."""
        try:
            u = self.encode(params)
        except SpaceError:
            return False
        active = ~np.isnan(self.snap(u[None, :])[0])
        return bool(np.array_equal(active, ~np.isnan(u)))

    def default_unit(self) -> Array:
        """``(d,)`` canonical: declared defaults, and the centre of the range elsewhere."""
        u = np.full(self.dims, 0.5)
        for column, parameter in enumerate(self._columns):
            if parameter.default is not None:
                u[column] = parameter.encode(parameter.default, self.column_names[column])
        return np.asarray(self.snap(u[None, :])[0])

    def key(self, u: Array) -> bytes:
        """The identity of a canonical point, for finding duplicates."""
        return np.round(np.where(np.isnan(u), -1.0, u), 12).tobytes()

    # -- versions ------------------------------------------------------------------------------

    def extended(self, found: Mapping[str, Parameter]) -> SearchSpace:
        """A new version with parameters that an objective asked for; known columns keep their place.

        A categorical that reappears with further choices, or a range that reappears wider, is
        widened; anything else that contradicts the known distribution is a :class:`SpaceError`.
        """
        merged = dict(self.parameters)
        for name, parameter in found.items():
            known = merged.get(name)
            merged[name] = parameter if known is None else known.widened(parameter, name)
        return self._with(merged)

    def _with(self, parameters: Mapping[str, Parameter]) -> SearchSpace:
        return SearchSpace(parameters, [c.original for c in self.constraints], version=self.version + 1)

    # -- JSON ----------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """A plain JSON form; callables among the constraints are kept by name only."""
        return {
            "parameters": {name: p.to_json() for name, p in self.parameters.items()},
            "constraints": [c.to_json() for c in self.constraints],
            "version": self.version,
        }

    @classmethod
    def from_json(
        cls,
        data: Mapping[str, Any],
        *,
        constraints: Sequence[Callable[[dict[str, Any]], bool]] = (),
    ) -> SearchSpace:
        """The space that :meth:`to_json` wrote.

        A constraint that was a callable is looked up by name in ``constraints``; where it is missing
        a :class:`SpaceError` says which function to pass.
        """
        by_name = {Constraint.name_of(c): c for c in constraints}
        restored: list[str | Callable[[dict[str, Any]], bool]] = []
        for item in data.get("constraints", ()):
            if "expression" in item:
                restored.append(item["expression"])
            elif item["callable"] in by_name:
                restored.append(by_name[item["callable"]])
            else:
                raise SpaceError(
                    f"the space was declared with the constraint function {item['callable']!r}, which "
                    "JSON cannot carry; pass the same space again, or write it as an expression"
                )
        parameters = {n: parameter_from_json(n, p) for n, p in data["parameters"].items()}
        return cls(parameters, restored, version=int(data.get("version", 0)))

    def digest(self) -> str:
        """SHA-256 of the parameters and constraints (the version does not count)."""
        data = {k: v for k, v in self.to_json().items() if k != "version"}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        inner = ", ".join(f"{name!r}: {p!r}" for name, p in self.parameters.items())
        return f"SearchSpace({{{inner}}})"

    def _topological_order(self) -> tuple[int, ...]:
        """Columns, parents before children; checks the conditions on the way."""
        order: list[str] = []
        state: dict[str, int] = {}

        def visit(name: str, path: tuple[str, ...]) -> None:
            if state.get(name) == 2:
                return
            if state.get(name) == 1:
                raise SpaceError(
                    "conditions form a cycle: " + " -> ".join((*path, name)) + "; remove one of them"
                )
            state[name] = 1
            for condition in self.parameters[name].conditions:
                if condition.parent not in self.parameters:
                    raise SpaceError(
                        f"parameter {name!r} depends on {condition.parent!r}, which is not in the "
                        f"space{nearest(condition.parent, self.names)}"
                    )
                condition.check(name, self.parameters[condition.parent])
                visit(condition.parent, (*path, name))
            state[name] = 2
            order.append(name)

        for name in self.names:
            visit(name, ())
        return tuple(self._column_of[name] for name in order if name in self._column_of)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array
