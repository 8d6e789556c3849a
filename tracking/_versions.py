"""Are the libraries that a study stands on of versions that it was made for?

``pip install`` sees to that; a later ``pip install`` of something else may undo it. Then what breaks is an
import somewhere deep inside, or a run that lacks half of what it should have.
"""

from __future__ import annotations

import functools
from importlib import metadata

from hpo_core import InputError

_OURS = "mlflow-hpo"


@functools.cache
def check_version(package: str) -> None:
    """Raise :class:`InputError` for an installed version outside the range that this project declares.

    Says nothing where the project runs from its sources and nobody has installed it.
    """
    bounds = _bounds(package)
    if not bounds:
        return
    from packaging.specifiers import SpecifierSet

    installed = metadata.version(package)
    if not SpecifierSet(bounds).contains(installed, prereleases=True):
        raise InputError(
            f"{_OURS} {metadata.version(_OURS)} needs {package}{bounds}, and {installed} is installed; "
            f"pip install '{package}{bounds}'"
        )


def _bounds(package: str) -> str:
    """The declared range, such as ``<4,>=3.17``; empty where there is none to be had."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(_OURS) or []
    except metadata.PackageNotFoundError:
        return ""
    found = (r for line in lines if (r := Requirement(line)).name == package and r.marker is None)
    return next((str(r.specifier) for r in found), "")
