"""Schedules: values at known steps, limits, and spaces that search them."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Float, InputError, Int, SearchSpace, Study, schedules
from hpo_core.schedules import (
    SCHEDULES,
    Cosine,
    Exponential,
    Piecewise,
    Recorded,
    Triangular,
    WarmRestarts,
    built,
    searched,
)


def test_cosine_runs_from_start_to_end() -> None:
    """Exactly at both ends, half way in the middle, flat beyond."""
    schedule = Cosine(start=1.0, end=0.2, steps=101)
    assert schedule(1) == 1.0
    assert schedule(51) == pytest.approx(0.6)
    assert schedule(101) == pytest.approx(0.2)
    assert schedule(500) == pytest.approx(0.2)
    assert Cosine(start=1.0, steps=1)(1) == 1.0


def test_exponential_decays_by_its_factor() -> None:
    """Per step, per ``every`` steps, and down to the end."""
    assert [Exponential(start=8.0, decay=0.5)(s) for s in (1, 2, 3)] == [8.0, 4.0, 2.0]
    assert Exponential(start=8.0, decay=0.5, every=10)(11) == pytest.approx(4.0)
    assert Exponential(start=8.0, decay=0.5, end=3.0)(100) == 3.0


def test_triangular_cycles() -> None:
    """Low, high, low; and half as high in the next cycle where asked for."""
    schedule = Triangular(low=0.0, high=1.0, period=4)
    assert [schedule(s) for s in range(1, 10)] == [0.0, 0.5, 1.0, 0.5, 0.0, 0.5, 1.0, 0.5, 0.0]
    shrinking = Triangular(low=0.0, high=1.0, period=4, shrink=0.5)
    assert [shrinking(s) for s in (3, 7, 11, 15)] == [1.0, 0.5, 0.25, 0.125]


def test_warm_restarts_begin_anew() -> None:
    """Periods 10, 20, 40: back at the start at steps 1, 11, 31, 71; low just before."""
    schedule = WarmRestarts(start=1.0, period=10)
    assert [schedule(s) for s in (1, 11, 31, 71)] == [1.0] * 4
    assert all(schedule(s) < 0.03 for s in (10, 30, 70))
    assert schedule(21) == pytest.approx(0.5)


def test_warm_restarts_of_one_length_need_no_count_of_the_waves_before() -> None:
    """At any step of a long training; ten billion waves are not counted one by one."""
    schedule = WarmRestarts(start=1.0, period=10, growth=1.0)
    later = 10**11
    assert [schedule(later + step) for step in range(1, 21)] == [schedule(step) for step in range(1, 21)]


def test_piecewise_holds_its_values() -> None:
    """A value holds from its start on."""
    schedule = Piecewise(values=[3.0, 2.0, 1.0], starts=[5, 9])
    assert [schedule(s) for s in (1, 4, 5, 8, 9, 99)] == [3.0, 3.0, 2.0, 2.0, 1.0, 1.0]


@given(
    step=st.integers(1, 10_000),
    start=st.floats(0.01, 10),
    end=st.floats(0.0, 0.01),
    period=st.integers(1, 500),
)
def test_values_stay_between_the_ends(step: int, start: float, end: float, period: int) -> None:
    """Whatever the step."""
    for schedule in (
        Cosine(start=start, end=end, steps=period),
        Exponential(start=start, decay=0.9, end=end),
        Triangular(low=end, high=start, period=period),
        WarmRestarts(start=start, end=end, period=period, growth=1.5),
    ):
        value = schedule(step)
        assert schedule(0) == schedule(1), "before the first step"
        assert math.isfinite(value)
        assert end - 1e-9 <= value <= start + 1e-9


def test_what_makes_no_schedule_is_refused() -> None:
    """With the name of the option."""
    for make, word in [
        (lambda: Cosine(start=1.0, steps=0), "steps"),
        (lambda: Exponential(start=1.0, decay=0.0), "decay"),
        (lambda: Triangular(low=0, high=1, period=0), "period"),
        (lambda: WarmRestarts(start=1.0, period=10, growth=0.5), "growth"),
        (lambda: Piecewise(values=[1.0], starts=[3]), "values"),
        (lambda: Piecewise(values=[1.0, 2.0, 3.0], starts=[3, 3]), "ascend"),
        (lambda: Recorded(changes=[(3, {})]), "step 0"),
        (lambda: Recorded(changes=[]), "step 0"),
        (lambda: searched("lr"), "at least one"),
        (lambda: searched("lr", cosin={}), "did you mean 'cosine'"),
        (lambda: searched("lr", cosine={"begin": 1}), "begin"),
        (lambda: searched("lr", cosine={"start": 1.0}), "'steps'"),
        (lambda: searched("lr", cosine=cast(Any, 3)), "takes a dict of its options .*'start'.*, got 3"),
        (lambda: searched("lr", cosine={"start": "high", "steps": 9}), "start must be a number, got 'high'"),
        (lambda: searched("lr", piecewise={"values": 3}), "takes a list for 'values'.* got 3"),
        (lambda: Cosine(start=cast(Any, "high"), steps=9), "cosine: start must be a number, got 'high'"),
        (lambda: WarmRestarts(start=math.nan, period=9), "start must be a finite number, got nan"),
        (lambda: schedules.lineage(cast(Any, None)), "lineage reads a Study, got None"),
        (lambda: built("lr", {"rate.schedule": "cosine"}), "searched"),
    ]:
        with pytest.raises(InputError, match=word):
            make()


def test_kinds_and_options_are_searched() -> None:
    """One kind: its options are parameters. Several: the kind is one, too, and the others' options rest."""
    single = SearchSpace(searched("lr", cosine={"start": Float(0.1, 1.0, log=True), "steps": 50}))
    assert single.column_names == ("lr.cosine.start",)
    schedule = built("lr", single.decode(np.array([1.0])))
    assert schedule == Cosine(start=1.0, steps=50)

    space = searched(
        "lr",
        cosine={"start": Float(0.1, 1.0), "steps": 50},
        triangular={"low": 0.0, "high": Float(0.5, 2.0), "period": Int(2, 20)},
        piecewise={"values": [1.0, 0.5], "starts": [10]},
    )
    study = Study(space, strategy="random", limits={"trials": 30})
    kinds = set()
    for _ in range(30):
        trial = study.ask()
        schedule = built("lr", trial.params)
        kinds.add(type(schedule))
        own = [n for n in trial.params if n != "lr.schedule"]
        assert all(n.startswith(f"lr.{trial.params['lr.schedule']}.") for n in own)
        study.tell(trial, schedule(10))
    assert kinds == {Cosine, Triangular, Piecewise}
    assert set(SCHEDULES.values()) >= kinds


def test_each_element_of_a_list_is_searched() -> None:
    """Values and the steps from which they hold; eleven of them, so that their order is not that of text."""
    rates = [Float(0.1 / 2**i, 0.2 / 2**i, log=True) for i in range(11)]
    starts = [Int(10 * i + 1, 10 * i + 9) for i in range(1, 11)]
    space = SearchSpace(searched("lr", piecewise={"values": [*rates, 0.0], "starts": [*starts, 200]}))
    assert len(space.column_names) == 21
    for u in space.sample(np.random.default_rng(0), 20):
        params = space.decode(u)
        schedule = built("lr", params)
        assert isinstance(schedule, Piecewise)
        assert [rates[i].contains(value) for i, value in enumerate(schedule.values[:-1])] == [True] * 11
        assert schedule(1) == params["lr.piecewise.values.0"]
        assert schedule(params["lr.piecewise.starts.9"]) == params["lr.piecewise.values.10"]
        assert schedule(200) == 0.0
        assert built("lr", dict(sorted(params.items()))) == schedule
    with pytest.raises(InputError, match="takes a list for 'starts'"):
        searched("lr", piecewise={"values": [1.0, 0.1], "starts": Int(2, 9)})
