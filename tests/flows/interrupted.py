"""A driver that dies between two of the notes that it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpo_core import Study


def killed_at(number: int) -> Callable[..., None]:
    """In the place of ``Study.note``: it dies instead of taking the note of that number, from 0."""
    notes = iter(range(number))
    take = Study.note

    def note(study: Study, *args: Any, **more: Any) -> None:
        if next(notes, None) is None:
            raise SystemExit
        take(study, *args, **more)

    return note
