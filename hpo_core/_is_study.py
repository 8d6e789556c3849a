"""How everything that reads studies refuses what is none."""

from __future__ import annotations

from hpo_core._errors import InputError
from hpo_core._study import Study


def check_study(given: object, who: str) -> None:
    """Raise :class:`InputError`, which says what ``who`` reads, unless it is a study."""
    if not isinstance(given, Study):
        hint = "; give its .study" if isinstance(getattr(given, "study", None), Study) else ""
        raise InputError(f"{who} a Study, got {given!r}{hint}")
