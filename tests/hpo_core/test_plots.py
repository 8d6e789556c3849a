"""Figures hold the right data: what is best stays, scales are the space's own, nothing is merged."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Categorical, Float, InputError, Int, SearchSpace, Segment, Study, TrialState, plots
from hpo_core.plots.inner import labels
from hpo_core.schedules import followed
from hpo_core.simulate import Curves, simulate

TWENTY = {"workers": 4, "max_steps": 20}
LONG = "a_category_with_a_long_name_that_is_cut_in_the_middle_of_it_"


def tried(trials: int, objectives: dict[str, str] | None = None, **options: Any) -> Study:
    """A study of random trials, every tenth of which fails."""
    space = {
        "rate": Float(1e-5, 1e-1, log=True),
        "kind": Categorical([f"{LONG[:30]}{i}{LONG[30:]}" for i in range(3)]),
        "inner": Float(0, 1).when("kind", f"{LONG[:30]}0{LONG[30:]}"),
    }
    study = Study(space, objectives, "random", limits={"trials": trials}, **options)
    for number in range(trials):
        trial = study.ask(now=10.0 * number + 1)
        value = abs(np.log10(trial.params["rate"]) + 3) + trial.params.get("inner", 0.5)
        if number % 10 == 7:
            study.tell(trial, state="failed", now=10.0 * number + 6)
        else:
            told = {name: value if i % 2 == 0 else -value for i, name in enumerate(study.objectives)}
            study.tell(trial, told, now=10.0 * number + 6)
    return study


def traces(figure: Any) -> dict[str, Any]:
    """Traces by name."""
    return {trace.name: trace for trace in figure.data}


@pytest.fixture(scope="module")
def study() -> Study:
    """A small one."""
    return tried(60)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_best_so_far_only_improves(direction: str) -> None:
    """Its last value is the study's best, and it reaches the last trial."""
    study = tried(40, {"score": direction})
    line = traces(plots.history(study))["best so far"]
    steps = np.diff(np.asarray(line.y, dtype=float))
    assert (steps <= 0).all() if direction == "min" else (steps >= 0).all()
    assert line.y[-1] == study.best.values["score"]
    assert line.x[-1] == 39


def test_thinning_keeps_what_is_best() -> None:
    """Of 3,000 trials 2,500 are drawn, and every record is among them."""
    study = tried(3000)
    found = traces(plots.history(study))
    dots = next(trace for name, trace in found.items() if name.startswith("complete"))
    assert len(dots.x) <= 2500 < study.history.count(TrialState.COMPLETE)
    assert set(found["best so far"].x[:-1]) <= set(dots.x)


def test_the_axis_of_a_single_value_is_not_upside_down() -> None:
    """Plotly had the lower number on top, where all values are the same one below zero."""
    for value in (-0.017, 0.0, 3.0):
        made = Study({"x": Float(0.0, 1.0)}, objectives={"acc": "max"}, strategy="random", seed=0)
        made.tell(made.ask(), value)
        low, high = plots.parallel_coordinates(made).data[0].dimensions[-1].range
        assert low < value < high


def test_parallel_coordinates_label_real_values(study: Study) -> None:
    """The log axis has decades at even places; each category has a place and a name; so has inactive."""
    rate, kind, inner, last = plots.parallel_coordinates(study).data[0].dimensions
    assert list(rate.ticktext) == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]
    assert list(rate.tickvals) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert len(set(kind.ticktext)) == len(set(kind.tickvals)) == 3
    assert set(np.round(kind.values, 6)) <= set(np.round(kind.tickvals, 6))
    assert inner.ticktext[0] == "inactive"
    missing = sum("inner" not in t.params for t in study.trials if t.state is TrialState.COMPLETE)
    assert (np.asarray(inner.values) == inner.tickvals[0]).sum() == missing
    assert last.label == "loss"


@pytest.mark.parametrize(
    "parameter",
    [
        Int(1, 20),
        Int(3, 13),
        Int(1, 1000, log=True),
        Int(10, 400, step=10),
        Float(0.0, 1.0, step=0.05),
        Float(-1e308, 1e308),
    ],
)
def test_ticks_of_parallel_coordinates_are_where_trials_of_that_value_are(parameter: Any) -> None:
    """Those of whole numbers and steps were up to half a cell off: 1 on a log scale lay a tenth higher."""
    made = Study({"x": parameter}, strategy="random", seed=0)
    made.tell(made.ask(), 1.0)
    axis = plots.parallel_coordinates(made).data[0].dimensions[0]
    shown = {float(text): place for text, place in zip(axis.ticktext, axis.tickvals, strict=True)}
    tried = {value: place for value, place in shown.items() if parameter.contains(value)}
    assert len(tried) >= 4
    assert list(tried.values()) == pytest.approx([parameter.encode(value) for value in tried], abs=1e-9)
    # What no trial can have lies between its neighbours.
    assert sorted(shown.values()) == [shown[value] for value in sorted(shown)]


def test_long_labels_of_the_first_axis_have_room() -> None:
    """There is no axis left of them to stand over; they were cut off."""
    made = Study({"kind": Categorical(["short", "a choice with a very long name"]), "x": Float(0.0, 1.0)})
    for _ in range(4):
        trial = made.ask()
        made.tell(trial, trial.params["x"])
    wide = plots.parallel_coordinates(made, names=["kind", "x"])
    longest = max(map(len, wide.data[0].dimensions[0].ticktext))
    assert wide.layout.margin.l > 6 * longest
    assert plots.parallel_coordinates(made, names=["x", "kind"]).layout.margin.l == 90


@given(
    st.lists(st.text("ab/-é", min_size=1, max_size=40), min_size=1, max_size=8, unique=True),
    st.integers(6, 30),
)
def test_labels_tell_choices_apart_and_are_short(names: list[str], longest: int) -> None:
    """Short ones stay whole."""
    found = labels(names, longest)
    assert len(set(found)) == len(found)
    assert all(len(label) <= longest + len(" #8") for label in found)
    assert all(label == name for name, label in zip(names, found, strict=True) if len(name) <= longest)


def test_what_all_choices_share_is_left_out_of_their_labels_first() -> None:
    """Of addresses that differed in one letter all labels were the same but for a number."""
    names = [f"https://models.example.org/resnet-{size}-pretrained/weights.bin" for size in (8, 18, 101)]
    assert labels(names, 16) == ["…esnet-8-pretra…", "…esnet-18-pretr…", "…snet-101-pretr…"]
    assert labels(["https://example.org/resnet-8", "https://example.org/resnet-18"], 12) == [
        "…rg/resnet-8",
        "…g/resnet-18",
    ]
    assert labels(["a" * 20 + "x" * 30 + "b", "a" * 20 + "y" * 30 + "b"], 11) == ["…xxxx…xxx…", "…yyyy…yyy…"]


def crowded() -> Study:
    """Forty choices; the objective is a choice's place."""
    cities = [f"a city that is called {i:02d}" for i in range(40)]
    study = Study({"city": Categorical(cities), "x": Float(0.0, 1.0)}, strategy="random")
    for i in range(120):
        study.enqueue({"city": cities[i % 40], "x": i / 120})
        study.tell(study.ask(), float(i % 40))
    return study


def test_a_contour_of_many_choices_has_each_in_its_place() -> None:
    """Of forty it drew twenty-eight, the last of them where the twenty-eighth choice belongs."""
    figure = plots.contour(crowded(), names=["x", "city"])
    surface = figure.data[0]
    assert np.asarray(surface.y).tolist() == list(range(40))
    expected = np.asarray(surface.z).mean(axis=1)
    assert np.corrcoef(expected, np.arange(40))[0, 1] > 0.7


def test_axes_name_as_many_choices_as_there_is_room_for() -> None:
    """Forty names lay upon one another, and upon the title below them; a point still says which it is."""
    study = crowded()
    sliced = plots.slices(study, names=["city"])
    assert len(sliced.layout.xaxis.ticktext) <= 20
    assert [text[-2:] for text in sliced.layout.xaxis.ticktext] == [f"{i:02d}" for i in range(0, 40, 2)]
    assert sliced.layout.xaxis.tickangle == -90
    assert sliced.layout.margin.b > 6 * max(map(len, sliced.layout.xaxis.ticktext))
    numbers, said = np.asarray(sliced.data[0].customdata).tolist(), sliced.data[0].text
    assert [study.trials[n].params["city"] for n in numbers] == list(said)
    axis = plots.parallel_coordinates(study).data[0].dimensions[0]
    assert len(axis.ticktext) == len(axis.tickvals) <= 20
    assert len(plots.contour(study, names=["x", "city"]).layout.yaxis.ticktext) <= 20


@pytest.mark.parametrize("sign", [-3.0, 3.0])
def test_a_contour_over_a_condition_is_fair_to_the_choice_that_has_more_parameters(sign: float) -> None:
    """Both choices are as good on average, however what only one of them has goes."""
    made = Study(
        {"x": Float(0, 1), "kind": Categorical(["a", "b"]), "extra": Float(0, 1).when("kind", "b")},
        {"loss": "min"},
        "random",
    )
    for trial in (made.ask() for _ in range(200)):
        params = trial.params
        made.tell(trial, params["x"] + sign * (params.get("extra", 0.5) - 0.5))
    a, b = plots.contour(made, names=["x", "kind"]).data[0].z.mean(axis=1)
    assert (a, b) == pytest.approx((0.5, 0.5), abs=0.3)


def test_trials_that_an_edit_has_taken_out_of_the_space_are_not_drawn_in_it() -> None:
    """They were lines through "inactive" on every axis, the best ones bright."""
    made = Study({"x": Float(0, 1), "y": Float(0, 1)}, {"loss": "min"}, "random")
    for trial in (made.ask() for _ in range(20)):
        made.tell(trial, trial.params["x"])
    made.change_space(SearchSpace({"x": Float(0.5, 1), "y": Float(0, 1)}))
    there = sorted(trial.params["x"] for trial in made.trials if trial.params["x"] >= 0.5)
    x, y, loss = plots.parallel_coordinates(made).data[0].dimensions
    assert sorted(loss.values) == there
    assert "inactive" not in (*x.ticktext, *y.ticktext)
    ranks = sorted(rank for _, rank in plots.rank(made).data[0].customdata)
    assert ranks == pytest.approx(range(1, len(there) + 1))
    made.change_space(SearchSpace({"x": Float(2, 3), "y": Float(0, 1)}))
    with pytest.raises(InputError, match="no complete trial in its space as it was edited"):
        plots.slices(made)


def test_a_contour_is_of_values_where_no_pruned_trial_is_in_the_space_any_more() -> None:
    """Values to be maximised were shown as ranks, with their signs turned."""
    space = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}
    made = Study(space, {"score": "max"}, "random", seed=0, settings={"max_steps": 2})
    for _ in range(20):
        trial = made.ask()
        score = 10.0 + trial.params["x"] + trial.params["y"]
        made.report(trial, 1, {"score": score})
        made.tell(trial, score, state="pruned" if trial.params["x"] > 0.7 else "complete")
    assert plots.contour(made, names=["x", "y"]).data[0].colorbar.title.text == "rank"
    made.change_space(SearchSpace({**space, "x": Float(0.0, 0.7)}))
    field = plots.contour(made, names=["x", "y"]).data[0]
    assert field.colorbar.title.text == "score"
    assert np.asarray(field.z).min() > 10.0


def test_slices_use_the_spaces_scale(study: Study) -> None:
    """The parameter that is searched on a log scale has a log axis with its own values."""
    figure = plots.slices(study, names=["rate", "kind"])
    assert figure.layout.xaxis.type == "log"
    assert len(set(figure.layout.xaxis2.ticktext)) == 3
    shown = traces(figure)["rate"]
    by_number = {t.number: t.params["rate"] for t in study.trials}
    assert np.asarray(shown.x) == pytest.approx([by_number[int(n)] for n in shown.customdata])


def test_the_contour_is_about_the_two_that_were_named(study: Study) -> None:
    """A surface on the axes' own scales, low where the function is."""
    figure = plots.contour(study, names=["rate", "inner"])
    surface = figure.data[0]
    assert figure.layout.xaxis.type == "log"
    z = np.asarray(surface.z)
    assert z.shape == (len(surface.y), len(surface.x))
    best = surface.x[int(z.mean(axis=0).argmin())]
    assert 1e-4 < best < 1e-2


def test_pairs_are_of_parameters_that_vary_together(study: Study) -> None:
    """Not of a conditional one and what it depends on, which has one value wherever the other is active."""
    names = ["kind", "inner", "rate"]
    contour = plots.contour(study, names=names)
    assert (contour.layout.xaxis.title.text, contour.layout.yaxis.title.text) == ("kind", "rate")
    figure = plots.rank(study, names=names)
    shown = [
        (figure.layout[f"xaxis{i}"].title.text, figure.layout[f"yaxis{i}"].title.text) for i in ("", "2")
    ]
    # Names of choices stand below.
    assert shown == [("kind", "rate"), ("inner", "rate")]
    assert "xaxis3" not in figure.layout
    with pytest.raises(InputError, match="vary together"):
        plots.rank(study, names=["kind", "inner"])


def test_importance_shows_intervals(study: Study) -> None:
    """Whiskers are no negative lengths, and the rate matters most, which is drawn on top."""
    bars = traces(plots.importance(study))["over the whole space"]
    assert bars.y[-1] == "rate"
    assert (np.asarray(bars.error_x.array) >= 0).all()
    assert (np.asarray(bars.error_x.arrayminus) >= 0).all()


def test_the_front_is_the_studys() -> None:
    """Two objectives: the front's trials, all of them."""
    study = tried(50, {"loss": "min", "size": "min"})
    front = traces(plots.pareto(study))["Pareto front"]
    assert set(front.customdata) == {t.number for t in study.pareto_front}


def test_workers_are_as_busy_as_they_were(study: Study) -> None:
    """Five of every ten seconds, and one failure in ten."""
    figure = plots.timeline(study)
    assert "50%" in figure.layout.title.text
    assert len(traces(figure)["failed"].x) == 6
    assert sum(plots.failures(study).data[0].x) == 6


def test_workers_are_no_busier_than_they_can_be() -> None:
    """Without the journal's events a paused trial looks busy, and "Workers: 517% of 3 busy" was said."""
    settings = {"max_steps": 9, "workers": 3}
    study = Study({"x": Float(0, 1)}, strategy="asha", seed=1, settings=settings, limits={"trials": 30})
    curves = Curves(lambda params, step: params["x"], seconds=2.0)
    made = simulate(study, curves, workers=3, steps=9)
    assert f"{made.utilisation():.0%} of 3 busy" in plots.timeline(study).layout.title.text


def test_nights_without_a_driver_are_nobodys_time() -> None:
    study = Study({"x": Float(0, 1)}, strategy="random", seed=1, now=1.0)
    study.tell(study.ask(now=1.0), 0.5, now=101.0)
    study.execution.take_over("in the morning", now=30_000.0)
    study.tell(study.ask(now=30_000.0), 0.5, now=30_100.0)
    assert "100% of 1 busy" in plots.timeline(study).layout.title.text


def test_of_too_many_segments_the_longer_ones_are_drawn_and_some_of_all_of_the_time() -> None:
    """Of 4,000 equal ones the first 1,500 were drawn, and most of the time looked idle."""
    study = Study({"x": Float(0, 1)}, strategy="random")
    for i in range(4000):
        now = 10.0 * i
        trial = study.ask(now=now)
        study.tell(trial, 0.5, now=now + (300.0 if i % 100 == 7 else 5.0))
    bars = traces(plots.timeline(study))["complete"]
    assert len(bars.x) == 1500
    hours = np.asarray(bars.base)
    assert sum(np.asarray(bars.x) > 0.08) == 40
    assert np.histogram(hours, 10, (0, 40_000 / 3600))[0].min() > 120


def test_the_winners_schedule_is_what_it_was_trained_with(study: Study) -> None:
    """Each changed hyperparameter at each step, on its own scale; nothing is drawn where nothing changed."""
    space = {"rate": Float(1e-4, 1.0, log=True), "kind": Categorical(["a", "b", "c"]), "fixed": Float(0, 1)}
    forked = Study(space, strategy={"scheduler": {"name": "pbt", "interval": 5}}, seed=2, settings=TWENTY)
    cost: dict[tuple[int, int], float] = {}
    while isinstance(segment := forked.execution.next(), Segment):
        forked.execution.started(segment)
        step, whose = segment.target or 20, segment.trial
        if segment.parent is not None and segment.from_step == forked.trials[whose].start_step:
            whose = segment.parent
        # Large rates are good at first and small ones later, so the best changes on the way.
        wanted = -1 if step <= 10 else -3
        loss = cost.get((whose, segment.from_step), 0.0) + abs(np.log10(segment.params["rate"]) - wanted)
        cost[segment.trial, step] = loss
        forked.report(segment.trial, step, {"loss": loss})
        forked.execution.checkpointed(segment.trial, step, "there")
        if step < 20:
            forked.execution.paused(segment.trial)
        else:
            forked.execution.finish(segment.trial, loss)
    recorded = followed(forked)
    assert len(recorded.changes) > 1
    drawn = traces(plots.schedule(forked))
    assert "rate" in drawn
    for name, line in drawn.items():
        assert line.line.shape == "hv"
        assert (line.x[0], line.x[-1]) == (0, 20)
        for step in range(1, 21):
            at = max(i for i, start in enumerate(line.x[:-1]) if start < step)
            value = recorded(step)[name]
            assert line.y[at] == (["a", "b", "c"].index(value) if name == "kind" else value)
    unchanged = set(space) - set(drawn)
    assert all(len({str(recorded(step)[n]) for step in range(1, 21)}) == 1 for n in unchanged)
    assert plots.schedule(forked).layout.yaxis.type == "log"
    with pytest.raises(InputError, match="no hyperparameter that changed"):
        plots.schedule(study)


def test_curves_and_rungs_follow_reports() -> None:
    """A trial that was pruned at step 2 ends there; reports of other metrics leave no gaps."""
    study = Study({"x": Float(0, 1)}, strategy="random")
    for number in range(4):
        study.ask()
        last = 2 if number == 3 else 4
        for step in range(1, last + 1):
            study.report(number, step, number + 1 / step)
        study.report(number, last + 1, {"seconds": 1.0})
        study.execution.finish(number, None, state="pruned" if number == 3 else "complete")
    found = traces(plots.curves(study))
    assert np.nanmax(np.asarray(found["pruned"].x, dtype=float)) == 2
    assert np.asarray(found["best, trial 0"].y)[:-1] == pytest.approx([1 / s for s in range(1, 5)])
    bars = plots.rungs(study).data[0]
    assert dict(zip(bars.x, bars.y, strict=True)) == {"3": 4, "5": 3}


def test_figures_are_json(study: Study) -> None:
    """Each one can be written to a page."""
    for figure in (plots.history(study), plots.slices(study), plots.parallel_coordinates(study)):
        assert json.loads(figure.to_json())["data"]


def test_what_is_not_there_is_said() -> None:
    """An empty study names itself and what it lacks."""
    study = Study({"x": Float(0, 1)}, strategy="random", name="bare")
    for draw in (getattr(plots, name) for name in plots.__all__ if name != "compare"):
        with pytest.raises(InputError, match="bare"):
            draw(study)


@pytest.mark.parametrize("name", sorted(set(plots.__all__) - {"compare"}))
def test_figures_say_what_they_are_drawn_of(name: str) -> None:
    """A bare AttributeError about ``history`` came, of a result that had the study in it too."""

    class Result:
        study = Study({"x": Float(0.0, 1.0)})

    with pytest.raises(InputError, match=f"plots.{name} draws a Study, got None"):
        getattr(plots, name)(None)
    with pytest.raises(InputError, match=r"give its \.study"):
        getattr(plots, name)(Result())


@pytest.mark.parametrize("draw", [plots.parallel_coordinates, plots.slices, plots.rank, plots.contour])
@pytest.mark.parametrize(("names", "message"), [(["y", "k"], "no parameter 'y'"), ("x", "must be a list")])
def test_parameters_that_a_study_does_not_have_are_named(draw: Any, names: Any, message: str) -> None:
    study = Study({"x": Float(0.0, 1.0), "k": Int(1, 9)}, strategy="random")
    for i in range(12):
        study.tell(study.ask(), float(i))
    with pytest.raises(InputError, match=message):
        draw(study, names=names)
