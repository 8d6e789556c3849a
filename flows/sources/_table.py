"""A table of results as a source: what somebody has written down, or another tool has exported."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flows.sources._source import Names, digest
from hpo_core import InputError
from hpo_core.warm_start import Outcome, Past

__all__ = ["ResultTable", "from_csv"]

_WITH_A_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """See :func:`from_csv`."""

    path: Path
    params: Names = field(default_factory=dict)
    metrics: Names = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``csv:PATH``."""
        return f"csv:{self.path}"

    def read(self, tracking_uri: str | None) -> Past:  # noqa: ARG002 - the protocol's
        """Its rows."""
        return Past(
            source=self.label,
            outcomes=list(self._outcomes()),
            params=self.params,
            metrics=self.metrics,
        )

    def _outcomes(self) -> Iterator[Outcome]:
        for number, row in enumerate(self._rows()):
            filled = {name: text for name, text in row.items() if text}
            values = {name: value for name, text in filled.items() if (value := _number(text)) is not None}
            # Two rows may be the same configuration measured twice; the same table read again is not.
            key = f"csv:{number}:{digest(sorted(filled.items()))}"
            yield Outcome(key=key, params=filled, values=values, text=True)

    def _rows(self) -> list[dict[str, str]]:
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                header = file.readline()
                file.seek(0)
                separator = max(",;\t", key=header.count)
                columns, *rows = [row for row in csv.reader(file, delimiter=separator) if row] or [[]]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(
                f"{self.label} cannot be read ({error}); give a text file with a header"
            ) from None
        named = [name for name in columns if name]
        if not named or len(set(named)) < len(named):
            raise InputError(f"{self.label} needs a header that names each column once, got {columns}")
        uneven = [number for number, row in enumerate(rows, start=2) if len(row) != len(columns)]
        if uneven:
            raise InputError(f"{self.label}: row {uneven[0]} has more or fewer than {len(columns)} fields")
        # A column without a name is no parameter: DataFrame.to_csv writes its index so.
        fields = [{n: text for n, text in zip(columns, row, strict=True) if n} for row in rows]
        if separator != ";":
            return fields
        # Spreadsheets separate by semicolons where they write decimals with a comma.
        return [{n: _pointed(text) for n, text in row.items()} for row in fields]


def from_csv(path: Path | str, *, params: Names | None = None, metrics: Names | None = None) -> ResultTable:
    """The rows of a table of text with a header, separated by commas, semicolons or tabs, one result each.

    Its columns are parameters and metrics, in any order. ``params`` and ``metrics``: this study's name to the
    column's, where they differ; ``-NAME`` turns a metric's sign. An empty field is a parameter that was
    inactive; a row without the metric is left out.
    """
    return ResultTable(path=Path(path), params=params or {}, metrics=metrics or {})


def _pointed(text: str) -> str:
    return text.replace(",", ".") if _WITH_A_COMMA.fullmatch(text) else text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
