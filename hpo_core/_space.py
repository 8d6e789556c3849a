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
import reprlib
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from hpo_core._activation import Gate, check_condition
from hpo_core._constraints import Constraint
from hpo_core._counting import count_points, list_points, prior_masses
from hpo_core._domain import check_name
from hpo_core._errors import SpaceError, nearest
from hpo_core._parameters import (
    CONTINUOUS,
    INTEGER,
    NOMINAL,
    ORDINAL,
    Categorical,
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
Predicate = Callable[[dict[str, Any]], bool]

# How many points may be drawn, for each point wanted and at least, before the constraints count as
# unsatisfiable. A finite space with constraints and at most so many points is listed instead.
_DRAWS_PER_POINT, _DRAWS = 200, 20_000
_LISTABLE = 20_000
_MOST_LISTED = 1_000_000
# Two floats closer than this in the unit cube are one configuration: encoding and decoding round.
_RESOLUTION = 1e12


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
        constraints: str | Predicate | Sequence[str | Predicate] = (),
        *,
        version: int = 0,
    ) -> None:
        self.parameters = _checked(parameters)
        self.version = version
        self.names: tuple[str, ...] = tuple(self.parameters)
        self.column_names: tuple[str, ...] = tuple(
            n for n, p in self.parameters.items() if not isinstance(p, Constant)
        )
        self._column_of = {name: i for i, name in enumerate(self.column_names)}
        self._columns = tuple(self.parameters[n] for n in self.column_names)
        self.kinds = _frozen(np.array([p.kind for p in self._columns], dtype=np.int8))
        self.cardinality = _frozen(np.array([p.cardinality for p in self._columns], dtype=np.int64))
        self._cells = np.flatnonzero(self.cardinality)
        self._grainy = [i for i, p in enumerate(self._columns) if p.grainy]
        self._order = self._parents_first()
        self._gates = self._compiled_conditions()
        gated = [self._gates.get(name, ()) for name in self.column_names]
        self.conditional = _frozen(np.array([bool(gates) for gates in gated], dtype=bool))
        self.parents: tuple[tuple[int, ...], ...] = tuple(
            tuple(dict.fromkeys(parent for parent, _ in gates)) for gates in gated
        )
        if isinstance(constraints, str) or callable(constraints):
            constraints = [constraints]
        elif not isinstance(constraints, Sequence):
            raise SpaceError(f"constraints are expressions or functions, one or a list, got {constraints!r}")
        self.constraints = tuple(Constraint.of(c, self.names) for c in constraints)

    # -- shape ---------------------------------------------------------------------------------

    @property
    def dims(self) -> int:
        """Number of columns of the unit cube."""
        return len(self.column_names)

    @functools.cached_property
    def size(self) -> int | None:
        """Number of distinct configurations, ignoring constraints; ``None`` when infinite.

        Exact, except that conditions so entangled that counting would take long are ignored; it is
        then an upper bound.
        """
        return count_points(self._columns, self._column_gates())

    def enumerate(self) -> Array:
        """Every allowed configuration of a finite space, ``(n, d)`` canonical, read-only, in a fixed order.

        The order is that of the columns, the first one slowest, inactive before active. Raises
        :class:`SpaceError` for an infinite space and for more than a million configurations.
        """
        return self._listed

    @functools.cached_property
    def _listed(self) -> Array:
        for name, parameter in zip(self.column_names, self._columns, strict=True):
            if parameter.count is None:
                raise SpaceError(
                    f"parameter {name!r} is continuous, so its space cannot be enumerated; give it a step"
                )
        if self.size is None or self.size > _MOST_LISTED:
            raise SpaceError(
                f"the space has {self.size:,} configurations, over a million; give some a larger step"
            )
        points = list_points(self._columns, self._column_gates())
        return _frozen(points[self.allowed(points)])

    def _column_gates(self) -> dict[int, list[tuple[int, Gate]]]:
        """The gates of each column, parents before children."""
        return {c: self._gates.get(self.column_names[c], []) for c in self._order}

    # -- unit cube -----------------------------------------------------------------------------

    def snap(self, points: Array) -> Array:
        """The canonical points nearest to ``points`` ``(n, d)``; the argument is not changed.

        Values are clipped to [0, 1], discrete columns go to cell centres, columns whose conditions
        fail become ``NaN``, and a column that is active but ``NaN`` gets its centre.
        """
        # Ufuncs, not np.clip: this is called for each single proposal, where its wrapper costs most.
        out = np.where(np.isnan(points), 0.5, np.minimum(np.maximum(points, 0.0), 1.0))
        cells = self._cells
        if len(cells):
            sizes = self.cardinality[cells]
            out[:, cells] = (np.minimum(np.floor(out[:, cells] * sizes), sizes - 1) + 0.5) / sizes
        for column in self._grainy:
            out[:, column] = self._columns[column].canonical(out[:, column])
        for column in self._order if self._gates else ():
            gates = self._gates.get(self.column_names[column])
            if gates:
                out[~_open(gates, out), column] = np.nan
        return out

    def allowed(self, points: Array) -> NDArray[np.bool_]:
        """(n,) bool: which canonical ``points`` ``(n, d)`` meet every input constraint."""
        if not self.constraints:
            return np.ones(len(points), dtype=bool)
        return np.array([self.meets_constraints(self.configuration(u)) for u in points], dtype=bool)

    def meets_constraints(self, params: Mapping[str, Any]) -> bool:
        """Whether the configuration meets every input constraint."""
        return all(constraint.holds(dict(params)) for constraint in self.constraints)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """``(n, d)`` canonical draws from the prior that meet conditions and constraints.

        Of constraints that reject nearly everything fewer are drawn, and repeated. Raises
        :class:`SpaceError` when none is found.
        """
        if not self.constraints:
            return self.snap(rng.random((n, self.dims)))
        if self.size is not None and self.size <= _LISTABLE:
            points = self.enumerate()
            if not len(points):
                raise self._unsatisfiable(self.size, self.size)
            return points[rng.choice(len(points), size=n, p=self._prior)]
        kept: list[Array] = []
        count = drawn = 0
        batch = max(n, 16)
        while count < n and drawn < max(_DRAWS_PER_POINT * n, _DRAWS):
            draw = self.snap(rng.random((batch, self.dims)))
            kept.append(draw[self.allowed(draw)])
            count += len(kept[-1])
            drawn += batch
            batch = min(2 * batch, 4096)
        if not count:
            raise self._unsatisfiable(drawn, drawn)
        found = np.concatenate(kept)
        # Who wants many of a rare kind gets some of them again: a study is not to end over a pool.
        return found[np.arange(n) % count]

    def _unsatisfiable(self, rejected: int, drawn: int) -> SpaceError:
        return SpaceError(
            f"the constraints {[c.source for c in self.constraints]} rejected {rejected} of {drawn} "
            "configurations; loosen them or narrow the ranges"
        )

    @functools.cached_property
    def _prior(self) -> Array:
        """(number of listed points,) the prior's probability of each, given the constraints."""
        mass = prior_masses(self._columns, self.enumerate())
        return np.asarray(mass / mass.sum())

    @overload
    def complete(self, params: Mapping[str, Any], rng: np.random.Generator) -> Array | None: ...

    @overload
    def complete(
        self, params: Mapping[str, Any], rng: np.random.Generator, *, constrained: Literal[False]
    ) -> Array: ...

    def complete(
        self, params: Mapping[str, Any], rng: np.random.Generator, *, constrained: bool = True
    ) -> Array | None:
        """A ``(d,)`` draw from the prior in which ``params`` have their given values.

        A missing parent is drawn such that what was given is active. ``None`` when no completion was
        found that meets the constraints. Raises :class:`SpaceError` for unknown parameters and values
        out of range.
        """
        given = self._units(params)
        fixed = ~np.isnan(given)
        draws = rng.random((1 if fixed.all() else _DRAWS_PER_POINT, self.dims))
        for column in reversed(self._order):
            if fixed[column]:
                for parent, gate in self._gates.get(self.column_names[column], ()):
                    if not fixed[parent]:
                        given[parent] = gate.draw(rng)
                        fixed[parent] = True
        points = self.snap(np.where(fixed, given, draws))
        fits = self.allowed(points) if constrained else np.ones(len(points), dtype=bool)
        drawn = len(points)
        while not fits.any() and not fixed.all() and drawn < _DRAWS:
            points = self.snap(np.where(fixed, given, rng.random((drawn, self.dims))))
            fits = self.allowed(points)
            drawn += len(points)
        if not fits.any():
            return None
        active = ~np.isnan(points[:, fixed]).any(axis=1)
        chosen = np.flatnonzero(fits & active) if (fits & active).any() else np.flatnonzero(fits)
        return np.asarray(points[chosen[0]])

    def decode(self, u: Array) -> dict[str, Any]:
        """The configuration at ``u`` ``(d,)``: active parameters and constants, in declared order."""
        return self.configuration(self.snap(np.asarray(u, dtype=float)[None, :])[0])

    def configuration(self, point: Array) -> dict[str, Any]:
        """The same of a point ``(d,)`` that is known to be canonical."""
        params: dict[str, Any] = {}
        coordinates = point.tolist()
        for name, parameter in self.parameters.items():
            column = self._column_of.get(name)
            if column is None:
                gates = self._gates.get(name)
                if not gates or _open(gates, point[None, :])[0]:
                    params[name] = parameter.decode(0.5)
            elif coordinates[column] == coordinates[column]:  # not NaN
                params[name] = parameter.decode(coordinates[column])
        return params

    def encode(self, params: Mapping[str, Any]) -> Array:
        """``(d,)`` canonical point of a configuration; absent parameters become ``NaN``.

        So do parameters that are given but whose conditions fail. Raises :class:`SpaceError` naming
        the parameter that is unknown, or whose value is outside its range.
        """
        u = self._units(params)
        for column in self._order if self._gates else ():
            gates = self._gates.get(self.column_names[column])
            if gates and not _open(gates, u[None, :])[0]:
                u[column] = np.nan
        return u

    def _units(self, params: Mapping[str, Any]) -> Array:
        """``(d,)`` coordinates of what is given, whether active or not."""
        u = np.full(self.dims, np.nan)
        for name, value in params.items():
            parameter = self.parameters.get(name)
            if parameter is None:
                raise SpaceError(
                    f"unknown parameter {name!r}{nearest(str(name), self.names)} "
                    f"(the space has {list(self.names)})"
                )
            unit = parameter.encode(value, name)
            if name in self._column_of:
                u[self._column_of[name]] = unit
        return u

    def default_unit(self) -> Array:
        """``(d,)`` canonical: declared defaults, and the centre of the range elsewhere.

        Constraints may forbid it.
        """
        u = np.full(self.dims, 0.5)
        for column, parameter in enumerate(self._columns):
            if parameter.default is not None:
                u[column] = parameter.encode(parameter.default, self.column_names[column])
        return np.asarray(self.snap(u[None, :])[0])

    def key(self, u: Array) -> bytes:
        """The identity of a canonical point, for finding duplicates.

        Points that :meth:`encode` gives for equal configurations have equal keys. In continuous columns a
        key is a cell of 1e-12, so a point that differs from another by rounding alone may lie across its
        edge: compare what ``encode`` gives.
        """
        return self.keys(u[None, :])[0]

    def keys(self, points: Array) -> list[bytes]:
        """The identities of canonical ``points`` ``(n, d)``."""
        cells, offset = self._resolution
        scaled = np.floor(np.where(np.isnan(points), -1.0, points * cells + offset))
        for column in self._grainy:
            decode = self._columns[column].decode
            scaled[:, column] = [decode(u) if u == u else -1.0 for u in points[:, column].tolist()]
        return [row.tobytes() for row in scaled]

    @functools.cached_property
    def _resolution(self) -> tuple[Array, Array]:
        # A cell's centre is floored to its index, a continuous coordinate rounded to 12 digits.
        discrete = self.cardinality > 0
        return np.where(discrete, self.cardinality, _RESOLUTION), np.where(discrete, 0.0, 0.5)

    # -- versions ------------------------------------------------------------------------------

    def extended(self, found: Mapping[str, Parameter], *, kept: Container[str] = ()) -> SearchSpace:
        """A new version with parameters that an objective asked for; known columns keep their place.

        A categorical that reappears with further choices, or a range that reappears wider, is
        widened, unless it is among ``kept``; anything else that contradicts the known distribution is
        a :class:`SpaceError`.
        """
        merged = dict(self.parameters)
        for name, parameter in found.items():
            known = merged.get(name)
            union = parameter if known is None else known.widened(parameter, name)
            if name not in kept:
                merged[name] = union
        return SearchSpace(merged, [c.original for c in self.constraints], version=self.version + 1)

    # -- JSON ----------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """A plain JSON form; callables among the constraints are kept by name only."""
        return {
            "parameters": {name: p.to_json() for name, p in self.parameters.items()},
            "constraints": [c.to_json() for c in self.constraints],
            "version": self.version,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, constraints: Sequence[Predicate] = ()) -> SearchSpace:
        """The space that :meth:`to_json` wrote.

        A constraint that was a callable is looked up by name in ``constraints``; of several with one name,
        as all lambdas of a function have, the last ones are taken, in their order. Where it is missing
        the space can be read, and using the constraint is a :class:`SpaceError` that says which
        function to pass.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("parameters"), Mapping):
            raise SpaceError(
                f"a space in JSON is an object with 'parameters', as to_json() makes it; got {data!r}"
            )
        by_name: dict[str, list[Predicate]] = {}
        for function in reversed(constraints):
            by_name.setdefault(Constraint.name_of(function), []).append(function)
        restored: list[str | Predicate] = []
        for item in reversed(data.get("constraints", ())):
            if "expression" in item:
                restored.append(item["expression"])
            else:
                found = by_name.get(item["callable"], [MissingPredicate(item["callable"])])
                restored.append(found.pop(0) if len(found) > 1 else found[0])
        restored.reverse()
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
        rules = f", constraints={[c.source for c in self.constraints]!r}" if self.constraints else ""
        return f"SearchSpace({{{inner}}}{rules})"

    # -- conditions ----------------------------------------------------------------------------

    def _parents_first(self) -> tuple[int, ...]:
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
                check_condition(condition, name, self.parameters[condition.parent])
                visit(condition.parent, (*path, name))
            state[name] = 2
            order.append(name)

        for name in self.names:
            visit(name, ())
        return tuple(self._column_of[name] for name in order if name in self._column_of)

    def _compiled_conditions(self) -> dict[str, list[tuple[int, Gate]]]:
        """For each conditional parameter its ``(parent column, gate)``, all of which must be open.

        A condition on a constant has been checked to hold; what is left of it is that the constant
        itself must be active.
        """

        def gates(name: str) -> list[tuple[int, Gate]]:
            out: list[tuple[int, Gate]] = []
            for condition in self.parameters[name].conditions:
                parent = self.parameters[condition.parent]
                if isinstance(parent, Constant):
                    out += gates(condition.parent)
                else:
                    out.append((self._column_of[condition.parent], Gate(condition, parent)))
            return out

        compiled = {name: gates(name) for name, p in self.parameters.items() if p.conditions}
        return {name: found for name, found in compiled.items() if found}


class MissingPredicate:
    """Stands for a constraint function of which a journal knows the name alone."""

    def __init__(self, name: str) -> None:
        self.__module__, _, self.__qualname__ = name.partition(":")

    def __call__(self, params: dict[str, Any]) -> bool:  # noqa: ARG002 - a predicate's signature
        """Raise :class:`SpaceError`."""
        raise SpaceError(
            f"the space was declared with the constraint function '{self.__module__}:{self.__qualname__}', "
            "which a journal cannot carry; pass the same space again, or write it as an expression"
        )


def _open(gates: Sequence[tuple[int, Gate]], points: Array) -> NDArray[np.bool_]:
    """(n,) bool: the rows of ``points`` in which every gate is passed; parents must be canonical."""
    passed = gates[0][1].passes(points[:, gates[0][0]])
    for parent, gate in gates[1:]:
        passed = passed & gate.passes(points[:, parent])
    return passed


def _checked(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    if not isinstance(parameters, Mapping):
        raise SpaceError(f"a search space is a dict of names and parameters, got {parameters!r}")
    for name, parameter in parameters.items():
        check_name("a parameter's name", name)
        if not isinstance(parameter, Parameter):
            remedy = f"wrap a fixed value as Constant({parameter!r})"
            if isinstance(parameter, list | tuple | set | frozenset | range | np.ndarray):
                choices = reprlib.repr([*parameter])
                remedy = f"to choose one of them, write Categorical({choices})"
            raise SpaceError(
                f"parameter {name!r} must be Float, Int, Categorical, Normal, LogNormal or "
                f"Constant, got {parameter!r}; {remedy}"
            )
    return dict(parameters)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array
