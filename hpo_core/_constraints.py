"""Input constraints: cheap predicates on a configuration, checked before anything runs."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from typing import Any

from hpo_core._errors import SpaceError, nearest

Predicate = Callable[[dict[str, Any]], bool]

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "min": min,
    "max": max,
    "round": round,
    "len": len,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "exp": math.exp,
    "sqrt": math.sqrt,
}

# What an expression may be made of. Attribute access, subscripts, calls other than the functions
# above, lambdas and comprehensions are absent, so an expression from a file cannot run code.
_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    ast.IfExp, ast.Call, ast.Name, ast.Load, ast.Constant, ast.Tuple, ast.List,
)  # fmt: skip


class Constraint:
    """One predicate with its source, so that messages and JSON can show it."""

    def __init__(
        self, original: str | Predicate, source: str, predicate: Predicate, names: Sequence[str]
    ) -> None:
        self.original = original
        self.source = source
        self._predicate = predicate
        self._names = frozenset(names)

    @classmethod
    def of(cls, constraint: str | Predicate, names: Sequence[str]) -> Constraint:
        """A constraint from an expression over ``names`` or from a callable."""
        if isinstance(constraint, str):
            return cls(constraint, constraint, _compiled(constraint, names), names)
        if callable(constraint):
            return cls(constraint, cls.name_of(constraint), constraint, names)
        raise SpaceError(f"a constraint must be an expression or a function, got {constraint!r}")

    @staticmethod
    def name_of(predicate: Predicate) -> str:
        """``module:qualified.name`` of a callable."""
        module = getattr(predicate, "__module__", "?")
        return f"{module}:{getattr(predicate, '__qualname__', type(predicate).__name__)}"

    def holds(self, params: dict[str, Any]) -> bool:
        """Whether the configuration meets the constraint.

        A callable that needs an inactive parameter raises ``KeyError``; the constraint then holds.
        Raises :class:`SpaceError` where the predicate fails in any other way.
        """
        try:
            return bool(self._predicate(params))
        except KeyError as error:
            name = error.args[0] if error.args else None
            if name in self._names:
                return True
            raise SpaceError(
                f"the constraint {self.source!r} asks for {name!r}, which is not in the space"
                f"{nearest(str(name), self._names)}"
            ) from error
        except Exception as error:  # whatever a user's function raises
            raise SpaceError(
                f"the constraint {self.source!r} cannot be evaluated for {params!r} ({error}); guard it, "
                "as in 'b == 0 or a / b < 1'"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        # What an expression is compiled to cannot be pickled; a function can where it can be imported.
        return Constraint.of, (self.original, tuple(sorted(self._names)))

    def to_json(self) -> dict[str, str]:
        """``{"expression": ...}``, or ``{"callable": name}`` for a function."""
        return {"expression" if isinstance(self.original, str) else "callable": self.source}


def _compiled(expression: str, names: Sequence[str]) -> Predicate:
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        raise SpaceError(f"the constraint {expression!r} cannot be read: {error.msg}") from None
    if isinstance(tree.body, ast.BinOp | ast.List | ast.Tuple):
        raise SpaceError(f"the constraint {expression!r} compares nothing; write one such as 'a + b <= 1'")
    used: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise SpaceError(
                f"the constraint {expression!r} uses {type(node).__name__}; only arithmetic, comparison, "
                f"and/or/not and {sorted(_FUNCTIONS)} over parameter names are understood"
            )
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS or node.keywords:
                raise SpaceError(
                    f"the constraint {expression!r} calls something other than {sorted(_FUNCTIONS)}"
                )
        elif isinstance(node, ast.Name):
            used.add(node.id)
    parameters = {n for n in used if n in names or n not in _FUNCTIONS}
    for name in sorted(parameters - set(names)):
        raise SpaceError(
            f"the constraint {expression!r} names {name!r}, which is not in the space{nearest(name, names)}"
        )
    code = compile(tree, "<constraint>", "eval")
    scope = {"__builtins__": {}, **{n: f for n, f in _FUNCTIONS.items() if n not in names}}

    def predicate(params: dict[str, Any]) -> bool:
        if not parameters <= params.keys():
            return True
        return bool(eval(code, scope, params))

    return predicate
