"""The cost of asking is measured on studies of the size that the table says."""

from __future__ import annotations

import pytest

from benchmarks import ask_cost
from benchmarks._report import read_rows


def test_a_filled_study_has_that_many_finished_trials_and_goes_on(tmp_path, capsys):
    from hpo_core import Study, make_strategy

    events = ask_cost.filled(dimensions=3, finished=25)
    study = Study.replay(events, strategy=make_strategy("sobol"))
    assert len(study.history.evidence) == 25
    found = ask_cost.time_ours("sobol", events, asks=4)
    assert found["asks"] == 4
    assert float(found["max_ms"]) >= float(found["mean_ms"]) > 0


def test_every_size_becomes_a_row_and_a_column(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "cost.csv"
    arguments = ["--samplers", "random", "--sizes", "5,20", "--dimensions", "2", "--asks", "3"]
    assert ask_cost.main([*arguments, "--out", str(out)]) == 0
    assert [(r["optimiser"], r["finished"]) for r in read_rows(out)] == [("random", "5"), ("random", "20")]
    assert "| optimiser | 5 | 20 |" in capsys.readouterr().out
    assert (tmp_path / "cost.png").exists()


def test_an_unknown_peer_is_an_error(capsys):
    assert ask_cost.main(["--peers", "optima"]) == 2
    assert "optima" in capsys.readouterr().err


def test_the_measured_loss_has_its_least_value_where_it_says():
    assert ask_cost.loss({"x0": 0.7, "x1": 0.7, "x2": 0.7}) == 0.0
    assert ask_cost.loss({"x0": 0.71, "x1": 0.7, "x2": 0.7}) > 0.0
