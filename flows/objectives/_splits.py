"""Splits: test rows that tuning never sees, and folds of the rest.

Everything is a function of the table and one seed: all trials of a study see the same folds.

Kinds
-----
stratified  each class keeps its share everywhere (the default for classes)
plain       rows are shuffled (the default for regression)
grouped     the rows of a group stay together; classes are balanced as far as the groups allow
time        the newest rows are the test; fold i trains on everything before its validation rows

Rare classes (stratified). Two classes: the number of folds shrinks until every fold holds the
smaller class; fewer than 3 members are refused. More classes: rows of a class with fewer than
``folds + 1`` members train in every fold and are neither validated nor tested, as they are too few
to measure anything.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flows.objectives._data import Problem
from hpo_core import InputError
from hpo_core.inner import check_whole, nearest

Rows = NDArray[np.int64]

KINDS = ("auto", "stratified", "plain", "grouped", "time")
# One fold means one validation set of this share of the training rows.
HOLDOUT = 5
# Shuffles of the groups that the grouped test split chooses from.
_GROUP_SHUFFLES = 20


# Where nobody says how many folds: so many rows, of each class and in so many groups, are enough for one.
_MANY_ROWS, _MANY_OF_A_CLASS, _MANY_GROUPS = 50_000, 1_000, 100
# Fewer have to do where training is dear: by rows times columns times what is learnt of each row, which of
# three or more classes is a score for each.
_ENOUGH_ROWS, _DEAR = 10_000, 5_000_000


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """How rows are split. ``folds=1`` is a single validation set of a fifth of the training rows.

    ``folds=None``: ``usual`` ones, and 1 where there are so many rows that a single validation set tells
    configurations apart, or enough for it where each takes long: many more are tried in the same time.
    ``deal``: another number deals the training rows into other folds; the test rows do not depend on it.

    Raises :class:`InputError` for numbers out of range and for an unknown kind.
    """

    kind: str = "auto"
    folds: int | None = None
    test_size: float = 0.2
    seed: int = 0
    deal: int | None = None
    usual: int = 5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(
                f"unknown split {self.kind!r}{nearest(self.kind, KINDS)} (one of {', '.join(KINDS)})"
            )
        folds = self.n_folds
        if isinstance(folds, bool) or not isinstance(folds, int) or not 1 <= folds <= 50:
            raise InputError(f"folds must be a whole number from 1 to 50, got {self.folds!r}")
        if not 0 < self.test_size <= 0.5:
            raise InputError(f"test_size must be above 0 and at most 0.5, got {self.test_size!r}")
        check_whole("seed", self.seed, 0)

    @property
    def n_folds(self) -> int:
        """How many folds are asked for."""
        return self.usual if self.folds is None else self.folds


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted row numbers: ``train``, ``test``, and ``folds``, each a (train, valid) pair within ``train``."""

    kind: str
    train: Rows
    test: Rows
    folds: tuple[tuple[Rows, Rows], ...]
    notes: tuple[str, ...] = ()


def make_split(problem: Problem, plan: SplitPlan) -> Split:
    """Test rows and folds for a problem.

    Raises :class:`InputError` when the rows, classes or groups are too few for the plan, or a fold
    would train or validate on a single class.
    """
    kind = _resolve(problem, plan.kind)
    rng = np.random.default_rng(np.random.SeedSequence([plan.seed, 0x5B117]))
    make = {"stratified": _stratified, "plain": _plain, "grouped": _grouped, "time": _by_time}[kind]
    # Without a number of their own, folds follow from where the test's draws ended.
    dealer = rng if plan.deal is None else np.random.default_rng([plan.seed, 0xF01D5, plan.deal])
    single = plan.folds is None and plan.usual > 1 and _is_plenty(problem, kind)
    split = make(problem, replace(plan, folds=1) if single else plan, rng, dealer)
    if single:
        size = "rows" if len(problem.y) >= _MANY_ROWS else "values"
        note = (
            f"one validation set in place of {plan.usual} folds, for so many {size}; --folds says otherwise"
        )
        split = replace(split, notes=(*split.notes, note))
    split = replace(
        split,
        train=np.sort(split.train),
        test=np.sort(split.test),
        folds=tuple((np.sort(a), np.sort(b)) for a, b in split.folds),
    )
    _check(problem, split)
    return split


def _resolve(problem: Problem, kind: str) -> str:
    table = problem.table
    if kind == "auto":
        if table.groups is not None and table.times is not None:
            raise InputError(
                "a group column and a time column are both given; say split='grouped' or split='time'"
            )
        if table.groups is not None:
            return "grouped"
        if table.times is not None:
            return "time"
        return "stratified" if problem.classes else "plain"
    if kind == "stratified" and not problem.classes:
        raise InputError("split='stratified' needs classes, and this target is regression; use split='plain'")
    if kind == "grouped" and table.groups is None:
        raise InputError("split='grouped' needs a group column; name it with group")
    if kind == "time" and table.times is None:
        raise InputError("split='time' needs a time column; name it with time (--time-column)")
    return kind


def _is_plenty(problem: Problem, kind: str) -> bool:
    """Whether a validation set of a part of the rows has many of everything that is dealt out."""
    rows, classes = len(problem.y), len(problem.classes)
    scores = classes if classes > 2 else 1
    dear = rows * len(problem.columns) * scores >= _DEAR
    if rows < (_ENOUGH_ROWS if dear else _MANY_ROWS):
        return False
    # What is a mean over the classes is as sure with fewer rows of each.
    many = _MANY_OF_A_CLASS * 2 / classes if classes else 0
    if classes and np.bincount(problem.y.astype(np.int64)).min() < many:
        return False
    groups = problem.table.groups
    return kind != "grouped" or (groups is not None and int(groups.max()) + 1 >= _MANY_GROUPS)


def _share(n: int, test_size: float) -> int:
    return max(1, round(n * test_size))


# -- stratified ----------------------------------------------------------------------------------


def _stratified(
    problem: Problem, plan: SplitPlan, rng: np.random.Generator, dealer: np.random.Generator
) -> Split:
    codes = problem.y.astype(np.int64)
    members = np.bincount(codes, minlength=len(problem.classes))
    folds, notes = plan.n_folds, []
    # With one fold, a class needs a member to train, one to validate and one to test.
    wanted = max(folds, 2)
    common = members >= wanted + 1
    if common.sum() < 2:
        wanted, note = _fewer_folds(problem, members, wanted)
        folds = min(folds, wanted)
        notes.append(note)
        common = members >= wanted + 1
    rare = np.flatnonzero(~common)
    if len(rare):
        names = ", ".join(repr(problem.classes[k]) for k in rare[:5])
        more = " ..." if len(rare) > 5 else ""
        notes.append(
            f"classes with fewer than {wanted + 1} rows only train, they are not scored: {names}{more}"
        )
    test: list[Rows] = []
    pools: list[Rows] = []
    for k in np.flatnonzero(common):
        rows = rng.permutation(np.flatnonzero(codes == k))
        # Enough members stay behind for every fold.
        held = min(_share(len(rows), plan.test_size), len(rows) - wanted)
        test.append(rows[:held])
        pools.append(_shuffled(rows[held:], rng, dealer))
    always = np.flatnonzero(np.isin(codes, rare))
    valid = _deal(pools, folds)
    train = np.concatenate([always, *pools])
    return Split("stratified", train, np.concatenate(test), _complements(train, valid), tuple(notes))


def _shuffled(rows: Rows, rng: np.random.Generator, dealer: np.random.Generator) -> Rows:
    """Rows that ``rng`` has shuffled already, once more where the folds have a dealer of their own."""
    return rows if dealer is rng else dealer.permutation(rows)


def _fewer_folds(problem: Problem, members: Rows, wanted: int) -> tuple[int, str]:
    """The largest number of folds that two classes can fill, and a note."""
    second = np.sort(members)[-2]
    if second < 3:
        label = problem.classes[int(np.argsort(members)[-2])]
        raise InputError(
            f"data {problem.table.source!r}: class {label!r} of the target {problem.table.target!r} has "
            f"{second} rows; at least 3 are needed to train, validate and test on it"
        )
    folds = int(min(wanted, second - 1))
    return folds, f"{folds} folds instead of {wanted}: the smaller class has only {second} rows"


def _deal(pools: list[Rows], folds: int) -> list[Rows]:
    """Deal shuffled pools into validation sets whose sizes differ by one at most, all in all."""
    if folds == 1:
        # One hand of five would miss a class with fewer than five rows: take a share of each pool.
        return [np.concatenate([p[: max(1, len(p) // HOLDOUT)] for p in pools])]
    everything = np.concatenate(pools)
    return [everything[i::folds] for i in range(folds)]


def _complements(train: Rows, valid: list[Rows]) -> tuple[tuple[Rows, Rows], ...]:
    return tuple((np.setdiff1d(train, v), v) for v in valid)


# -- plain, grouped, time ------------------------------------------------------------------------


def _plain(problem: Problem, plan: SplitPlan, rng: np.random.Generator, dealer: np.random.Generator) -> Split:
    rows = rng.permutation(len(problem.y))
    held = _share(len(rows), plan.test_size)
    test, train = rows[:held], _shuffled(rows[held:], rng, dealer)
    if len(train) < 2 * plan.n_folds:
        raise InputError(_too_few(problem, f"{len(train)} training rows", plan.n_folds, len(train) // 2))
    return Split("plain", train, test, _complements(train, _deal([train], plan.n_folds)))


def _too_few(problem: Problem, what: str, folds: int, possible: int) -> str:
    remedy = f"use folds={possible}" if possible >= 1 else "bring more data"
    return f"data {problem.table.source!r} leaves {what} for folds={folds}; {remedy}"


def _grouped(
    problem: Problem, plan: SplitPlan, rng: np.random.Generator, dealer: np.random.Generator
) -> Split:
    groups = problem.table.groups
    if groups is None:  # _resolve has seen to it; this tells the type checker
        raise InputError("split='grouped' needs a group column; name it with group")
    n_groups = int(groups.max()) + 1
    folds = plan.n_folds
    if n_groups < max(folds, 2) + 1:
        raise InputError(_too_few(problem, f"{n_groups} groups", folds, n_groups - 1 if n_groups > 2 else 0))
    counts = _class_counts(problem, groups, n_groups)
    test_groups = _test_groups(counts, plan, rng, most=n_groups - max(folds, 2))
    is_test = np.isin(groups, test_groups)
    rest = np.setdiff1d(np.arange(n_groups), test_groups)
    hands = min(HOLDOUT, len(rest)) if folds == 1 else folds
    hand_of = _deal_groups(counts[rest], hands, dealer)
    train = np.flatnonzero(~is_test)
    valid = [np.flatnonzero(np.isin(groups, rest[hand_of == i])) for i in range(1 if folds == 1 else hands)]
    return Split("grouped", train, np.flatnonzero(is_test), _complements(train, valid))


def _class_counts(problem: Problem, groups: Rows, n_groups: int) -> NDArray[np.float64]:
    """(groups, K) members of each class; one column of sizes for regression."""
    k = max(len(problem.classes), 1)
    codes = problem.y.astype(np.int64) if problem.classes else np.zeros(len(groups), dtype=np.int64)
    return np.bincount(groups * k + codes, minlength=n_groups * k).reshape(n_groups, k).astype(float)


def _test_groups(counts: NDArray[np.float64], plan: SplitPlan, rng: np.random.Generator, most: int) -> Rows:
    """The groups of the test: of several shuffles, the one whose class counts come closest."""
    wanted = counts.sum(axis=0) * plan.test_size
    best: tuple[float, Rows] | None = None
    for _ in range(_GROUP_SHUFFLES):
        order = rng.permutation(len(counts))
        running = np.cumsum(counts[order].sum(axis=1))
        take = int(np.searchsorted(running, wanted.sum() * (1 - 1e-9))) + 1
        chosen = order[: min(take, most)]
        miss = float(np.abs(counts[chosen].sum(axis=0) - wanted).sum())
        if best is None or miss < best[0]:
            best = (miss, chosen)
    return best[1] if best else np.zeros(0, dtype=np.int64)


def _deal_groups(counts: NDArray[np.float64], hands: int, rng: np.random.Generator) -> Rows:
    """(groups,) hand of each group: the most uneven groups first, each to where it unbalances least."""
    order = rng.permutation(len(counts))
    order = order[np.argsort(-(counts[order].sum(axis=1) + counts[order].std(axis=1)), kind="stable")]
    total = np.maximum(counts.sum(axis=0), 1)
    held = np.zeros((hands, counts.shape[1]))
    hand_of = np.zeros(len(counts), dtype=np.int64)
    for i, group in enumerate(order):
        if i < hands:  # no hand stays empty
            hand = i
        else:
            trial = held[None] + np.eye(hands)[:, :, None] * counts[group]
            spread = (trial / total).std(axis=1).mean(axis=1)
            sizes = held.sum(axis=1)
            hand = int(np.lexsort((sizes, np.round(spread, 12)))[0])
        held[hand] += counts[group]
        hand_of[group] = hand
    return hand_of


def _by_time(
    problem: Problem, plan: SplitPlan, rng: np.random.Generator, dealer: np.random.Generator
) -> Split:
    """Newest rows test; the rest is cut into ``folds + 1`` blocks, each after the first validates once."""
    del rng, dealer  # nothing is random about time
    times = problem.table.times
    if times is None:  # _resolve has seen to it; this tells the type checker
        raise InputError("split='time' needs a time column; name it with time (--time-column)")
    order = np.argsort(times, kind="stable")
    keys = times[order]
    n = len(order)
    cut = _boundary(keys, n - _share(n, plan.test_size))
    blocks = HOLDOUT if plan.n_folds == 1 else plan.n_folds + 1
    ends = [_boundary(keys, round(cut * (i + 1) / blocks)) for i in range(blocks - 1)] + [cut]
    if plan.n_folds == 1:
        ends = ends[-2:]
    if ends[0] == 0 or len(set(ends)) < len(ends):
        distinct = len(np.unique(keys))
        raise InputError(
            f"data {problem.table.source!r}: the {distinct} different times are too few, or too uneven, "
            f"for folds={plan.n_folds} and a test of the newest {plan.test_size:.0%}; use fewer folds"
        )
    folds = tuple((order[:a], order[a:b]) for a, b in itertools.pairwise(ends))
    return Split("time", order[:cut], order[cut:], folds)


def _boundary(keys: NDArray[np.float64], at: int) -> int:
    """The nearest place at or before ``at`` that does not cut through rows of one time."""
    return int(np.searchsorted(keys, keys[at], side="left"))


def _check(problem: Problem, split: Split) -> None:
    """Every part must be able to train or to measure."""
    y, source = problem.y, problem.table.source
    parts = [(f"fold {i}", fold) for i, fold in enumerate(split.folds, start=1)]
    for name, rows in [("the test", split.test)] + [
        (f"the {what} rows of {fold}", pair[i])
        for fold, pair in parts
        for i, what in enumerate(("training", "validation"))
    ]:
        if problem.classes and len(np.unique(y[rows])) < 2:
            raise InputError(
                f"data {source!r}, split={split.kind!r}: {name} would hold one class only; use fewer folds, "
                "a larger test_size or another split"
            )
        if len(rows) < 2 or (name.startswith("the training") and np.ptp(y[rows]) == 0):
            raise InputError(
                f"data {source!r}, split={split.kind!r}: {name} would hold {len(rows)} rows, all alike or "
                "too few to measure; use fewer folds"
            )
