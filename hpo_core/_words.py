"""Counts in sentences."""

from __future__ import annotations


def many(count: int, noun: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{count} {noun}{'s' * (count != 1)}"
