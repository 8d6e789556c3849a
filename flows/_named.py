"""Objectives by name, ``PATH.py:function`` or ``package.module:function``, and names for studies."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from flows._execute import Objective
from flows._files import not_there
from flows._importing import make_importable
from flows._mlproject import ProjectEntry
from flows.runners._messages import pack
from hpo_core import ObjectiveError, SearchSpace
from hpo_core.inner import nearest

READY = ("lgbm", "sklearn", "torch")
_HOW_INSIDE = "; name it as package.module:function, from the folder that has the package"


def load_objective(reference: str) -> Objective:
    """The function that ``PATH.py:name`` or ``package.module:name`` means.

    Raises :class:`ObjectiveError` with the nearest names.
    """
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name:
        raise ObjectiveError(
            f"an objective is one of {', '.join(READY)}, PATH.py:function, package.module:function or the "
            f"folder of an MLflow project, got {reference!r}{nearest(reference, READY)}"
        )
    module = _module_of_file(Path(place)) if place.endswith(".py") else _module(place)
    function = getattr(module, name, None)
    if function is None:
        public = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise ObjectiveError(f"{place} has no function {name!r}{nearest(name, public)}")
    if inspect.isclass(function):
        raise ObjectiveError(
            f"{reference} is a class, not a function of a trial; give an object of it a name in the module, "
            "and name that"
        )
    if not callable(function):
        raise ObjectiveError(f"{reference} is {type(function).__name__}, not a function of a trial")
    return function


def _module(name: str) -> Any:
    make_importable(Path.cwd())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the import raises is the user's
        raise ObjectiveError(f"module {name!r} cannot be imported: {type(error).__name__}: {error}") from None


def _module_of_file(path: Path) -> Any:
    if not path.is_file():
        raise ObjectiveError(f"the Python file {str(path)!r} {not_there(path)}")
    file = path.resolve()
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    if known is not None or name in sys.stdlib_module_names:
        raise ObjectiveError(f"{path} has the name of another module, {name!r}; rename the file")
    make_importable(file.parent)
    _check_found(file, path)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ObjectiveError(f"{path} cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's file raises is theirs
        del sys.modules[name]
        advice = _HOW_INSIDE if isinstance(error, ImportError) and "relative import" in str(error) else ""
        raise ObjectiveError(f"{path} cannot be loaded: {type(error).__name__}: {error}{advice}") from None
    return module


def _check_found(file: Path, given: Path) -> None:
    """Raise :class:`ObjectiveError` where a worker, which imports by name, would find something else."""
    name = file.stem
    if "." in name:
        raise ObjectiveError(f"{given} has a dot in its name, which no module can have; rename the file")
    importlib.invalidate_caches()  # the file may have been written just now
    found = PathFinder.find_spec(name)
    origin = found.origin if found is not None and found.origin else ""
    if not origin or not file.samefile(origin):
        raise ObjectiveError(
            f"{given} has the name of another module, {name!r} ({origin}), which comes first in Python's "
            "path; rename the file"
        )


def label_of(function: Callable[..., Any]) -> str:
    """``module:name`` of a function, the same in every process that defines it; of a project its own."""
    if isinstance(function, ProjectEntry):
        return function.label
    target = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    return f"{target.__module__}:{target.__qualname__}"


def space_of(function: Objective, given: str | None) -> SearchSpace | None:
    """A space file's content, else what the function carries as ``function.space``, else define-by-run."""
    if given is not None:
        from flows.objectives import read_space

        return read_space(given)
    space = getattr(function, "space", None)
    if space is None or isinstance(space, SearchSpace):
        return space
    return SearchSpace(space)


def absolute(reference: str) -> str:
    """The reference to an objective with its file's whole path, so that it holds in every folder."""
    place, colon, name = reference.rpartition(":")
    return f"{Path(place).resolve()}{colon}{name}" if place.endswith(".py") else reference


def slug(text: str) -> str:
    """The text as part of a study's name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")[:60] or "study"


def check_callable(function: Objective) -> None:
    """Raise :class:`ObjectiveError` for what no trial can be evaluated with, before one is."""
    if inspect.isclass(function):
        raise ObjectiveError(
            f"the objective must be a function of a trial, got the class {function.__name__!r}; hand over an "
            f"object of it, {function.__name__}(...)"
        )
    if not callable(function):
        raise ObjectiveError(
            f"the objective must be a function of a trial, or the name of one, got {function!r}; hand over "
            "the function itself and not what it returns"
        )
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004 - the method itself
    for kind, found in (
        ("an async", inspect.iscoroutinefunction),
        ("a generator", inspect.isgeneratorfunction),
    ):
        if found(function) or found(called):
            raise ObjectiveError(
                f"the objective {label_of(function)} is {kind} function; let a plain one return its result"
            )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a builtin that does not say
    try:
        signature.bind(None)
    except TypeError as error:
        raise ObjectiveError(
            f"the objective {label_of(function)}{signature} cannot be called with a trial alone ({error}); "
            "fix the others with functools.partial"
        ) from None


def check_shippable(function: Objective) -> None:
    """Raise :class:`ObjectiveError` for a function that cannot be sent to another process."""
    try:
        pack(function)
    except Exception as error:  # noqa: BLE001 - pickling runs code of whatever the function holds
        raise ObjectiveError(
            f"the objective {label_of(function)} cannot be sent to worker processes ({type(error).__name__}: "
            f"{error}); make what it holds inside the function, or use isolation 'thread'"
        ) from None


def code_of(function: Objective) -> str:
    """SHA-256 of the file that defines it; that of nothing where there is none."""
    named = inspect.unwrap(function if inspect.isroutine(function) else type(function))
    source = Path()
    with contextlib.suppress(TypeError):  # it is built in
        source = Path(inspect.getsourcefile(named) or "")
    return hashlib.sha256(source.read_bytes() if source.is_file() else b"").hexdigest()


def study_name(label: str, *asked: Any) -> str:
    """The name of a study that was given none: asking for the same gives the same, so that it resumes."""
    words = " ".join(map(str, asked))
    return f"{slug(label)}-{hashlib.sha256(words.encode()).hexdigest()[:6]}"
