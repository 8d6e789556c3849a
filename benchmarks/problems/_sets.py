"""The development set, on which samplers are tuned, and the held-out set, on which they are judged.

The two share no table, no BBOB function in five dimensions, no instance and no seed of a synthetic
problem. Look at results on the held-out set, never tune on them.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache, partial

from benchmarks.problems._bbob import bbob, bbob_best, mixint
from benchmarks.problems._conditional import algorithm_choice, network
from benchmarks.problems._problem import Problem, crashing, noisy
from benchmarks.problems._tables import TABLES, table
from benchmarks.problems._tuning import tuning

__all__ = ["dev_problems", "heldout_problems", "problem", "problem_names"]

Builder = Callable[[], Problem]

# The tables that the project's targets are stated on; the rest are held out.
_DEV_TABLES = [
    "hpobench-australian",
    "hpobench-blood_transfusion",
    "hpobench-car",
    "hpobench-credit_g",
    "hpolib-naval_propulsion",
    "hpolib-parkinsons_telemonitoring",
    "nasbench201-cifar10",
]

# One or two functions of each of the five BBOB groups (separable, moderate, ill-conditioned,
# multimodal, weakly structured) on either side.
_DEV_5D, _HELDOUT_5D = (1, 3, 6, 8, 12, 15, 17, 21), (2, 5, 7, 10, 14, 16, 20, 22)


def _crash(function: int, dimension: int, instance: int) -> Problem:
    return crashing(bbob(function, dimension, instance), bbob_best(function, dimension, instance), share=0.25)


def _bbob_builders(
    five: tuple[int, ...], other: dict[int, tuple[int, ...]], instance: int
) -> dict[str, Builder]:
    wanted = {5: five, **other}
    return {
        f"bbob{d}-f{f:02d}-i{instance}": partial(bbob, f, d, instance)
        for d, functions in wanted.items()
        for f in functions
    }


def _mixint_builders(wanted: dict[int, tuple[int, ...]], instance: int) -> dict[str, Builder]:
    return {
        f"mixint{d}-f{f:02d}-i{instance}": partial(mixint, f, d, instance)
        for d, functions in wanted.items()
        for f in functions
    }


def _table_builders(names: list[str]) -> dict[str, Builder]:
    return {name: partial(table, name) for name in names}


SETS: dict[str, dict[str, Builder]] = {
    "dev": {
        **_table_builders(_DEV_TABLES),
        **_bbob_builders(_DEV_5D, {2: (8, 15, 21), 10: (1, 8, 15, 17), 20: (3, 8)}, instance=1),
        **_mixint_builders({5: (3, 8), 10: (1, 15)}, instance=1),
        "cond-choice3-s1": lambda: algorithm_choice(1),
        "cond-choice5-s2": lambda: algorithm_choice(2, algorithms=5, own=4),
        "cond-network4-s1": lambda: network(1),
        "tune-svm_breast_cancer": partial(tuning, "svm_breast_cancer"),
        "tune-lightgbm_diabetes": partial(tuning, "lightgbm_diabetes"),
        "noisy_bbob5-f08-i1": lambda: noisy(bbob(8, 5, 1), 0.05),
        "crash_bbob5-f08-i1": lambda: _crash(8, 5, 1),
    },
    "heldout": {
        **_table_builders([n for n in TABLES if n not in _DEV_TABLES]),
        **_bbob_builders(_HELDOUT_5D, {2: (7, 16, 22), 10: (2, 6, 12, 20), 20: (5, 10)}, instance=7),
        **_mixint_builders({5: (2, 16), 10: (6, 20)}, instance=7),
        "cond-choice4-s11": lambda: algorithm_choice(11, algorithms=4),
        "cond-choice3-s12": lambda: algorithm_choice(12, own=4),
        "cond-network5-s11": lambda: network(11, layers=5),
        "tune-svr_diabetes": partial(tuning, "svr_diabetes"),
        "tune-lightgbm_breast_cancer": partial(tuning, "lightgbm_breast_cancer"),
        "noisy_bbob5-f10-i7": lambda: noisy(bbob(10, 5, 7), 0.05),
        "crash_bbob5-f20-i7": lambda: _crash(20, 5, 7),
    },
}

# The two kinds of problem on which the published figures of the peers were taken.
_CORE = ("hpobench-*", "hpolib-*", "nasbench201-*", "bbob5-*")


def problem_names(which: str = "dev", patterns: str = "*") -> list[str]:
    """Names in the set ``which`` (``dev``, ``heldout``) that match a comma-separated pattern.

    A pattern is a family (``hpobench``, ``bbob5``), a name with wildcards, or ``core`` (the tables
    and BBOB in five dimensions). Raises ``ValueError`` for a pattern that matches nothing.
    """
    if which not in SETS:
        raise ValueError(f"expected a problem set of {sorted(SETS)}, got {which!r}")
    chosen: set[str] = set()
    for pattern in patterns.split(","):
        globs = _CORE if pattern == "core" else (pattern, f"{pattern}-*")
        matched = {n for n in SETS[which] if any(fnmatchcase(n, g) for g in globs)}
        if not matched:
            raise ValueError(
                f"expected a problem of the {which} set, got {pattern!r}, which matches none of "
                f"{', '.join(SETS[which])}"
            )
        chosen |= matched
    return [n for n in SETS[which] if n in chosen]


@cache
def problem(name: str) -> Problem:
    """The problem called ``name``, of either set."""
    for builders in SETS.values():
        if name in builders:
            return builders[name]()
    known = ", ".join(n for builders in SETS.values() for n in builders)
    raise ValueError(f"expected a problem's name, got {name!r}; the problems are {known}")


def dev_problems(patterns: str = "*") -> list[Problem]:
    """Problems to tune samplers on; ``patterns`` as in :func:`problem_names`."""
    return [problem(n) for n in problem_names("dev", patterns)]


def heldout_problems(patterns: str = "*") -> list[Problem]:
    """Problems to judge samplers on; ``patterns`` as in :func:`problem_names`."""
    return [problem(n) for n in problem_names("heldout", patterns)]
