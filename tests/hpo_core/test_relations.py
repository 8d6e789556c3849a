"""Uncertainty of the best, and rank correlations: against their definitions, and in the figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hpo_core import Categorical, Float, Study, plots
from hpo_core.correlation import correlations
from hpo_core.folds import repeats_of, standard_error
from hpo_core.uncertainty import band

SPACE = {
    "x": Float(0.0, 1.0),
    "kind": Categorical(["a", "b", "c"]),
    "inner": Float(0.0, 1.0).when("kind", "a"),
    "flag": Categorical([True, False]),
}


def ran(trials: int, noise: float = 0.0, folds: int = 0, direction: str = "min", **more: Any) -> Study:
    """Random trials of a smooth function; noise of that standard deviation on each result, or fold."""
    study = Study(SPACE, {"loss": direction}, "random", limits={"trials": trials}, **more)
    rng = np.random.default_rng(3)
    for number in range(trials):
        params = study.ask().params
        value = params["x"] + params.get("inner", 0.0) + 0.5 * (params["kind"] == "c")
        results = value + rng.normal(0.0, noise, max(folds, 1))
        for step, result in enumerate(results if folds else (), start=1):
            study.report(number, step, {"loss_fold": result})
        study.execution.finish(number, float(results.mean()))
    return study


def test_folds_give_the_standard_error_of_the_best() -> None:
    """Of each trial asked for; a trial of one fold is as uncertain as the others are."""
    study = ran(12, noise=0.1, folds=5)
    found = band(study, [0, 3])
    assert found is not None
    rows = [study.history.reports.metric_of(n, "loss_fold") for n in (0, 3)]
    assert found.half == pytest.approx([standard_error(row) for row in rows])
    assert found.what == "± standard error over folds"
    study.extend(trials=13)
    study.ask()
    study.report(12, 1, {"loss_fold": 1.0})
    study.execution.finish(12, 1.0)
    stopped = band(study, [0, 3, 12])
    assert stopped is not None
    assert stopped.half == pytest.approx([*found.half, np.median(found.half)])
    alone = band(study, [0, 12, 12])  # of too few of them is anything known
    assert alone is None
    single = Study(SPACE, strategy="random")
    single.ask()
    single.report(0, 1, {"loss_fold": 1.0})
    single.execution.finish(0, 1.0)
    assert band(single, [0]) is None
    assert band(ran(3, folds=3), [1]) is None  # the same on every fold: there is no band to draw


def test_over_seeds_the_standard_error_is_not_corrected() -> None:
    """No two seeds share rows; the legend says what it is over."""
    study = ran(6, noise=0.1, folds=4, settings={"max_steps": 4}, meta={"step_unit": "repeat"})
    found = band(study, [2, 5])
    assert found is not None
    rows = [study.history.reports.metric_of(n, "loss_fold") for n in (2, 5)]
    assert found.half == pytest.approx([stats.sem(row) for row in rows])
    assert found.what == "± standard error over 4 seeds"
    assert found.what in {trace.name for trace in plots.history(study).data}
    folds = ran(6, noise=0.1, folds=4, settings={"max_steps": 4}, meta={"step_unit": "fold"})
    assert (repeats_of(study), repeats_of(folds), repeats_of(ran(1))) == (4, 1, 1)


def test_without_folds_it_is_the_noise_that_was_added() -> None:
    """The model's estimate, within a factor of 1.5 of the truth; a smooth objective has hardly any."""
    found = band(ran(150, noise=0.05), [1, 2])
    assert found is not None
    assert found.what == "± noise of one result (model)"
    assert 0.05 / 1.5 < found.half[0] < 0.05 * 1.5
    smooth = band(ran(150), [1])
    assert smooth is None or smooth.half[0] < 0.01
    assert band(ran(15, noise=0.05), [1]) is None


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_band_is_around_the_line(direction: str) -> None:
    """Its border stays at the same distance above and below, and ends where the line ends."""
    study = ran(40, noise=0.1, folds=3, direction=direction)
    figure = {t.name: t for t in plots.history(study).data}
    line, border = figure["best so far"], figure["± standard error over folds"]
    assert max(border.x) == line.x[-1] == 39
    half = len(border.x) // 2
    lower, upper = np.array(border.y[:half]), np.array(border.y[half:])[::-1]
    middle = (lower + upper) / 2
    assert (upper > lower).all()
    assert middle[-1] == pytest.approx(study.best.values["loss"])
    assert set(np.round(middle, 9)) == set(np.round(np.asarray(line.y, dtype=float), 9))


def columns(study: Study) -> dict[str, Any]:
    """What is correlated, spelt out: numbers, 0 or 1 for a choice, NaN where inactive."""
    rows = [{"loss": t.values["loss"], **t.params} for t in study.trials]
    out = {name: [row.get(name, math.nan) for row in rows] for name in ("loss", "x", "inner")}
    out |= {f"kind = {k}": [float(row["kind"] == k) for row in rows] for k in "abc"}
    out["flag = false"] = [float(not row["flag"]) for row in rows]
    return {name: np.array(values) for name, values in out.items()}


def test_correlations_are_spearmans_pair_by_pair() -> None:
    """Against scipy on the trials in which both are known; choices of one category are not compared."""
    study = ran(60, noise=0.1)
    found, reference = correlations(study), columns(study)
    assert found.names[0] == "loss"
    assert set(found.names) == set(reference)
    for i, a in enumerate(found.names):
        for j, b in enumerate(found.names):
            both = ~np.isnan(reference[a]) & ~np.isnan(reference[b])
            assert found.trials[i, j] == both.sum()
            if a[:4] == b[:4] == "kind":
                assert np.isnan(found.rho[i, j]) or a == b
                continue
            if a == b or {a[:4], b[:4]} == {"kind", "inne"}:
                continue
            expected = stats.spearmanr(reference[a][both], reference[b][both]).statistic
            assert found.rho[i, j] == pytest.approx(expected), (a, b)
    strength = np.abs(found.rho[0, 1:])
    assert (np.diff(strength) <= 1e-12).all()
    assert np.isnan(found.rho[found.names.index("kind = a"), found.names.index("inner")])


def test_larger_values_rank_higher_whatever_is_better() -> None:
    """A score to be maximised that grows with x correlates with it positively."""
    study = ran(60, direction="max")
    found = correlations(study)
    assert found.rho[0, found.names.index("x")] > 0.3


def test_numbers_stand_where_there_is_more_than_chance() -> None:
    """And nowhere else; one half of the matrix is enough."""
    study = ran(60, noise=0.1)
    heat = plots.correlation(study).data[0]
    z, text = np.asarray(heat.z, dtype=float), np.asarray(heat.text)
    assert heat.y[0] != "loss" == heat.x[0]
    trials = np.asarray(heat.customdata)
    strong = np.abs(np.nan_to_num(z)) > 1.96 / np.sqrt(trials - 1)
    assert ((text != "") == strong).all()
    assert np.isnan(z[np.triu_indices_from(z, 1)]).all()


def test_the_best_is_brightest() -> None:
    """In each panel, on the parameters' own axes; ranks count all trials."""
    study = ran(40)
    figure = plots.rank(study, names=["x", "kind", "inner"])
    assert len(figure.data) == 2
    first = figure.data[0]
    brightest = int(np.argmax(first.marker.color))
    assert first.customdata[brightest].tolist() == [study.best.number, 1.0]
    assert first.y[brightest] == pytest.approx(study.best.params["x"])
    assert len(figure.data[1].x) == sum("inner" in t.params for t in study.trials)
