"""What MLflow's registry takes for names, to be known before anything runs."""

from __future__ import annotations

import posixpath
import re

from hpo_core import InputError

_MOST = 255
# `models:/NAME@latest` and `models:/NAME@v3` mean a version without any alias.
_RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)


def check_registered(name: str, alias: str = "champion") -> None:
    """Raise :class:`InputError` for a registered model's name, or an alias, that MLflow would refuse."""
    plain = posixpath.normpath(name) == name and not name.startswith("..") and name != "."
    if not name.strip() or "/" in name or ":" in name or not plain or len(name) > _MOST:
        raise InputError(
            f"a registered model's name has at most {_MOST} characters and neither '/' nor ':', got {name!r}"
        )
    if not re.fullmatch(r"[\w-]+", alias) or _RESERVED.fullmatch(alias) or len(alias) > _MOST:
        raise InputError(
            f"an alias has letters, digits, underscores and dashes, at most {_MOST}, and is neither latest "
            f"nor v and a number, got {alias!r}"
        )
