"""Splits: nothing leaks, classes keep their shares, rare classes follow the written rule."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.objectives._data import Problem, Table, pose
from flows.objectives._splits import Split, SplitPlan, make_split
from hpo_core import InputError


def posed(
    y: object, *, groups: object = None, times: object = None, task: str | None = None, width: int = 1
) -> Problem:
    labels = pd.Series(np.asarray(y))
    values = np.repeat(np.arange(len(labels))[:, None] % 7 * 1.0, width, axis=1)
    features = pd.DataFrame(values, columns=["x", *(f"x{i}" for i in range(1, width))])
    table = Table(
        "t.csv",
        "y",
        features,
        labels,
        None if groups is None else np.asarray(groups, dtype=np.int64),
        None if times is None else np.asarray(times, dtype=np.float64),
        "",
        (),
    )
    return pose(table, task)


def check(problem: Problem, split: Split) -> None:
    """What holds for every split."""
    n = len(problem.y)
    assert not set(split.train) & set(split.test)
    assert len(split.train) + len(split.test) == n
    for rows in (split.train, split.test, *itertools.chain(*split.folds)):
        assert (np.diff(rows) > 0).all()
    for train, valid in split.folds:
        assert len(train)
        assert len(valid)
        assert not set(train) & set(valid)
        assert set(train) | set(valid) <= set(split.train)
    for one, other in itertools.combinations([set(valid) for _, valid in split.folds], 2):
        assert not one & other


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=6),
    st.integers(1, 8),
    st.sampled_from([0.1, 0.2, 0.5]),
    st.integers(0, 5),
)
def test_stratified(sizes: list[int], folds: int, test_size: float, seed: int) -> None:
    sizes = [max(sizes[0], 20), max(sizes[1], 4), *sizes[2:]]
    y = np.random.default_rng(seed).permutation(np.repeat([f"c{i}" for i in range(len(sizes))], sizes))
    problem = posed(y)
    split = make_split(problem, SplitPlan(folds=folds, test_size=test_size, seed=seed))
    check(problem, split)
    used = len(split.folds)
    for k, size in enumerate(sizes):
        rows = np.flatnonzero(problem.y == k)
        if size >= max(used, 2) + 1:
            tested = len(np.intersect1d(rows, split.test))
            # The share that was asked for, as far as every fold keeps a row.
            assert tested == min(max(1, round(size * test_size)), size - max(used, 2))
            valid = [len(np.intersect1d(rows, v)) for _, v in split.folds]
            assert min(valid) >= 1
            if used > 1:
                assert max(valid) - min(valid) <= 1
        else:
            for train, _ in split.folds:
                assert set(rows) <= set(train), "a rare class trains in every fold"
            assert any(f"'c{k}'" in note for note in split.notes)


def test_two_classes_shrink_the_folds_rather_than_lose_the_smaller_one() -> None:
    split = make_split(posed(["a"] * 40 + ["b"] * 4), SplitPlan(folds=5))
    assert len(split.folds) == 3
    assert any("3 folds instead of 5" in note for note in split.notes)
    third = make_split(posed(["a"] * 40 + ["b"] * 4 + ["c"] * 3), SplitPlan(folds=5))
    assert len(third.folds) == 3
    assert all(set(range(44, 47)) <= set(train) for train, _ in third.folds), "too few to be in every fold"
    enough = make_split(posed(["a"] * 40 + ["b"] * 6), SplitPlan(folds=5))
    assert (len(enough.folds), enough.notes) == (5, ())


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 200), st.integers(1, 8), st.integers(0, 5))
def test_plain(n: int, folds: int, seed: int) -> None:
    problem = posed(np.random.default_rng(seed).normal(size=n))
    split = make_split(problem, SplitPlan(folds=folds, seed=seed))
    check(problem, split)
    assert len(split.test) == max(1, round(n * 0.2))
    sizes = [len(valid) for _, valid in split.folds]
    assert max(sizes) - min(sizes) <= 1
    if folds > 1:
        assert sum(sizes) == len(split.train)


@settings(max_examples=40, deadline=None)
@given(st.integers(12, 40), st.integers(1, 5), st.integers(0, 5), st.booleans())
def test_groups_stay_together(n_groups: int, folds: int, seed: int, classes: bool) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(n_groups), rng.integers(4, 12, n_groups)))
    y = rng.choice(["a", "b"], len(groups)) if classes else rng.normal(size=len(groups))
    problem = posed(y, groups=groups)
    split = make_split(problem, SplitPlan(folds=folds, seed=seed))
    check(problem, split)
    assert split.kind == "grouped"
    assert not set(groups[split.test]) & set(groups[split.train])
    for train, valid in split.folds:
        assert not set(groups[train]) & set(groups[valid])
        assert len(train) + len(valid) == len(split.train)
    assert 0.1 < len(split.test) / len(groups) < 0.4
    assert len(split.folds) == folds
    sizes = [len(valid) for _, valid in split.folds]
    # To where it unbalances least: no group is larger than 11.
    assert max(sizes) - min(sizes) <= 11 or classes
    if folds == 1:
        assert 0.1 < sizes[0] / len(split.train) < 0.3


def test_groups_leave_every_fold_its_share_of_a_rare_class() -> None:
    """Ten groups have all of it, five rows each; dealt without regard to it, a fold would have none."""
    groups = np.repeat(np.arange(40), 10)
    y = np.where((groups < 10) & (np.arange(400) % 2 == 0), "rare", "usual")
    for seed in range(5):
        problem = posed(y, groups=groups)
        split = make_split(problem, SplitPlan(folds=4, seed=seed))
        rare = [(problem.labels_of(rows) == "rare").sum() for _, rows in split.folds]
        assert (problem.labels_of(split.test) == "rare").sum() == 10
        assert rare == [10, 10, 10, 10]
        assert {len(rows) for _, rows in split.folds} == {80}


@settings(max_examples=40, deadline=None)
@given(st.integers(60, 200), st.integers(1, 6), st.integers(0, 5), st.sampled_from([1, 2, 5]))
def test_time_never_looks_back(n: int, folds: int, seed: int, ties: int) -> None:
    rng = np.random.default_rng(seed)
    times = rng.permutation(n) // ties
    problem = posed(rng.normal(size=n), times=times)
    split = make_split(problem, SplitPlan(folds=folds))
    check(problem, split)
    assert split.kind == "time"
    assert len(split.folds) == folds
    assert times[split.train].max() < times[split.test].min()
    # Rows of one time stay together: on the later side, so that the test is no smaller than asked for.
    assert round(0.2 * n) <= len(split.test) < round(0.2 * n) + ties
    for train, valid in split.folds:
        assert times[train].max() < times[valid].min()
    assert set(split.folds[-1][0]) | set(split.folds[-1][1]) == set(split.train)


def test_a_kind_that_is_said_goes_before_the_columns() -> None:
    y, halves = np.arange(40) / 7, np.arange(40) // 2
    both = posed(y, times=np.arange(40), groups=halves)
    for kind, problem in (
        ("plain", posed(y)), ("plain", both), ("grouped", posed(y, groups=halves)), ("grouped", both),
        ("time", posed(y, times=np.arange(40))), ("time", both), ("stratified", posed(["a", "b"] * 20)),
    ):  # fmt: skip
        assert make_split(problem, SplitPlan(kind=kind)).kind == kind


def test_the_seed_is_all_that_matters() -> None:
    problem = posed(["a", "b"] * 50)
    plans = [SplitPlan(seed=1), SplitPlan(seed=1), SplitPlan(seed=2)]
    first, again, other = (make_split(problem, plan) for plan in plans)
    np.testing.assert_array_equal(first.test, again.test)
    for one, two in zip(first.folds, again.folds, strict=True):
        np.testing.assert_array_equal(one[1], two[1])
    assert not np.array_equal(first.test, other.test)


@pytest.mark.parametrize(
    "problem, plan, words",
    [
        (posed(["a"] * 40 + ["b"] * 2), SplitPlan(), "class 'b' of the target 'y' has 2 rows"),
        (posed(np.arange(20) / 7), SplitPlan(folds=10), "use folds=8"),
        (posed(np.arange(40) / 7), SplitPlan(kind="stratified"), "use split='plain'"),
        (posed(np.arange(40) / 7), SplitPlan(kind="grouped"), "name it with group"),
        (posed(np.arange(40) / 7), SplitPlan(kind="time"), "name it with time"),
        (
            posed(np.arange(40) / 7, groups=np.arange(40) % 3),
            SplitPlan(),
            "3 groups for folds=5; use folds=2",
        ),
        (posed(np.arange(40) / 7, groups=np.arange(40) % 2), SplitPlan(), "bring more data"),
        (posed(np.arange(40) / 7, times=np.arange(40) % 3), SplitPlan(), "the 3 different times"),
        (posed(np.arange(40) / 7, times=np.arange(40) > 20), SplitPlan(folds=1), "the 2 different times"),
        (posed(np.arange(40) / 7, times=np.zeros(40)), SplitPlan(folds=1), "the 1 different times"),
        (
            posed(np.arange(40) / 7, times=np.maximum(np.arange(40), 8)),
            SplitPlan(),
            "the 32 different times",  # the first block would be empty
        ),
        (
            posed(np.arange(40) / 7, times=np.arange(40), groups=np.arange(40) // 2),
            SplitPlan(),
            "both given",
        ),
        (
            posed(["a"] * 20 + ["b"] * 20, times=np.arange(40)),
            SplitPlan(),
            "the test would hold one class only",
        ),
        (posed([0.5] * 30 + [1.5, 2.5] * 5, times=np.arange(40)), SplitPlan(), "training rows of fold 1"),
    ],
)
def test_refusals(problem: Problem, plan: SplitPlan, words: str) -> None:
    with pytest.raises(InputError) as caught:
        make_split(problem, plan)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"kind": "stratifed"}, "did you mean 'stratified'"),
        ({"folds": 0}, "from 1 to 50, got 0"),
        ({"folds": 2.5}, "from 1 to 50, got 2.5"),
        ({"test_size": 0.0}, "above 0 and at most 0.5"),
        ({"test_size": 0.9}, "above 0 and at most 0.5"),
        ({"seed": -1}, "of at least 0, got -1"),
    ],
)
def test_plans_out_of_range(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SplitPlan(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "rows, options, folds",
    [
        (50_000, {}, 1),
        (49_999, {}, 5),
        (50_000, {"folds": 5}, 5),
        (50_000, {"usual": 3}, 1),
        (60_000, {"rare": 999}, 5),
        (60_000, {"rare": 1_000}, 1),
        (50_000, {"groups": 99}, 5),
        (50_000, {"groups": 100}, 1),
        (50_000, {"times": True}, 1),
        (60_000, {"classes": 3, "rare": 666}, 5),
        (60_000, {"classes": 3, "rare": 667}, 1),
        (10_000, {"width": 500}, 1),
        (10_000, {"width": 499}, 5),
        (9_999, {"width": 501}, 5),
        (10_000, {"width": 250, "classes": 2}, 5),
        (10_000, {"width": 50, "classes": 10}, 1),
        (10_000, {"width": 50, "classes": 9}, 5),
        (10_000, {"width": 500, "folds": 5}, 5),
    ],
)
def test_many_rows_are_validated_on_once(rows: int, options: dict[str, Any], folds: int) -> None:
    """Five folds of 400,000 rows took longer than a study of 90 seconds had, and of 16,000 with forty classes
    than one of 45: it ended without a result.
    """
    target = np.arange(rows) / 7
    if "classes" in options:
        target = np.array([f"k{i}" for i in range(options["classes"])])[np.arange(rows) % options["classes"]]
        target[target == "k0"] = np.where(
            np.arange((target == "k0").sum()) < options.get("rare", rows), "k0", "k1"
        )
    elif "rare" in options:
        target = np.where(np.arange(rows) < options["rare"], "a", "b")
    columns: dict[str, Any] = {"width": options.get("width", 1)}
    if "groups" in options:
        columns["groups"] = np.arange(rows) % options["groups"]
    if "times" in options:
        columns["times"] = np.arange(rows)
    plan = {name: options[name] for name in ("folds", "usual") if name in options}
    problem = posed(target, **columns)
    split = make_split(problem, SplitPlan(**plan))
    assert len(split.folds) == folds
    assert any("one validation set in place of" in note for note in split.notes) == (folds == 1)
    assert make_split(problem, SplitPlan(folds=5)).test.tolist() == split.test.tolist()
