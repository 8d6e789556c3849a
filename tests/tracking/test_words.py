"""Figures, durations and Markdown as people read them."""

from __future__ import annotations

import math

import pytest

from tracking import duration, goal, markdown_table, number_text


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0.4, "0 s"), (7.2, "7 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"), (3600, "1 h 00 min"),
        (3725, "1 h 02 min"), (None, "-"), (math.inf, "-"), (math.nan, "-"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, says: str) -> None:
    assert duration(seconds) == says


@pytest.mark.parametrize(("value", "says"), [(0.123456789, "0.123457"), (1e9, "1e+09"), (3.0, "3")])
def test_numbers(value: float, says: str) -> None:
    assert number_text(value) == says


def test_goals() -> None:
    assert [goal("auc", "max"), goal("`loss`", "min")] == ["maximise auc", "minimise `loss`"]


def test_nothing_that_is_in_a_table_breaks_it() -> None:
    """Whatever studies, parameters and their values are called."""
    table = markdown_table(["a|b", "<i>"], [["one\ntwo", "\\"], ["", "|"]])
    assert table == ["| a\\|b | &lt;i> |", "|---|---|", "| one two | \\ |", "|  | \\| |"]
