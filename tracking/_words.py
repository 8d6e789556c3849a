"""Figures, choices and goals as people read them, on whichever page, screen or report they stand."""

from __future__ import annotations

import math
from datetime import UTC, datetime


def number_text(value: float) -> str:
    """Six significant digits: enough to tell trials apart."""
    return f"{value:.6g}"


def duration(seconds: float | None) -> str:
    """``1 h 02 min``, ``3 min 05 s``, ``7 s``; a dash for unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def moment(at: float) -> str:
    """``2026-11-24 04:44 UTC``, of seconds since the epoch; nothing for none."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC") if at else ""


def goal(objective: str, direction: str) -> str:
    """``minimise loss``."""
    return f"{'maximise' if direction == 'max' else 'minimise'} {objective}"


def markdown_cell(text: str) -> str:
    """The text as it can stand in a table, or anywhere else, of Markdown: one line, and no HTML."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(map(markdown_cell, cells))} |"


def markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table; what is in it is escaped."""
    return [_row(header), "|---" * len(header) + "|", *map(_row, rows)]
