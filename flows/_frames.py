"""Tables that come as data frames are kept as files: trials run in other processes, studies go on later."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows._find import find_all, request_data
from flows._workspace import studies_home
from hpo_core import InputError, Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["forget_frame", "kept"]


@contextlib.contextmanager
def kept(data: Any) -> Iterator[Any]:
    """What a request says of ``data``: a path or a name as text, a data frame by the file it is kept in.

    The same content is kept once, without its index. Should the block raise, nothing new is left behind.
    """
    if isinstance(data, os.PathLike):
        yield os.fspath(data)
        return
    if not hasattr(data, "to_parquet"):
        yield data
        return
    path = _folder() / f"frame-{_digest(data)[:12]}.parquet"
    made = not path.exists()
    if made:
        _write(data, path)
    try:
        yield str(path)
    except BaseException:
        if made:
            path.unlink(missing_ok=True)
        raise


def forget_frame(study: Study) -> None:
    """Delete the file that the deleted study's data frame was kept in, unless another study needs it."""
    path = Path(str(request_data(study).get("data") or ""))
    if path.parent != _folder():
        return
    unread: list[str] = []
    others = [request_data(other) for other in find_all(unread.append) if other.name != study.name]
    if not unread and not any(other.get("data") == str(path) for other in others):
        path.unlink(missing_ok=True)


def _folder() -> Path:
    return studies_home().parent / "data"


def _digest(frame: pd.DataFrame) -> str:
    """SHA-256 of names, kinds and values; not of a file, which each version of pyarrow writes in its way."""
    import pandas as pd

    shape = [(str(name), str(kind)) for name, kind in frame.dtypes.items()]
    content = hashlib.sha256(repr(shape).encode())
    try:
        content.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    except TypeError as error:
        raise _unkept(error) from None
    return content.hexdigest()


def _write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.to_parquet(half, index=False)
        half.replace(path)
    except (ValueError, TypeError) as error:
        raise _unkept(error) from None
    finally:
        half.unlink(missing_ok=True)


def _unkept(error: Exception) -> InputError:
    why = " ".join(str(error.args[0] if error.args else error).split())[:200]
    return InputError(
        f"the data frame cannot be written as Parquet ({why}); give each column a name of its own and values "
        "of one kind"
    )
