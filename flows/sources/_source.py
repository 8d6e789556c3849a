"""What every source of a warm start is, and what they share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

from hpo_core.warm_start import Past

__all__ = ["Names", "Source", "digest"]

# This study's names to the source's.
Names = Mapping[str, str]


class Source(Protocol):
    """``label``: what the user calls it. The same label is read once for each study."""

    @property
    def label(self) -> str:
        """Without secrets."""
        ...

    def read(self, tracking_uri: str | None) -> Past:
        """Everything that the source has. Raises :class:`InputError` when it cannot be read."""
        ...


def digest(value: Any) -> str:
    """Twelve letters that tell the value from others."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]
