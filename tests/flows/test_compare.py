"""``hpo compare`` on journals as they lie in a folder: tables, files, JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows._live import make_console
from flows.cli._compare import _notes, _print, _spread
from hpo_core import Float, Study
from tests.flows.conftest import Hpo, Place
from tests.tracking.studies import Script


@pytest.fixture
def studies(place: Place) -> Path:
    """Sides ``a`` and ``b`` with two studies each, and ``turned``, which goes the other way."""
    home = place.folder / ".hpo" / "studies"
    for name, values in {"a-1": (5, 3), "a-2": (4, 2), "b-1": (5, 1), "b-2": (6, 0.5)}.items():
        script = Script(home / name, name=name)
        for value in values:
            script.run(float(value), steps=2)
        script.stop()
        script.close()
    script = Script(home / "turned", name="turned", objectives={"loss": "max"})
    script.run(1.0)
    script.close()
    return home


def test_sides_are_compared(studies: Path, place: Place, hpo: Hpo) -> None:
    """By name, list or pattern; the curves are in files that need nothing else."""
    said = hpo("compare", "a-1,a-2", "b-*", "--score", "0.75", "--html", "c.html", "--png", "c.png")
    assert said.code == 0, said.err
    assert "Effort to reach loss 3 (the worst of the finals)" in said.out
    assert [line.split()[1:4] for line in said.out.splitlines() if line.startswith("b-*")] == [
        ["2", "2", "0.75"],
        ["2", "of", "2"],
        ["1", "of", "2"],
    ]
    assert "So few studies cannot give less than p = 0.33: no claim." in said.out
    page = (place.folder / "c.html").read_text(encoding="utf-8")
    assert "Best so far against seconds" in page
    assert (place.folder / "c.png").read_bytes().startswith(b"\x89PNG")
    data = json.loads(hpo("compare", "a-1", "b-1", "--json").out)
    assert [side["studies"][0]["best"] for side in data["sides"]] == [3.0, 1.0]
    assert data["sides"][1]["studies"][0]["reached"][0]["trials"] == 2
    assert data["differences"] == []
    assert "no claim" in data["claim"]


def test_no_name_of_a_side_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """A side of four studies was broken within the third's name."""
    side = ",".join(f"lightgbm-{n}" for n in range(4))
    _print(make_console(width=60), "Finals", ["side", "best"], [[side, "0.5 (0.25 to 0.75)"]])
    words = capsys.readouterr().out.replace(",", " ").split()
    assert {f"lightgbm-{n}" for n in range(4)} <= set(words)


@pytest.mark.parametrize(
    "sides, says",
    [
        (("a-1",), "at least two studies, got 1"),
        (("a-1", "a-9"), "there is no study 'a-9'"),
        (("a-1", "c-*"), "matches 'c-*'"),
        (("a-1", "a-1"), "named twice"),
        (("a-1", "a-*"), "named twice"),
        (("a-1,", "b-1"), "commas between them"),
        (("a-1", "turned"), "to be max in study 'turned' and min in 'a-1'"),
        (("a-1", "b-1", "--html", "no/where.html"), "cannot be written"),
        (("a-1", "b-1", "--objective", "acc"), "not 'acc'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    studies: Path, hpo: Hpo, sides: tuple[str, ...], says: str
) -> None:
    """Exit code 2."""
    said = hpo("compare", *sides)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert says in said.err


def test_a_side_is_told_by_its_median_and_its_range() -> None:
    """One bad study of three does not move the middle."""
    assert _spread([2.0, 90.0, 1.0], "{:g}".format) == "2 (1 to 90)"
    assert _spread([3.0], "{:g}".format) == "3"
    assert _spread([], "{:g}".format) == "-"


def test_a_study_that_is_still_open_is_named() -> None:
    """Its numbers are not its last."""
    studies = [Study({"x": Float(0.0, 1.0)}, name=name) for name in ("ended", "open")]
    studies[0].stop()
    assert _notes(studies) == ["Not finished: open."]


def test_results_that_are_not_alike_are_named() -> None:
    """A single run's luck stood beside means of five without a word, and what a bound ruled out beside it."""
    space, settings = {"x": Float(0.0, 1.0)}, {"max_steps": 5}
    bound = {"outcome_constraints": ["ms <= 10"]}
    plain, bounded, best = (
        Study(space, strategy="random", settings=s) for s in ({}, bound, {"rule": "best"})
    )
    mean = Study(space, strategy="random", settings=settings, meta={"step_unit": "repeat"})
    for study in (plain, bounded, best, mean):
        study.stop()
    assert _notes([plain, plain]) == _notes([mean, mean]) == []
    assert [note.partition(":")[0] for note in _notes([plain, bounded])] == [
        "The studies bound outcomes differently"
    ]
    for other in (best, mean):
        (note,) = _notes([plain, other])
        assert "not the same in all studies" in note


def test_steps_that_are_not_alike_are_named() -> None:
    """Thirty folds stood beside eighteen steps of ten rounds each, and were taken for more effort."""
    folds, more, rounds, unsaid = (
        Study({"x": Float(0.0, 1.0)}, name=name, meta={"step_unit": unit} if unit else {})
        for name, unit in (("a", "fold"), ("b", "fold"), ("c", "10 rounds"), ("d", None))
    )
    for study in (folds, more, rounds, unsaid):
        study.stop()
    assert _notes([folds, more, unsaid]) == []
    (note,) = _notes([folds, more, rounds, unsaid])
    assert note.endswith("steps say nothing about effort: fold in a, b; 10 rounds in c.")
