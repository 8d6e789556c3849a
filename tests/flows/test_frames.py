"""Data frames: kept as files, by their content, for as long as a study needs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows import tune
from flows._frames import kept
from flows._workspace import studies_home
from hpo_core import InputError
from tests.flows.conftest import Hpo, Place


def frame(rows: int = 60) -> pd.DataFrame:
    """Two classes that one of two columns tells apart, a third in words, and an index that means nothing."""
    rng = np.random.default_rng(0)
    y = np.arange(rows) % 2
    return pd.DataFrame(
        {
            "a": y + rng.normal(size=rows),
            "b": rng.normal(size=rows),
            "c": pd.Categorical(["u", "v"])[y],
            "y": y,
        },
        index=rng.permutation(rows),
    )


def files() -> list[Path]:
    """Everything in the folder of kept frames."""
    return sorted((studies_home().parent / "data").glob("*"))


def test_a_frame_is_kept_once_and_read_back_as_it_was(place: Place) -> None:
    with kept(frame()) as first, kept(frame().reset_index(drop=True)) as second:
        assert first == second
    with kept(frame().assign(b=0.0)) as other:
        assert other != first
    assert files() == sorted(map(Path, (first, other)))
    pd.testing.assert_frame_equal(pd.read_parquet(first), frame().reset_index(drop=True))


def test_what_goes_wrong_leaves_only_what_was_there_before(place: Place) -> None:
    with kept(frame()) as old:
        pass
    for data in (frame(), frame().assign(b=0.0)):
        with pytest.raises(RuntimeError), kept(data):
            raise RuntimeError("a term makes no sense")
    assert files() == [Path(old)]


def test_paths_and_names_stay_what_they_are(place: Place) -> None:
    for given, meant in (
        (Path("a/b.csv"), "a/b.csv"),
        ("sklearn:iris", "sklearn:iris"),
        (None, None),
        (3, 3),
    ):
        with kept(given) as source:
            assert source == meant
    assert files() == []


@pytest.mark.parametrize(
    "wrong",
    [frame().assign(b=[object()] * 60), frame().assign(b=[[]] * 60), pd.concat([frame(), frame()], axis=1)],
    ids=["objects", "lists", "names twice"],
)
def test_a_frame_that_no_file_can_hold_is_refused_in_a_line(place: Place, wrong: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="the data frame cannot be written as Parquet") as refused:
        tune("lgbm", data=wrong, target="y", metric="auc", trials=2)
    assert "\n" not in str(refused.value)
    assert files() == []


def test_a_study_of_a_frame_goes_on_by_its_name_and_takes_the_file_along(tracked: Place, hpo: Hpo) -> None:
    """The frame is gone with its process, so whoever resumes the study needs the file."""
    pytest.importorskip("lightgbm")
    said: list[str] = []
    terms = {"target": "y", "metric": "auc", "folds": 2, "workers": 1, "isolation": "thread"}
    result = tune("lgbm", data=frame(), trials=1, tell=said.append, **terms)
    assert (result.state, len(result.study.trials)) == ("finished", 1)
    again = tune("lgbm", data=frame(), trials=1, tell=said.append, **terms)
    assert (again.name, len(again.study.trials)) == (result.name, 1)
    assert hpo("extend", result.name, "--trials", 2).code == 0
    assert len(tracked.study(result.name).trials) == 2
    tune("lgbm", data=frame(), trials=1, name="other", tell=said.append, **terms)
    assert hpo("delete", result.name).code == 0
    assert len(files()) == 1
    assert hpo("delete", "other").code == 0
    assert files() == []
