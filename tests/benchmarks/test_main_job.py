"""The main-job benchmark: tables are what they say, scores tell good from bad, counts are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._main_job_score import Choice, cross_validated, held_out, rounds_of
from benchmarks._main_job_tables import TABLES
from benchmarks.main_job import Job, report


def test_the_generated_tables_are_as_described_and_always_the_same() -> None:
    frames = {name: TABLES[name].make() for name in ("imbalanced", "categorical", "missing", "mixed")}
    assert frames["imbalanced"]["target"].mean() == pytest.approx(0.03, abs=0.001)
    assert [frames["categorical"][f"c{i}_"].nunique() for i in range(8)] == [2, 3, 5, 8, 12, 20, 40, 60]
    share = frames["missing"].isna().mean()
    assert ((share[:-1] > 0.1) & (share[:-1] < 0.25)).all()
    assert frames["mixed"]["target"].value_counts(normalize=True).to_dict() == pytest.approx(
        {"common": 0.75, "seldom": 0.2, "rare": 0.05}, abs=0.001
    )
    for name, frame in frames.items():
        assert frame.equals(TABLES[name].make())


def test_scores_tell_a_good_configuration_from_a_bad_one(tmp_path: Path) -> None:
    job = Job("diabetes", 0, tmp_path / "job")
    good = Choice(0.0, {"learning_rate": 0.05, "num_leaves": 6}, None)
    rounds = rounds_of(job.setting, good, folds=3)
    assert 20 < rounds < 300
    good = Choice(0.0, good.params, rounds)
    bad = Choice(0.0, {"learning_rate": 0.9, "num_leaves": 60, "min_data_in_leaf": 1}, 200)
    for score in (held_out, cross_validated):
        assert score(job.setting, good) < 0.9 * score(job.setting, bad)
    train = (job.folder / "train.csv").read_text().splitlines()
    assert len(train) == 1 + len(job.setting.split.train), "the peers get our training rows and no others"


def row(table: str, tool: str, held_out: str, cv: str, seed: str = "0") -> dict[str, str]:
    """A row of the results."""
    metric = TABLES[table].metric
    return {"table": table, "seconds": "30", "seed": seed, "tool": tool, "metric": metric,
            "held_out": held_out, "cv": cv}  # fmt: skip


def test_the_report_counts_tables_on_which_ours_is_ahead() -> None:
    text = report(
        [
            row("wine", "hpo", "0.2", "0.3"),  # a loss: less is better
            row("wine", "flaml", "0.3", "0.2"),
            row("breast_cancer", "hpo", "0.98", "0.97"),
            row("breast_cancer", "flaml", "0.97", "0.97"),
            row("missing", "hpo", "", ""),  # nothing in time
            row("missing", "flaml", "2.0", "2.0"),
            row("mixed", "hpo", "0.4", "0.4"),  # the peer was not measured: no win
        ]
    )
    assert "ahead of flaml, of 3 tables, on 2 held out and 0.5 cross-validated" in text
    assert "| missing | rmse | - / - | 2 / 2 |" in text


def test_a_run_that_had_nothing_in_time_is_not_left_out_of_the_mean() -> None:
    """A table on which one of two runs had found nothing counted as won by the other one."""
    both = [row("wine", tool, "0.2", "0.2", seed) for tool in ("hpo", "flaml") for seed in ("1", "2")]
    text = report([{**r, "held_out": "0.1", "cv": "0.1"} if r["tool"] == "hpo" else r for r in both])
    assert "ahead of flaml, of 1 tables, on 1 held out and 1 cross-validated" in text
    lost = [{**r, "held_out": "", "cv": ""} if (r["tool"], r["seed"]) == ("hpo", "2") else r for r in both]
    text = report([{**r, "held_out": "0.1"} if (r["tool"], r["seed"]) == ("hpo", "1") else r for r in lost])
    assert "| wine | logloss | - / - | 0.2 / 0.2 |" in text
    assert "\nahead of flaml, of 1 tables, on 0 held out and 0 cross-validated" in text
    assert "- seed 1: ahead of flaml, of 1 tables, on 1 held out and 0.5 cross-validated" in text
    assert "- seed 2: ahead of flaml, of 1 tables, on 0 held out and 0 cross-validated" in text
