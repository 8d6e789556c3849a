"""Tables that come as data frames are kept as files: trials run in other processes, studies go on later."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows._notes import request_data
from flows._workspace import studies_home, study_names
from hpo_core import InputError, JournalError, Study
from hpo_core.inner import JOURNAL, read_created

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["forget_frame", "kept", "whereabouts"]


@contextlib.contextmanager
def kept(data: Any) -> Iterator[Any]:
    """What a request says of ``data``: a path or a name as text, a data frame by the file it is kept in.

    The same content is kept once, without its index, and with the names of its columns as text. Should the
    block raise, nothing new is left behind that no study needs, and an :class:`InputError` speaks of the
    frame, not of the file.
    """
    if isinstance(data, os.PathLike):
        yield os.fspath(data)
        return
    if not _is_frame(data):
        yield data
        return
    frame = _plain(data)
    path = _folder() / f"frame-{_digest(frame)[:12]}.parquet"
    made = not path.exists()
    if made:
        _write(frame, path)
    try:
        yield str(path)
    except BaseException as error:
        if made:
            _forget(path)
        said = re.sub(f"data (file )?{re.escape(repr(str(path)))}", "the data frame", str(error))
        if isinstance(error, InputError) and said != str(error):
            raise type(error)(said) from None
        raise


def whereabouts(data: str | None) -> str | None:
    """The data that a study was started with; a kept frame has moved if the folder of the studies has."""
    if data is None or (path := _kept_as(data)) is None or Path(data).exists():
        return data
    return str(path)


def forget_frame(study: Study) -> None:
    """Delete the file that the deleted study's data frame was kept in, unless another study needs it."""
    path = _kept_by(study.created.meta)
    if path is not None:
        _forget(path, but=study.name)


def _forget(path: Path, but: str | None = None) -> None:
    if not any(_needed(path, name) for name in study_names() if name != but):
        path.unlink(missing_ok=True)


def _needed(path: Path, name: str) -> bool:
    """Whether the study of that name may need the file, which the first line of its journal says."""
    try:
        created = read_created(studies_home() / name / JOURNAL)
    except JournalError:
        created = None
    return created is None or _kept_by(created.meta) == path


def _kept_by(meta: Mapping[str, Any]) -> Path | None:
    """The file of the study's data frame; ``None`` for a study of other data."""
    return _kept_as(str(request_data(meta).get("data") or ""))


def _kept_as(data: str) -> Path | None:
    """Where a frame that was kept under this name is now; ``None`` for other data."""
    path = Path(data)
    ours = re.fullmatch(r"frame-[0-9a-f]{12}\.parquet", path.name) and path.parent.name == _FOLDER
    return _folder() / path.name if ours else None


_FOLDER = "data"


def _folder() -> Path:
    return studies_home().parent / _FOLDER


def _is_frame(data: Any) -> bool:
    """Whether it is a frame of pandas: whoever has one has imported it."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with text for names, as models know them, and without what hangs on it."""
    frame = frame.copy(deep=False)
    frame.attrs = {}
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the data frame has several columns named {twice!r} as text; rename all but one")
    frame.columns = names
    return frame


def _digest(frame: pd.DataFrame) -> str:
    """SHA-256 of names, kinds and values; not of a file, which each version of pyarrow writes in its way."""
    import pandas as pd

    shape = [(str(name), str(kind)) for name, kind in frame.dtypes.items()]
    content = hashlib.sha256(repr(shape).encode())
    try:
        content.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    except TypeError as error:
        raise _unkept(frame, error) from None
    return content.hexdigest()


def _write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.to_parquet(half, index=False)
        half.replace(path)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - pyarrow has many for values that it cannot write
        raise _unkept(frame, error) from None
    finally:
        half.unlink(missing_ok=True)


def _unkept(frame: pd.DataFrame, error: Exception) -> InputError:
    why = " ".join(str(error.args[0] if error.args else error).split())[:200]
    return InputError(
        f"the data frame cannot be written as Parquet{_culprit(frame)} ({why}); make its values numbers, "
        "dates or text, or drop it"
    )


def _culprit(frame: pd.DataFrame) -> str:
    """The first column that cannot be kept by itself."""
    import pandas as pd

    for name in frame.columns:
        try:
            pd.util.hash_pandas_object(frame[name], index=False)
            frame[[name]].to_parquet(io.BytesIO(), index=False)
        except Exception:  # noqa: BLE001 - as above
            return f", for its column {name!r}"
    return ""
