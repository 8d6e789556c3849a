"""Data frames: kept as files, by their content, for as long as a study needs them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows import tune
from flows._frames import forget_frame, kept
from flows._workspace import studies_home, study_folder
from hpo_core import InputError, Journal, Study
from hpo_core._journal import JOURNAL
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


class Elsewhere:
    """As another library's frame."""

    def to_parquet(self, path: Any, **_: Any) -> None:
        raise AssertionError("written in its own way")

    def to_pandas(self) -> pd.DataFrame:
        return frame()


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
    [
        frame().assign(b=[object()] * 60),
        frame().assign(b=[[]] * 60),
        frame().assign(b=1j),
        frame().assign(b=pd.cut(frame().a, 3)),
        frame().assign(b=["text", 1] * 30),
    ],
    ids=["objects", "lists", "complex", "intervals", "kinds mixed"],
)
def test_a_frame_that_no_file_can_hold_is_refused_in_a_line_that_names_the_column(
    place: Place, wrong: pd.DataFrame
) -> None:
    with pytest.raises(InputError, match="cannot be written as Parquet, for its column 'b'") as refused:
        tune("lgbm", data=wrong, target="y", metric="auc", trials=2)
    assert "\n" not in str(refused.value)
    assert files() == []


@pytest.mark.parametrize("names", [["a", "a", "b", "y"], ["1", 1, "b", "y"]], ids=["same", "same as text"])
def test_names_that_a_file_cannot_tell_apart_are_refused(place: Place, names: list[Any]) -> None:
    with pytest.raises(InputError, match=f"several columns named '{names[1]}' as text"):
        tune("lgbm", data=frame().set_axis(names, axis=1), target="y", metric="auc", trials=2)


@pytest.mark.parametrize("other", [frame()["a"], frame().to_numpy(), frame().to_dict(), Elsewhere()])
def test_what_is_no_frame_of_pandas_is_refused_in_a_line(place: Place, other: Any) -> None:
    with pytest.raises(InputError, match="a DataFrame of pandas; got <class") as refused:
        tune("lgbm", data=other, target="y", metric="auc", trials=2)
    assert "\n" not in str(refused.value)
    assert (".to_pandas()" in str(refused.value)) == isinstance(other, Elsewhere)


def test_mistakes_are_told_of_the_frame_and_not_of_its_file(place: Place) -> None:
    with pytest.raises(InputError, match=r"^the data frame has no column 'z'"):
        tune("lgbm", data=frame(), target="z", metric="auc", trials=2)


def made_of(data: str, name: str) -> Study:
    """A study of the data, without a trial."""
    with Journal(study_folder(name) / JOURNAL) as journal:
        return Study({}, name=name, meta={"request": {"data": data}}, journal=journal)


def test_a_file_goes_with_the_last_study_whose_first_line_names_it(place: Place) -> None:
    """Journals of thousands of trials are not read for it, and what is broken further on is no hindrance."""
    with kept(frame()) as path:
        mine, other = made_of(path, "mine"), made_of(path, "other")
    for of_another_file in ("elsewhere.csv", path.replace("frame-", "frame-0")):
        made_of(of_another_file, f"of {Path(of_another_file).stem}")
    for broken in studies_home().glob(f"*/{JOURNAL}"):
        broken.write_bytes(broken.read_bytes() + b"no event\n")
    forget_frame(mine)
    assert files() == [Path(path)]
    shutil.rmtree(study_folder("other"))
    begun = study_folder("mine") / JOURNAL
    whole = begun.read_bytes()
    begun.write_bytes(b"")  # a study that is just being made may be one of the frame
    forget_frame(other)
    assert files() == [Path(path)]
    begun.write_bytes(whole)
    forget_frame(mine)
    assert files() == []


def test_a_frame_is_left_as_it_is_and_what_hangs_on_it_does_not_matter(place: Place) -> None:
    given = frame().rename(columns={"a": 0})
    given.attrs["from"] = object()
    with kept(given) as path:
        pass
    assert list(given.columns) == [0, "b", "c", "y"]
    assert list(given.attrs) == ["from"]
    assert list(pd.read_parquet(path).columns) == ["0", "b", "c", "y"]


def test_columns_have_any_names_and_a_study_of_a_frame_moves_with_its_folder(
    tracked: Place, hpo: Hpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightgbm")
    numbered = frame().set_axis([0, 1, 2, 3], axis=1)
    result = tune("lgbm", data=numbered, target=3, name="moves", tell=lambda line: None, **terms())
    with pytest.raises(InputError, match="'moves'"):
        tune("lgbm", data=frame(), target="y", name="moves", **terms())
    assert [str(f) for f in files()] == [result.study.created.meta["request"]["data"]]
    studies_home().parent.rename(tracked.folder / "moved")
    monkeypatch.setenv("HPO_HOME", str(tracked.folder / "moved"))
    assert hpo("extend", "moves", "--trials", 2).code == 0
    assert hpo("delete", "moves").code == 0
    assert files() == []


def terms() -> dict[str, Any]:
    """One trial on two folds in a thread."""
    return {"metric": "auc", "folds": 2, "workers": 1, "trials": 1, "isolation": "thread"}


def test_a_study_of_a_frame_goes_on_by_its_name_and_takes_the_file_along(tracked: Place, hpo: Hpo) -> None:
    """The frame is gone with its process, so whoever resumes the study needs the file."""
    pytest.importorskip("lightgbm")
    said: list[str] = []
    terms: dict[str, Any] = {"target": "y", "metric": "auc", "folds": 2, "workers": 1, "isolation": "thread"}
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
