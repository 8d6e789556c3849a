"""Shares of the rows as the budget of a trial: how many there are, and which rows are in them."""

from __future__ import annotations

import numpy as np

from flows.objectives._base import Setting
from flows.objectives._splits import Rows
from hpo_core import InputError

# Percents of large tables; with fewer than three shares there is nothing to choose.
_MOST, _FEWEST = 100, 3
# What the smallest share has of rows, and of each class: less says nothing about more.
_ROWS, _OF_A_CLASS = 100, 2
# The same of the rows that are validated on.
_VALID_ROWS, _VALID_OF_A_CLASS = 2000, 10


def n_shares(setting: Setting) -> int:
    """Into how many shares the training rows of each fold are divided.

    Raises :class:`InputError` where even a third of them is too little.
    """
    trains = [train for train, _ in setting.split.folds]
    fewest, rarest = min(map(len, trains)), _rarest(setting, trains)
    shares = min(_MOST, fewest // _ROWS, _MOST if rarest is None else rarest // _OF_A_CLASS)
    if shares >= _FEWEST:
        return shares
    classes = "" if rarest is None else f" and {_FEWEST * _OF_A_CLASS} of each class"
    found = "" if rarest is None else f" and {rarest} of the rarest class"
    raise InputError(
        f"budget='rows' needs {_FEWEST * _ROWS} training rows{classes} in each fold; the smallest has "
        f"{fewest}{found}; use budget='folds', or leave it out"
    )


def rows_axis(setting: Setting) -> tuple[int, str]:
    """How many steps the axis has, and what one is."""
    shares = n_shares(setting)
    return shares, f"share of 1/{shares} of the training rows"


def fold_at(setting: Setting, fold: int, share: float) -> tuple[Rows, Rows]:
    """The training and validation rows of one fold at a share of both; a larger share has those of a smaller.

    The same for all trials, whose results are compared. Of validation rows there are more where the share
    alone could not tell trials apart.
    """
    train, valid = setting.split.folds[fold]
    rarest = _rarest(setting, [valid])
    enough = max(_VALID_ROWS / len(valid), 0.0 if not rarest else _VALID_OF_A_CLASS / rarest)
    return share_of(setting, train, share), share_of(setting, valid, max(share, enough), newest=False)


def share_of(setting: Setting, rows: Rows, share: float, *, newest: bool = True) -> Rows:
    """A fraction of sorted row numbers, sorted; a larger fraction has all that a smaller one has.

    The same for all trials, whose results are compared. Of rows in time the newest are taken, which are next
    to those that are validated on. Of classes each has its fraction, in time too: what learns from one class
    alone fails, and there are stretches of time without the rare one.
    """
    count = round(len(rows) * share)
    if count >= len(rows):
        return rows
    problem = setting.problem
    if newest and setting.split.kind == "time" and problem.table.times is not None:
        order = np.argsort(-problem.table.times[rows], kind="stable")
    else:
        order = np.random.default_rng([0x5BA4E, len(rows), int(rows[0])]).permutation(len(rows))
    if problem.classes:
        order = order[np.argsort(_turns(problem.y[rows][order]), kind="stable")]
    return np.sort(rows[order[:count]])


def _turns(codes: np.ndarray) -> np.ndarray:
    """(n,) in [0, 1): when each row has its turn, so that those of every class are spread evenly."""
    turns = np.empty(len(codes))
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        turns[own] = (np.arange(len(own)) + 0.5) / len(own)
    return turns


def _rarest(setting: Setting, trains: list[Rows]) -> int | None:
    problem = setting.problem
    if not problem.classes:
        return None
    counts = [np.bincount(problem.y[t].astype(np.int64), minlength=len(problem.classes)) for t in trains]
    return int(np.min(counts))
