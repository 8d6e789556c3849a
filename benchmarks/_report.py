"""What every benchmark shares: the stamp that says where a figure comes from, CSV files, plots.

A results file is append-only while benchmarks run: several processes may add rows, a row that was
measured again supersedes its older self by its key, and :func:`compact` drops the superseded ones.
"""

from __future__ import annotations

import csv
import datetime
import fcntl
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

__all__ = [
    "RESULTS",
    "STAMP_COLUMNS",
    "append_row",
    "compact",
    "markdown",
    "new_figure",
    "read_rows",
    "save_figure",
    "stamp",
]

RESULTS = Path(__file__).parent / "results"

STAMP_COLUMNS = ("date", "commit", "machine", "python", "versions")

Row = Mapping[str, Any]


def stamp(packages: Iterable[str] = ("numpy", "scipy", "scikit-learn")) -> dict[str, str]:
    """When, on which commit and machine, and with which versions of ``packages`` this process runs.

    A ``+`` after the commit means that the tree had changes that were not committed.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": _commit(),
        "machine": _machine(),
        "python": platform.python_version(),
        "versions": "; ".join(f"{p} {v}" for p in packages if (v := _version(p))),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=RESULTS.parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/*.py")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if changed else "")


def _machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def read_rows(path: Path, key: Sequence[str] = ()) -> list[dict[str, str]]:
    """Rows of a results file, in order; of rows that agree in ``key`` only the last. No file: none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not key:
        return rows
    return list({tuple(row[k] for k in key): row for row in rows}.values())


def append_row(path: Path, columns: Sequence[str], row: Row) -> None:
    """Add one row; the file begins with ``columns``, which must be those it was begun with.

    Raises ``ValueError`` when the file has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", newline="", encoding="utf-8") as file, _locked(file):
        file.seek(0)
        header = next(csv.reader(file), None)
        if header is not None and header != list(columns):
            raise ValueError(
                f"expected the columns {list(columns)} in {path.name}, found {header}; the file "
                "is of another version of this benchmark: move it away"
            )
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if header is None:
            writer.writeheader()
        writer.writerow(row)


def compact(path: Path, key: Sequence[str], order: Callable[[Row], Any]) -> None:
    """Drop superseded rows and sort the rest by ``order``, so that a diff of the file can be read."""
    if not path.exists():
        return
    with path.open("r+", newline="", encoding="utf-8") as file, _locked(file):
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        rows = sorted({tuple(row[k] for k in key): row for row in reader}.values(), key=order)
        file.seek(0)
        file.truncate()
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def _locked(file: IO[str]) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
        file.flush()
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; the first column is text, the others are figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def new_figure(panels: int, across: int = 3, height: float = 4.2) -> tuple[Any, Any]:
    """A figure with so many panels, in rows of at most ``across``, drawn without a display."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    columns, rows = min(panels, across), -(-panels // across)
    figure, axes = pyplot.subplots(rows, columns, figsize=(5.6 * columns, height * rows), squeeze=False)
    for unused in axes.flat[panels:]:
        unused.set_axis_off()
    return figure, axes.flat[:panels]


def save_figure(figure: Any, path: Path, marks: Mapping[str, str]) -> None:
    """Write ``figure`` as PNG with the stamp ``marks`` in small print below it."""
    from matplotlib import pyplot

    # The date is left out: a plot of the same rows is the same picture.
    text = " | ".join([f"commit {marks['commit']}", marks["machine"], marks["versions"]])
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.text(0.01, 0.01, text, fontsize=6, color="0.4")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    pyplot.close(figure)
