"""Open an Optuna storage for reading; nothing is made where there is none."""

from __future__ import annotations

import contextlib
import sqlite3
import urllib.parse
from pathlib import Path
from typing import Any

from hpo_core import InputError
from hpo_core.inner import nearest
from tracking import redacted

_NEEDED = {"studies", "trials", "trial_params", "trial_values"}
_SQLITE = b"SQLite format 3\x00"


def load(storage: str, name: str | None) -> Any:
    """The Optuna study of that name, or the only one.

    ``storage``: a database URL or the path of a journal file. Raises :class:`InputError` when optuna is
    not installed, and when there is no such storage or study.
    """
    try:
        import optuna
    except ImportError:
        raise InputError(
            "a warm start from Optuna needs the package optuna: pip install 'mlflow-hpo[optuna]'"
        ) from None
    shown = redacted(storage)
    opened = _opened(optuna, storage, shown)
    try:
        known = optuna.get_all_study_names(opened)
    except Exception as error:  # noqa: BLE001 - whatever the storage's own library raises
        raise _unreadable(shown, error) from None
    if name is None and len(known) != 1:
        raise InputError(
            f"the Optuna storage {shown} has {len(known)} studies ({', '.join(known[:8]) or 'none'}); "
            f"say which, as in optuna:{shown}#{urllib.parse.quote(known[0]) if known else 'STUDY'}"
        )
    if name is not None and name not in known:
        raise InputError(
            f"the Optuna storage {shown} has no study {name!r}{nearest(name, known)} (it has "
            f"{', '.join(known[:8]) or 'none'})"
        )
    return optuna.load_study(study_name=name or known[0], storage=opened)


def _opened(optuna: Any, storage: str, shown: str) -> Any:
    try:
        if "://" not in storage:
            if not Path(storage).is_file():
                raise InputError(f"there is no Optuna journal {shown}; give its path, or a database's URL")
            with Path(storage).open("rb") as file:
                if file.read(len(_SQLITE)) == _SQLITE:
                    raise InputError(
                        f"{shown} is an SQLite database and no Optuna journal; give its URL, sqlite:///{shown}"
                    )
            backend = optuna.storages.journal.JournalFileBackend(storage)
            return optuna.storages.JournalStorage(backend)
        _check_sqlite(storage, shown)
        return optuna.storages.RDBStorage(storage, skip_table_creation=True)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - a database's driver has errors of its own
        raise _unreadable(shown, error) from None


def _check_sqlite(url: str, shown: str) -> None:
    """Optuna makes its tables wherever it is pointed to; here it is only to read."""
    from tracking import database_file

    path = database_file(url)
    if path is None:
        return
    if not path.is_file():
        raise InputError(f"there is no Optuna storage {shown}: the file {path} does not exist")
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables >= _NEEDED:
        raise InputError(f"{shown} is a database, but not one of Optuna's")


def _unreadable(shown: str, error: Exception) -> InputError:
    why = next(iter(str(error).splitlines()), "") or type(error).__name__
    return InputError(f"the Optuna storage {shown} cannot be read ({type(error).__name__}: {why})")
