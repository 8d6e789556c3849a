"""Reading a table from disk or from scikit-learn, with one-line errors for everything that goes wrong."""

from __future__ import annotations

import difflib
import errno
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from flows._clean import is_text
from hpo_core import InputError
from hpo_core.inner import nearest
from tracking import redacted

if TYPE_CHECKING:
    import pandas as pd

# Bundled with scikit-learn: nothing is ever downloaded.
BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")

_COMPRESSION = (".gz", ".bz2", ".xz", ".zip", ".zst")
_SEPARATORS = ",;\t|"


def read_source(source: str) -> tuple[pd.DataFrame, str]:
    """The table as stored, and the SHA-256 of its content.

    ``source`` is a path (CSV, TSV, Parquet) or ``sklearn:NAME``. Raises :class:`InputError`.
    """
    if source.startswith("sklearn:"):
        return _bundled(source)
    path = Path(source).expanduser()
    _check_file(source, path)
    frame = _parquet(source, path) if _suffix(path) in (".parquet", ".pq") else _csv(source, path)
    if not len(frame):
        raise InputError(f"data {source!r} has a header and no rows")
    with path.open("rb") as stream:
        return frame, hashlib.file_digest(stream, "sha256").hexdigest()


def _bundled(source: str) -> tuple[pd.DataFrame, str]:
    name = source.removeprefix("sklearn:")
    if name not in BUNDLED:
        raise InputError(
            f"unknown scikit-learn table {name!r}{nearest(name, BUNDLED)} (one of "
            f"{', '.join(f'sklearn:{b}' for b in BUNDLED)})"
        )
    import pandas as pd
    from sklearn import datasets

    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    content = hashlib.sha256("\x1f".join(frame.columns).encode())
    content.update(pd.util.hash_pandas_object(frame).to_numpy().tobytes())
    return frame, content.hexdigest()


def _check_file(source: str, path: Path) -> None:
    if "://" in source:
        raise InputError(
            f"data {redacted(repr(source))} is an address; download it and give the path of the file"
        )
    if path.is_dir():
        raise InputError(f"data {source!r} is a folder; give the path of one CSV or Parquet file")
    if not path.exists():
        raise InputError(f"data file {source!r} {not_there(path)}")
    if not path.stat().st_size:
        raise InputError(f"data file {source!r} is empty")
    if _suffix(path) not in (".csv", ".tsv", ".txt", ".parquet", ".pq"):
        raise InputError(
            f"data file {source!r} is of an unknown kind {_suffix(path)!r}; give .csv, .tsv or .parquet, "
            "or sklearn:NAME"
        )


def is_there(path: Path) -> bool:
    """Whether there is anything. Raises ``PermissionError`` where that cannot be seen: from Python 3.14 on,
    ``pathlib`` takes what may not be looked at for what is not there.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    return True


def not_there(path: Path) -> str:
    """Where a file that a user named was looked for in vain, and what is there by a similar name.

    Raises ``PermissionError`` where it may be there.
    """
    is_there(path)
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"does not exist: there is no folder {folder}; check the path"
    beside = [p.name for p in folder.iterdir() if p.is_file()]
    close = difflib.get_close_matches(path.name, beside, n=2, cutoff=0.6)
    hint = f"beside it there is {' and '.join(map(repr, close))}" if close else "check the path"
    return f"does not exist in {folder}; {hint}"


def _suffix(path: Path) -> str:
    """The suffix that names the format, in lower case, without that of the compression."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSION:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _reason(error: Exception) -> str:
    """The first line of an error of another library."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _parquet(source: str, path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        raise InputError(f"data file {source!r} cannot be read as Parquet: {_reason(error)}") from None
    return frame.reset_index(drop=not frame.index.name)


def _csv(source: str, path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        head = pd.read_csv(path, sep="\0", header=None, nrows=20, dtype=str, encoding="utf-8-sig",
                           engine="c", quoting=3, skip_blank_lines=True)[0].astype(str)  # fmt: skip
        separator = _separator(path, head.iloc[0])
        frame = _separated(path, separator, ".")
        # Where a semicolon separates, a comma may be the decimal point.
        if separator == ";" and any(_has_decimal_commas(frame[name]) for name in frame):
            frame = _separated(path, separator, ",")
    except UnicodeDecodeError:
        raise InputError(f"data file {source!r} is not UTF-8 text; convert it, or use Parquet") from None
    except (pd.errors.EmptyDataError, IndexError, KeyError):
        raise InputError(f"data file {source!r} is empty") from None
    except (pd.errors.ParserError, ValueError, OSError, EOFError) as error:
        raise InputError(f"data file {source!r} cannot be read as CSV: {_reason(error)}") from None
    if not isinstance(frame.index, pd.RangeIndex) and frame.iloc[:, -1].isna().all():
        raise InputError(
            f"data file {source!r}: its rows have a field more than its header, and the last one is always "
            "empty, so each value would count for the column before its own; "
            f"remove {separator!r} from the ends of the rows, or add one to the header"
        )
    first = frame.columns[0]
    if first == "Unnamed: 0" and frame[first].tolist() == list(range(len(frame))):
        # What DataFrame.to_csv leaves behind when index=False was forgotten.
        frame = frame.drop(columns=first)
    return frame


def _separated(path: Path, separator: str, decimal: str) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path, sep=separator, decimal=decimal, encoding="utf-8-sig", low_memory=False)


def _has_decimal_commas(column: pd.Series) -> bool:
    """Whether it was read as text, and is numbers throughout once commas are taken for decimal points."""
    if not is_text(column):
        return False
    there = column.dropna().astype(str)
    return bool(
        there.str.fullmatch(r"\s*[-+]?\d+(,\d+)?([eE][-+]?\d+)?\s*").all() and there.str.contains(",").any()
    )


def _separator(path: Path, header: str) -> str:
    """The separator that occurs most often outside quotes in the first line; tab for ``.tsv``."""
    if _suffix(path) == ".tsv":
        return "\t"
    bare = re.sub(r'"[^"]*"', "", header)
    return max(_SEPARATORS, key=bare.count) if any(s in bare for s in _SEPARATORS) else ","
