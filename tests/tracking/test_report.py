"""The report is one page that needs nothing else, for any study."""

from __future__ import annotations

import base64
import gzip
import html.parser
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from hpo_core import Categorical, Float, Segment, Study
from hpo_core.schedules import Recorded, followed
from tests.tracking.fake_mlflow import FakeMlflow
from tests.tracking.studies import Script
from tests.tracking.test_projector import project
from tracking import write_report
from tracking._report import report_html
from tracking._report_plots import _slices, drawn

NASTY = "</script><script>alert(1)</script>"


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text of scripts by id."""

    def __init__(self, text: str) -> None:
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._script = ""
        super().__init__()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id") or "code" if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        self._script = ""

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            self.text += data


def ran(trials: int, **options: Any) -> Study:
    """A study with nasty names and a failure."""
    study = Study(
        {"x": Float(0, 1), "kind": Categorical(["a", NASTY])},
        strategy="random",
        name=f"study {NASTY}",
        limits={"trials": 100},
        **options,
    )
    for number in range(trials):
        trial = study.ask()
        values = {name: trial.params["x"] + i for i, name in enumerate(study.objectives)}
        if number == 3:
            study.tell(trial, state="failed")
        else:
            study.tell(trial, values)
    return study


@pytest.mark.parametrize(
    ("study", "figures"),
    [
        (ran(0), set()),
        (ran(20), {"History", "Parameter importance", "Slices", "Rank", "Rank correlation"}),
        (ran(12, objectives={"loss": "min", "size": "max"}), {"Pareto front", "History of loss"}),
    ],
    ids=["empty", "one objective", "two objectives"],
)
def test_the_page_is_whole_and_alone(study: Study, figures: set[str], tmp_path: Path) -> None:
    """Nothing comes from a network, names are text, figures are JSON, and plotly is on board."""
    files = write_report(study, tmp_path / "report")
    assert files[0].name == "report.html"
    assert all(path.stat().st_size < 5_000_000 for path in files)
    page = Page(files[0].read_text(encoding="utf-8"))
    assert not [tag for tag, attributes in page.tags if {"src", "href"} & attributes.keys()]
    assert "alert(1)" not in page.scripts["code"]
    assert f"study {NASTY}" in page.text
    shown = {attributes["aria-label"] for tag, attributes in page.tags if tag == "figure"}
    assert figures <= shown
    drawn = [key for _, attributes in page.tags if (key := attributes.get("data-figure"))]
    assert len(drawn) == len(shown)
    assert all(json.loads(page.scripts[key])["data"] for key in drawn)
    library = gzip.decompress(base64.b64decode(page.scripts["plotly"])).decode()
    assert re.match(r"/\*\*\s+\* plotly", library)
    pictures = {path.name for path in files[1:]}
    drawn_too = {"history.png", "importance.png", "slices.png", "correlation.png"}
    drawn_too |= {"pareto.png"} if len(study.objectives) > 1 else set()
    assert pictures == (drawn_too if study.trials else set())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files[1:])


def test_the_report_goes_to_the_studys_run(tmp_path: Path) -> None:
    """Whatever lies in the folder for the study does, when the driver leaves."""
    script = Script(tmp_path)
    script.run(0.5)
    script.stop()
    folder = tmp_path / "artifacts" / "study"
    write_report(script.study, folder)
    script.close()
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    parent = next(run for run in mlflow.stored.values() if run.name == "toy")
    assert (parent.run_id, str(folder)) in mlflow.artifacts
    assert not folder.exists()


def test_the_schedule_that_the_winner_followed_is_beside_the_report(tmp_path: Path) -> None:
    """It was there for who knew the function that reads it off the study, where that is."""
    study = Study(
        {"x": Float(0, 1)}, objectives={"loss": "min"}, strategy="pbt", settings={"max_steps": 12}, seed=1
    )
    learned: dict[int | None, float] = {None: 9.0}
    while isinstance(segment := study.execution.next(), Segment):
        trial, step = segment.trial, segment.target or 12
        study.execution.started(segment)
        before = learned.get(trial, learned[segment.parent])
        learned[trial] = before - (step - segment.from_step) * segment.params["x"]
        study.report(trial, step, {"loss": learned[trial]})
        study.execution.checkpointed(trial, step, f"c{trial}-{step}")
        if step >= 12:
            study.execution.finish(trial, learned[trial])
        else:
            study.execution.paused(trial)
    assert study.best.parent is not None
    files = write_report(study, tmp_path)
    (schedule,) = [path for path in files if path.name == "schedule.json"]
    assert Recorded.from_json(json.loads(schedule.read_text())) == followed(study)
    # A better trial that is no fork leaves no schedule of the one before in MLflow.
    study.extend(trials=99)
    newest = study.execution.next()
    assert isinstance(newest, Segment)
    assert newest.parent is None
    study.execution.started(newest)
    study.execution.finish(newest.trial, -1e9)
    write_report(study, tmp_path)
    said = json.loads(schedule.read_text())
    assert (said["trial"], len(said["changes"])) == (newest.trial, 1)
    assert not [path for path in write_report(ran(5), tmp_path / "other") if path.suffix == ".json"]


@pytest.mark.slow
def test_a_large_study_has_a_small_report(tmp_path: Path) -> None:
    """10,000 trials stay below 5 MB, nothing is loaded from anywhere, and the best trial is in it."""
    study = Study(
        {"x": Float(0, 1), "rate": Float(1e-4, 1, log=True)},
        strategy="random",
        name="large",
        limits={"trials": 10_000},
    )
    for number in range(10_000):
        trial = study.ask(now=float(number))
        study.tell(trial, trial.params["x"] + trial.params["rate"], now=number + 0.9)
    page, *pictures = write_report(study, tmp_path)
    assert page.stat().st_size < 5_000_000
    assert all(picture.stat().st_size < 1_000_000 for picture in pictures)
    text = page.read_text(encoding="utf-8")
    outside = text.partition('id="plotly"')[0]
    assert not re.search(r"https?://|<link|\ssrc=", outside)
    history = json.loads(Page(text).scripts["f0"])
    best = next(trace for trace in history["data"] if trace["name"] == "best so far")
    assert study.best.number in numbers(best["x"])


def numbers(column: Any) -> list[float]:
    """A column of a figure as plotly writes it: a list, or packed."""
    if isinstance(column, list):
        return column
    import numpy as np

    return np.frombuffer(base64.b64decode(column["bdata"]), dtype=column["dtype"]).tolist()


def test_a_figure_that_breaks_is_told_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are there all the same."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no colours left")

    monkeypatch.setattr("hpo_core.plots.slices", broken)
    text = write_report(ran(20), tmp_path)[0].read_text(encoding="utf-8")
    assert "could not be drawn" in text
    assert "no colours left" in text
    assert 'aria-label="History"' in text


def test_the_report_of_repeats_says_the_spread_and_what_fresh_seeds_said(tmp_path: Path) -> None:
    """Beside each result and over what; the verdict in both studies, the names being text."""
    script = Script(tmp_path / "mine", name="mine", repeats=3)
    for values in ([1.0, 2.0, 3.0], [4.0, 4.5, 5.0], [2.0, 2.25, 2.5]):
        script.repeat(values)
    script.repeat([9.0], state="pruned")
    again = Script(tmp_path / "again", name=NASTY, repeats=2, confirms=script)
    again.repeat([1.5, 2.5])
    before, begun = Page(report_html(script.study)), Page(report_html(again.study))
    assert "Verdict" not in before.text + begun.text
    assert "the best trials of study mine" in begun.text
    script.confirmed(again, "the winner, trial 0, holds")
    text = report_html(script.study)
    page, other = Page(text), Page(report_html(again.study))
    assert f"Verdict of {NASTY}: the winner, trial 0, holds." in page.text
    assert "Verdict on the trials of mine: the winner, trial 0, holds." in other.text
    assert "3 for each configuration; results are mean ± standard deviation over them" in page.text
    assert "loss = 2 ± 1" in page.text
    for cell in ("2 ± 1", "4.5 ± 0.5", "2.25 ± 0.25"):
        assert f">{cell}<" in text
    assert "the standard error over its 3 seeds" in page.text
    legends = {trace.get("name") for trace in json.loads(page.scripts["f0"])["data"]}
    assert "± standard error over 3 seeds" in legends
    assert "±" not in Page(report_html(ran(3))).text


def test_of_several_objectives_the_front_is_listed_by_the_first(tmp_path: Path) -> None:
    """The page had it by number, the screen and the flow run's summary by the first objective."""
    study = Study({"x": Float(0, 1)}, objectives={"loss": "min", "gain": "max"}, strategy="random")
    for loss in (3.0, 1.0, 2.0):
        study.tell(study.ask(), {"loss": loss, "gain": loss})
    page = report_html(study)
    table = page[page.index("Trials on the Pareto front") :]
    assert re.findall(r'<th scope="row">(\d+)</th>', table)[:3] == ["1", "2", "0"]


def test_names_of_choices_do_not_lie_upon_one_another_in_the_picture(tmp_path: Path) -> None:
    """Forty of them, and six that are long; nor upon the panel below them."""
    cities = [f"a city that is called {i}" for i in range(40)]
    kinds = [f"https://models.example.org/resnet-{i}/weights" for i in range(6)]
    study = Study({"city": Categorical(cities), "kind": Categorical(kinds)}, strategy="random")
    for i in range(12):
        study.tell(study.ask(), float(i))
    kept: list[Any] = []

    def draw(axes: list[Any]) -> None:
        kept.extend(axes)
        _slices(study, ["city", "kind"] * 2, axes)

    drawn(tmp_path / "slices.png", (9.0, 6.4), 4, draw)
    for ax in kept:
        boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
        assert len(boxes) >= 6
        assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(boxes))
        assert ax.xaxis.label.get_window_extent().y1 <= min(box.y0 for box in boxes)
    assert kept[0].xaxis.label.get_window_extent().y0 >= kept[3].get_window_extent().y1


@pytest.mark.parametrize("signs", [[1], [-1], [1, -1]])
@pytest.mark.parametrize("objectives", [{"loss": "min"}, {"loss": "min", "size": "max"}])
def test_the_largest_numbers_have_a_report(
    signs: list[int], objectives: dict[str, str], tmp_path: Path
) -> None:
    """Objectives return them where they diverge: pictures had no room for a margin, and ended the report."""
    most = sys.float_info.max
    study = Study({"x": Float(0, 1)}, objectives, strategy="random")
    for value in [*(sign * most for sign in signs), 0.5, 0.25, 0.75]:
        study.tell(study.ask(), dict.fromkeys(objectives, value))
    page, *pictures = write_report(study, tmp_path)
    assert 'class="trouble">It could not' not in page.read_text(encoding="utf-8")
    assert {"history.png", "slices.png"} <= {picture.name for picture in pictures}


def test_a_study_without_a_complete_trial_does_not_promise_one(tmp_path: Path) -> None:
    """One that had ended said that no trial was complete *yet*."""
    study = Study({"x": Float(0, 1)}, strategy="random", limits={"trials": 1})
    study.tell(study.ask(), state="failed")
    assert "<p>No trial is complete.</p>" in report_html(study)
