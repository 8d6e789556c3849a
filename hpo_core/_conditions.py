"""Conditions as users write them: when a parameter is active, in the units of the one that it depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Condition:
    """``parent`` is one of ``values``, or lies in ``[ge, le]``; false when the parent is inactive."""

    parent: str
    values: tuple[Any, ...] = ()
    ge: float | None = None
    le: float | None = None

    def holds(self, value: Any) -> bool:
        """Whether the condition holds for this value of the parent."""
        if self.values:
            return any(same(value, v) for v in self.values)
        return (self.ge is None or value >= self.ge) and (self.le is None or value <= self.le)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        if self.values:
            return {"parent": self.parent, "values": list(self.values)}
        bounds = {"ge": self.ge, "le": self.le}
        return {"parent": self.parent, **{k: v for k, v in bounds.items() if v is not None}}

    def __repr__(self) -> str:
        given = [repr(v) for v in (self.parent, *self.values)]
        given += [f"{k}={v!r}" for k, v in (("ge", self.ge), ("le", self.le)) if v is not None]
        return f"when({', '.join(given)})"


def same(a: Any, b: Any) -> bool:
    """Equality that tells ``True`` from 1: a user who lists both means two things."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
