"""Settings of a torch optimizer that a fork brings along, over those that its checkpoint has."""

from __future__ import annotations

from typing import Any

__all__ = ["keep_own", "made_with"]


def made_with(thing: Any) -> list[dict[str, Any]]:
    """The settings of an optimizer's groups, asked for before a checkpoint is loaded; nothing for others."""
    groups = getattr(thing, "param_groups", ())
    return [{k: v for k, v in group.items() if isinstance(v, bool | int | float | tuple)} for group in groups]


def keep_own(thing: Any, own: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Set again what this optimizer was made with and the saved one was not.

    What was the same goes on from where training had taken it, as a schedule does a rate.
    """
    for group, mine, saved in zip(getattr(thing, "param_groups", ()), own, theirs, strict=False):
        group.update({k: v for k, v in mine.items() if k in saved and saved[k] != v})
