"""Results files survive several writers, and say where their figures come from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks._report import (
    STAMP_COLUMNS,
    append_row,
    compact,
    markdown,
    new_figure,
    read_rows,
    save_figure,
    stamp,
)


def test_the_stamp_names_commit_machine_and_versions():
    marks = stamp(["numpy", "no-such-package"])
    assert tuple(marks) == STAMP_COLUMNS
    assert marks["versions"].startswith("numpy ")
    assert "no-such-package" not in marks["versions"]
    assert marks["commit"]
    assert "cores" in marks["machine"]


def test_a_later_row_supersedes_an_earlier_one_with_its_key(tmp_path):
    path = tmp_path / "deep" / "results.csv"
    for key, value in [("b", "1"), ("a", "2"), ("b", "3")]:
        append_row(path, ["key", "value"], {"key": key, "value": value})
    assert len(read_rows(path)) == 3
    assert {r["key"]: r["value"] for r in read_rows(path, ["key"])} == {"a": "2", "b": "3"}
    compact(path, ["key"], order=lambda row: row["key"])
    assert path.read_text() == "key,value\na,2\nb,3\n"


def test_rows_of_several_writers_all_arrive(tmp_path):
    path = tmp_path / "results.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: append_row(path, ["i", "x"], {"i": i, "x": "y" * 500}), range(100)))
    rows = read_rows(path)
    assert sorted(int(r["i"]) for r in rows) == list(range(100))
    assert all(r["x"] == "y" * 500 for r in rows)


def test_a_file_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    append_row(path, ["a"], {"a": 1})
    with pytest.raises(ValueError, match="move it away"):
        append_row(path, ["a", "b"], {"a": 1, "b": 2})
    assert path.read_text() == "a\n1\n"


def test_no_file_is_no_rows(tmp_path):
    assert read_rows(tmp_path / "none.csv", ["a"]) == []
    compact(tmp_path / "none.csv", ["a"], order=lambda row: row["a"])
    assert not (tmp_path / "none.csv").exists()


def test_a_table_in_markdown():
    assert markdown(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_a_figure_is_written_with_its_stamp(tmp_path):
    pytest.importorskip("matplotlib")
    figure, (axis,) = new_figure(1)
    axis.plot([1, 2], [3, 4])
    save_figure(figure, tmp_path / "plot.png", stamp())
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert any("commit" in text.get_text() for text in figure.texts)
