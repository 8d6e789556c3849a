"""Tables: every format gives the same content, oddities are noted, mistakes are one line."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.objectives._data import Table, encode, identity, load_table, pose
from flows.objectives._encode import date_encoder, dense_encoder, ordinal_encoder
from hpo_core import InputError
from tests.flows.small_tables import mixed, written


def refusal(*args: object, **kwargs: object) -> str:
    """The one-line message of the refusal of :func:`load_table` and :func:`pose`."""
    task, positive = kwargs.pop("task", None), kwargs.pop("positive", None)
    with pytest.raises(InputError) as caught:
        pose(load_table(*args, **kwargs), task, positive)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_a_target_of_one_value_is_shown_as_the_user_knows_it(tmp_path: Path) -> None:
    assert "has one value only, 1; there" in refusal(written(tmp_path, mixed(60).assign(y=1)), "y")
    infinite = mixed(60).assign(y=[1.0, np.inf] * 30)
    assert "neither missing nor infinite (30 are not)" in refusal(written(tmp_path, infinite), "y")


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, task, shape",
    [
        ("breast_cancer", "binary", (569, 30)),
        ("iris", "multiclass", (150, 4)),
        ("wine", "multiclass", (178, 13)),
        ("digits", "multiclass", (1797, 61)),
        ("diabetes", "regression", (442, 10)),
    ],
)
def test_bundled_tables(name: str, task: str, shape: tuple[int, int]) -> None:
    problem = pose(load_table(f"sklearn:{name}"))
    assert problem.task == task
    assert problem.matrix.shape == shape


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet"])
def test_every_format_gives_the_same_problem(tmp_path: Path, name: str) -> None:
    frame = mixed()
    expected = pose(load_table(written(tmp_path, frame), "y"))
    problem = pose(load_table(written(tmp_path, frame, name), "y"))
    assert problem.columns == expected.columns
    np.testing.assert_allclose(problem.matrix, expected.matrix)
    np.testing.assert_array_equal(problem.y, expected.y)


def test_semicolons_with_decimal_commas(tmp_path: Path) -> None:
    frame = mixed()
    path = tmp_path / "t.csv"
    frame.to_csv(path, sep=";", decimal=",", index=False)
    expected = pose(load_table(written(tmp_path, frame, "plain.csv"), "y"))
    np.testing.assert_allclose(pose(load_table(str(path), "y")).matrix, expected.matrix)


def test_decimal_commas_may_begin_late_and_stand_in_text(tmp_path: Path) -> None:
    """They were looked for in the first rows only, and a column without any there became text."""
    price = [f"{i}" if i < 40 else f"-{i},5" for i in range(60)]
    rows = "".join(f"{p};{i % 3},x;{i % 2}\n" for i, p in enumerate(price))
    (tmp_path / "late.csv").write_text(f"price;text;y\n{rows}")
    features = load_table(str(tmp_path / "late.csv"), "y").features
    assert features["price"].tolist() == [float(p.replace(",", ".")) for p in price]
    assert features["text"].tolist()[:3] == ["0,x", "1,x", "2,x"]
    (tmp_path / "point.csv").write_text(f"price;text;y\n{rows.replace(',', '.')}".replace("2.x", "2,5"))
    assert load_table(str(tmp_path / "point.csv"), "y").features["price"].tolist()[-1] == -59.5


def test_rows_that_end_in_a_separator_are_refused_where_the_header_does_not(tmp_path: Path) -> None:
    """The first column was taken for names of rows, and each value for that of the column before."""
    values = "".join(f"{i % 2},{i / 7},{i % 5},\n" for i in range(40))
    (tmp_path / "t.csv").write_text(f"y,a,b\n{values}")
    assert "remove ',' from the ends of the rows" in refusal(str(tmp_path / "t.csv"), "y")
    (tmp_path / "t.csv").write_text(f"y,a,b,\n{values}")
    assert list(load_table(str(tmp_path / "t.csv"), "y").features) == ["a", "b"]
    named = "".join(f'"r{i}",{i % 2},{i / 7},{i % 5}\n' for i in range(40))
    (tmp_path / "t.csv").write_text(f"y,a,b\n{named}")
    assert list(load_table(str(tmp_path / "t.csv"), "y").labels)[:3] == [0, 1, 0]


def test_separator_in_quoted_header_and_byte_order_mark(tmp_path: Path) -> None:
    rows = "".join(f"{i % 7},{i % 2}\n" for i in range(30))
    (tmp_path / "t.csv").write_text(f'\ufeff"a;b;c","y"\n{rows}', encoding="utf-8")
    table = load_table(str(tmp_path / "t.csv"))
    assert list(table.features) == ["a;b;c"]
    assert table.target == "y"


def test_a_forgotten_index_column_is_not_a_feature(tmp_path: Path) -> None:
    mixed().to_csv(tmp_path / "t.csv")
    assert "Unnamed: 0" not in load_table(str(tmp_path / "t.csv"), "y").features


def test_digest_is_of_the_content_alone(tmp_path: Path) -> None:
    frame = mixed()
    first = load_table(written(tmp_path, frame, "a.csv"), "y").digest
    assert first == load_table(written(tmp_path, frame, "b.csv"), "y").digest
    frame.loc[3, "b"] += 1e-9
    assert first != load_table(written(tmp_path, frame, "b.csv"), "y").digest
    assert load_table("sklearn:iris").digest == load_table("sklearn:iris").digest
    assert identity("a", 1) != identity("a", "1")


def test_unreadable_sources(tmp_path: Path) -> None:
    written(tmp_path, mixed(), "people.csv")
    assert "did you mean 'breast_cancer'" in refusal("sklearn:brest_cancer")
    assert "sklearn:iris" in refusal("sklearn:california_housing")
    assert "beside it there is 'people.csv'" in refusal(str(tmp_path / "poeple.csv"))
    assert f"does not exist in {tmp_path}" in refusal(str(tmp_path / "x.csv"))
    assert f"there is no folder {tmp_path / 'none'}" in refusal(str(tmp_path / "none" / "x.csv"))
    assert "folder" in refusal(str(tmp_path))
    assert "download" in refusal("https://example.org/t.csv")
    (tmp_path / "zero.csv").write_text("")
    assert "is empty" in refusal(str(tmp_path / "zero.csv"))
    (tmp_path / "blank.csv").write_text("\n\n")
    assert "is empty" in refusal(str(tmp_path / "blank.csv"))
    (tmp_path / "head.csv").write_text("a,y\n")
    assert "no rows" in refusal(str(tmp_path / "head.csv"))
    (tmp_path / "t.xlsx").write_text("x")
    assert "unknown kind '.xlsx'" in refusal(str(tmp_path / "t.xlsx"))
    (tmp_path / "t.parquet").write_text("no parquet")
    assert "cannot be read as Parquet" in refusal(str(tmp_path / "t.parquet"))
    (tmp_path / "latin.csv").write_bytes("größe,y\n1,2\n".encode("latin-1"))
    assert "not UTF-8" in refusal(str(tmp_path / "latin.csv"))
    (tmp_path / "ragged.csv").write_text("a,y\n1,2\n1,2,3,4\n")
    assert "cannot be read as CSV" in refusal(str(tmp_path / "ragged.csv"))
    (tmp_path / "t.csv.gz").write_text("not gzip")
    assert "cannot be read as CSV" in refusal(str(tmp_path / "t.csv.gz"))


# -- columns -------------------------------------------------------------------------------------


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, mixed())
    assert "did you mean 'y'" in refusal(path, "Y")
    assert "did you mean 'colour'" in refusal(path, "color")
    assert "its columns are 'a', 'b'" in refusal(path, "zzzzzz")
    assert "(given as group)" in refusal(path, "y", group="persn")
    assert "(given as drop)" in refusal(path, "y", drop=["nope"])
    assert "is the target" in refusal(path, "y", time="y")
    frame = mixed().rename(columns={"y": "whatever"})
    assert "say which column" in refusal(written(tmp_path, frame, "b.csv"))


def test_equal_column_names(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.eye(30)[:, :3], columns=["a", 1, "1"])
    frame.columns = pd.Index(["a", "b", "1"])
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    assert list(load_table(str(path), "a").features) == ["b", "1"]


def test_what_no_model_can_use_is_left_out_and_noted(tmp_path: Path) -> None:
    frame = mixed(100)
    frame["empty"], frame["same"] = np.nan, 3
    frame["name"] = [f"person {i}" for i in range(100)]
    frame["row"] = np.arange(100)
    frame.loc[:2, "b"] = [np.inf, -np.inf, 1.0]
    frame.loc[5:7, "y"] = None
    table = load_table(written(tmp_path, frame), "y", group="person", time="order", drop=["flag"])
    assert set(table.features) == {"a", "b", "colour", "when", "row"}
    notes = " | ".join(table.notes)
    assert "3 of 100 rows dropped" in notes
    assert "only 97 rows" in notes
    assert "2 infinite" in notes
    assert "empty: empty" in notes
    assert "constant: same" in notes
    assert "all different (an id?): name" in notes
    assert table.features["b"].isna().sum() == 2


def test_a_row_number_is_noted_and_kept(tmp_path: Path) -> None:
    frame = mixed(100)
    frame["row"] = np.arange(100)
    table = load_table(written(tmp_path, frame), "y")
    assert "row" in table.features
    assert any("row number" in note and "row" in note for note in table.notes)


def test_odd_types_from_parquet(tmp_path: Path) -> None:
    n = 40
    frame = pd.DataFrame(
        {
            "nullable": pd.array([None, *range(n - 1)], dtype="Int64"),
            "maybe": pd.array([None, True, False, True] * (n // 4), dtype="boolean"),
            "cat": pd.Categorical(["u", "v", None, "w"] * (n // 4)),
            "zoned": pd.date_range("2024-01-01", periods=n, tz="Europe/Berlin"),
            "span": pd.to_timedelta(np.arange(n) % 5, "h"),
            "money": [Decimal("1.5"), Decimal(2)] * (n // 2),
            "day": [dt.date(2024, 1, 1 + i % 28) for i in range(n)],
            "y": [0, 1] * (n // 2),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    problem = pose(load_table(str(tmp_path / "t.parquet"), "y"))
    assert problem.numbers == ("nullable", "span", "money")
    assert problem.dates == ("zoned", "day")
    assert problem.categories == ("maybe", "cat")
    assert problem.levels == {"maybe": ("False", "True"), "cat": ("u", "v", "w")}
    first = dict(zip(problem.columns, problem.matrix[4], strict=True))
    assert np.isnan(first["maybe"])
    assert first["nullable"] == 3
    assert first["span"] == pytest.approx(4 / 24)
    # Midnight in Berlin is 23:00 UTC of the day before.
    assert first["zoned"] == pytest.approx((dt.date(2024, 1, 5) - dt.date(1970, 1, 1)).days - 1 / 24)
    assert first["day"] == (dt.date(2024, 1, 5) - dt.date(1970, 1, 1)).days


def test_columns_that_hold_lists(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [[1, 2]] * 30, "y": [0, 1] * 15})
    frame.to_parquet(tmp_path / "t.parquet")
    assert "the column 'a' holds" in refusal(str(tmp_path / "t.parquet"), "y")


def test_dates_that_stand_for_never_are_dates(tmp_path: Path) -> None:
    frame = mixed(60)
    frame["until"] = ["9999-12-31", "0001-01-01", None] * 20
    problem = pose(load_table(written(tmp_path, frame), "y"))
    assert problem.dates == ("when", "until")
    days = problem.matrix[:3, list(problem.columns).index("until")]
    never = (dt.date(9999, 12, 31) - dt.date(1970, 1, 1)).days
    assert days[:2].tolist() == [never, (dt.date(1, 1, 1) - dt.date(1970, 1, 1)).days]
    assert np.isnan(days[2])
    fitted = date_encoder().fit_transform(problem.frame[["until"]])
    np.testing.assert_array_equal(np.asarray(fitted)[:3, 0], days)


def test_text_that_only_starts_like_a_date_stays_text(tmp_path: Path) -> None:
    frame = mixed(60)
    frame["when"] = ["2024-01-01", "2024-13-45"] * 30
    assert "when" in pose(load_table(written(tmp_path, frame), "y")).categories


def test_unseen_levels_become_missing(tmp_path: Path) -> None:
    problem = pose(load_table(written(tmp_path, mixed()), "y"))
    assert [problem.columns[i] for i in problem.categorical] == list(problem.categories)
    assert problem.categories
    row = problem.frame.head(1).copy()
    row["colour"] = "violet"
    assert np.isnan(encode(row, problem)[0, problem.columns.index("colour")])


def test_models_that_take_plain_numbers_get_them_and_what_was_missing() -> None:
    """In the order number, whether it was missing, day, red, blue; a level never seen is none of them."""
    features = pd.DataFrame(
        {
            "size": [1.0, np.nan, 3.0, 5.0] * 10,
            "when": pd.to_datetime(["1970-01-02", "1970-01-03"] * 20).astype("datetime64[us]"),
            "colour": ["red", "blue"] * 20,
        }
    )
    problem = pose(Table("t", "y", features, pd.Series([0, 1] * 20), None, None, "", ()))
    encoder = dense_encoder(problem, impute=True, scale=None).fit(problem.frame)
    new = pd.DataFrame({"size": [np.nan, 7.0], "when": features["when"][:2], "colour": ["violet", "red"]})
    assert encoder.transform(new).tolist() == [[3.0, 1.0, 1.0, 0.0, 0.0], [7.0, 0.0, 2.0, 0.0, 1.0]]
    as_it_is = dense_encoder(problem, impute=False, scale=None).fit(problem.frame).transform(new)
    np.testing.assert_array_equal(as_it_is, [[np.nan, 1.0, 0.0, 0.0], [7.0, 2.0, 0.0, 1.0]])
    unit = dense_encoder(problem, impute=True, scale="unit").fit(problem.frame).transform(new)
    assert unit.tolist() == [[0.5, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0, 1.0]]
    standard = dense_encoder(problem, impute=True, scale="standard").fit(problem.frame)
    assert standard.transform(problem.frame)[:, :3].mean(axis=0) == pytest.approx(0.0, abs=1e-12)
    assert standard.transform(problem.frame)[:, :3].std(axis=0) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["dense", "ordinal"])
def test_rows_may_say_the_same_with_other_types_than_the_table(tmp_path: Path, kind: str) -> None:
    """A flag with gaps is text in the table, and True in what a user reads from the same file: to the models
    it was a level that they had never seen, and so were two of pandas' three missing values.
    """
    n = 60
    flag = np.resize(np.array([True, False, None, False], dtype=object), n)
    frame = pd.DataFrame(
        {
            "x": np.where(np.arange(n) % 7 == 0, np.nan, np.arange(n) * 0.5),
            "flag": flag,
            "hour": np.resize(np.array([dt.time(8), dt.time(9), None], dtype=object), n),
            "y": np.arange(n) % 2 == 0,
        }
    )
    path = written(tmp_path, frame, "table.parquet")
    problem = pose(load_table(path, "y"))
    assert problem.categories == ("flag", "hour")
    if kind == "dense":
        encoder = dense_encoder(problem, impute=True, scale=None)
    else:
        encoder = ordinal_encoder(problem)
    expected = encoder.fit(problem.frame).transform(problem.frame)
    raw = pd.read_parquet(path).drop(columns="y")
    assert raw["flag"].map(type).nunique() > 1
    for rows in (
        raw,
        raw.fillna(np.nan),
        raw.astype({"x": "Float64", "flag": "boolean"}),
        raw.astype({"x": "Float32", "flag": "category", "hour": "category"}),
        problem.frame.astype({"flag": "string", "hour": "string"}),
    ):
        np.testing.assert_array_equal(np.asarray(encoder.transform(rows), dtype=float), expected)


def test_no_feature_at_all(tmp_path: Path) -> None:
    frame = pd.DataFrame({"same": 1, "y": [0, 1] * 20})
    assert "no usable feature" in refusal(written(tmp_path, frame), "y")


# -- target --------------------------------------------------------------------------------------


def test_targets_that_cannot_be_predicted(tmp_path: Path) -> None:
    frame = mixed(60)
    for column, value, words in (
        ("nothing", np.nan, "every value of the target 'nothing' is missing"),
        ("one", "x", "one value only, 'x'"),
        ("infinite", np.inf, "every value"),
    ):
        frame[column] = value
        assert words in refusal(written(tmp_path, frame), column)
    frame["name"] = [f"person {i}" for i in range(60)]
    assert "that is a name, not a class" in refusal(written(tmp_path, frame), "name")
    assert "19 rows" in refusal(written(tmp_path, mixed(60).head(19)), "y")


@pytest.mark.parametrize(
    "values, task, classes",
    [
        ([0, 1], "binary", (0, 1)),
        ([2.0, 4.0], "binary", (2, 4)),
        ([10.5, 2.5], "binary", ("2.5", "10.5")),
        ([True, False], "binary", (False, True)),
        (["no", "yes"], "binary", ("no", "yes")),
        ([1, 2, 3], "multiclass", (1, 2, 3)),
        ([1.0, 2.0, None], "binary", (1, 2)),
        (["a", "b", "c"], "multiclass", ("a", "b", "c")),
        ([0.1, 0.2, 0.3], "regression", ()),
        (list(range(20)), "multiclass", tuple(range(20))),
        (list(range(21)), "regression", ()),
        ([1e300, 2e300], "binary", ("1e+300", "2e+300")),
    ],
)
def test_task_is_found(tmp_path: Path, values: list[object], task: str, classes: tuple[object, ...]) -> None:
    n = 120
    frame = pd.DataFrame({"x": np.arange(n) % 13, "y": [values[i % len(values)] for i in range(n)]})
    problem = pose(load_table(written(tmp_path, frame), "y"))
    assert (problem.task, problem.classes) == (task, classes)
    if classes:
        kind = str if isinstance(classes[0], str) else lambda v: v
        expected = [kind(v) for v in frame["y"] if pd.notna(v)]
        assert problem.labels_of(np.arange(len(problem.y))).tolist() == expected


def test_few_rows_of_each_whole_number_are_no_classes(tmp_path: Path) -> None:
    for n, task in ((40, "regression"), (50, "multiclass")):
        frame = pd.DataFrame({"x": np.arange(n) % 7, "y": np.arange(n) % 10})
        assert pose(load_table(written(tmp_path, frame), "y")).task == task


def test_labels_of_several_kinds_are_text() -> None:
    """As a table from Parquet may have them; of two kinds none is the larger."""
    features = pd.DataFrame({"x": np.arange(40) % 7})
    labels = pd.Series([True, "a"] * 20, dtype=object)
    problem = pose(Table("t", "y", features, labels, None, None, "", ()))
    assert problem.classes == ("True", "a")
    assert problem.y.tolist() == [0.0, 1.0] * 20


def test_forced_tasks(tmp_path: Path) -> None:
    path = written(tmp_path, mixed(task="binary"))
    assert "regression needs numbers" in refusal(path, "y", task="regression")
    frame = mixed().assign(y=lambda table: table["y"] == "yes")
    path = written(tmp_path, frame, "flags.parquet")
    assert re.search("which holds (True|False); regression", refusal(path, "y", task="regression"))
    path = written(tmp_path, mixed(task="binary"))
    assert "use binary" in refusal(path, "y", task="multiclass")
    assert "did you mean 'regression'" in refusal(path, "y", task="regresion")
    assert "use multiclass or regression" in refusal("sklearn:iris", task="binary")
    assert "not a class" in refusal(written(tmp_path, mixed(task="regression")), "y", task="multiclass")
    assert pose(load_table("sklearn:iris"), "regression").task == "regression"


def test_positive_class(tmp_path: Path) -> None:
    path = written(tmp_path, mixed())
    problem = pose(load_table(path, "y"), positive="no")
    assert problem.classes == ("yes", "no")
    assert "the positive class is 'no'" in problem.notes
    assert problem.labels_of(np.flatnonzero(problem.y == 1))[0] == "no"
    assert "not a class of 'y'" in refusal(path, "y", positive="maybe")
    assert "two classes" in refusal("sklearn:iris", positive="1")
    assert "not for regression" in refusal("sklearn:diabetes", positive="1")


def test_group_and_time_columns(tmp_path: Path) -> None:
    frame = mixed(60)
    table = load_table(written(tmp_path, frame), "y", group="person", time="when")
    assert table.groups is not None
    assert table.times is not None
    same = frame["person"].to_numpy()[:, None] == frame["person"].to_numpy()
    np.testing.assert_array_equal(table.groups[:, None] == table.groups, same)
    np.testing.assert_array_equal(
        np.argsort(table.times, kind="stable"), frame["when"].argsort(kind="stable")
    )
    zoned = frame.assign(when=pd.to_datetime(frame["when"]).dt.tz_localize("Europe/Berlin"))
    times = load_table(written(tmp_path, zoned, "t.parquet"), "y", time="when").times
    assert times is not None
    np.testing.assert_array_equal(np.argsort(times, kind="stable"), frame["when"].argsort(kind="stable"))
    frame.loc[3, ["person", "when"]] = None
    path = written(tmp_path, frame)
    assert "missing in 1 rows" in refusal(path, "y", group="person")
    assert "missing in 1 rows" in refusal(path, "y", time="when")
    frame["when"] = "last Tuesday"
    assert "neither a number nor a date" in refusal(written(tmp_path, frame), "y", time="when")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1)),
        min_size=3,
        max_size=12,
    )
)
def test_any_text_survives_encoding(values: list[str | None]) -> None:
    """Codes point back at the text they came from, missing stays missing."""
    frame = pd.DataFrame({"c": [*values * 10, "x", "z"], "y": 0.0})
    frame["y"] = np.arange(len(frame)) / 7
    features = frame[["c"]].astype(object)
    table = Table("t", "y", features, frame["y"], None, None, "", ())
    problem = pose(table)
    for value, code in zip([*values * 10, "x", "z"], problem.matrix[:, 0], strict=True):
        assert (value is None) == np.isnan(code)
        assert value is None or problem.levels["c"][int(code)] == value
