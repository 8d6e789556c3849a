"""The sampler benchmark measures what is missing, and nothing twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import _source, samplers
from benchmarks._report import read_rows
from benchmarks.peers import PEERS, make_peer, peer_version
from benchmarks.peers._space import active_only, parents_first
from benchmarks.problems import drive, problem
from hpo_core import Categorical, Float, Int, SearchSpace

ARGUMENTS = ["--samplers", "random", "--problems", "cond-choice3-s1,cond-network4-s1", "--trials", "10"]


@pytest.fixture
def measured(monkeypatch):
    """Every job that is measured, in this process instead of a child."""
    jobs = []

    class Inline:
        def __init__(self, *_args, **_options): ...

        def __enter__(self):
            return self

        def __exit__(self, *_error): ...

        def submit(self, function, job):
            from concurrent.futures import Future

            jobs.append(job)
            future: Future[Any] = Future()
            try:
                future.set_result(function(job))
            except Exception as error:  # noqa: BLE001  as a pool does
                future.set_exception(error)
            return future

    monkeypatch.setattr(samplers, "ProcessPoolExecutor", Inline)
    return jobs


def test_runs_are_kept_and_reported(tmp_path, capsys):
    """Once through a real child process."""
    pytest.importorskip("matplotlib")
    out = tmp_path / "r.csv"
    assert samplers.main([*ARGUMENTS, "--seeds", "1", "--out", str(out)]) == 0
    rows = read_rows(out)
    assert [r["problem"] for r in rows] == ["cond-choice3-s1", "cond-network4-s1"]
    assert all(float(r["r10"]) > 0 and r["r25"] == "" for r in rows)
    assert all(float(r["ms_per_trial"]) > 0 and r["machine"] and r["commit"] for r in rows)
    printed = capsys.readouterr().out
    cell = np.sqrt(float(rows[0]["r10"]) * float(rows[1]["r10"]))
    assert f"| random | {cell:.4f} |" in printed
    assert (tmp_path / "r.png").exists()
    assert "random,10," in (tmp_path / "r-summary.csv").read_text()


def test_only_what_changed_is_measured_again(tmp_path, measured, monkeypatch):
    out = ["--out", str(tmp_path / "r.csv")]
    monkeypatch.setattr(samplers, "source_hash", lambda name: "one")
    samplers.main([*ARGUMENTS, "--seeds", "2", *out])
    assert [(j.problem, j.seed) for j in measured] == [
        ("cond-choice3-s1", 0), ("cond-network4-s1", 0), ("cond-choice3-s1", 1), ("cond-network4-s1", 1),
    ]  # fmt: skip
    measured.clear()
    samplers.main([*ARGUMENTS, "--seeds", "3", *out])
    assert {j.seed for j in measured} == {2}
    measured.clear()
    samplers.main([*ARGUMENTS, "--seeds", "3", "--workers", "2", *out])
    assert len(measured) == 6
    measured.clear()
    monkeypatch.setattr(samplers, "source_hash", lambda name: "two")
    samplers.main([*ARGUMENTS, "--seeds", "3", *out])
    assert len(measured) == 6
    rows = read_rows(tmp_path / "r.csv")
    assert len(rows) == 12  # the superseded rows are gone
    assert {r["version"] for r in rows if r["workers"] == "1"} == {"two"}


def test_a_failing_run_costs_only_itself(tmp_path, measured, monkeypatch, capsys):
    real = samplers.measure

    def measure(job):
        if job.problem.startswith("cond-choice"):
            raise RuntimeError("out of luck")
        return real(job)

    monkeypatch.setattr(samplers, "measure", measure)
    assert samplers.main([*ARGUMENTS, "--seeds", "1", "--out", str(tmp_path / "r.csv")]) == 1
    assert [r["problem"] for r in read_rows(tmp_path / "r.csv")] == ["cond-network4-s1"]
    assert "out of luck" in capsys.readouterr().err


def test_a_variant_is_a_configured_strategy(tmp_path, measured):
    variant = ["--variant", 'mine={"sampler": {"name": "random"}}']
    samplers.main([*variant, *ARGUMENTS, "--seeds", "1", "--out", str(tmp_path / "r.csv")])
    rows = {(r["optimiser"], r["problem"]): r for r in read_rows(tmp_path / "r.csv")}
    assert rows["mine", "cond-network4-s1"]["r10"] == rows["random", "cond-network4-s1"]["r10"]
    assert rows["mine", "cond-network4-s1"]["version"].startswith(_source.source_hash("random"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--peers", "optima"], "got 'optima'"), (["--problems", "bbob7"], "got 'bbob7'")],
)
def test_unknown_names_are_one_line_errors(arguments, message, tmp_path, capsys):
    assert samplers.main([*arguments, "--out", str(tmp_path / "r.csv")]) == 2
    assert message in capsys.readouterr().err


def test_the_hash_follows_imports_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(_source, "_ROOT", tmp_path)
    package = tmp_path / "hpo_core" / "samplers"
    package.mkdir(parents=True)
    (package / "_a.py").write_text("def f():\n    from hpo_core._b import g\n    return g\n")
    (package / "_d.py").write_text("CHOICES = {'a': 'hpo_core.samplers._a:A'}\n")
    (tmp_path / "hpo_core" / "_b.py").write_text("g = 1\n")
    (tmp_path / "hpo_core" / "_c.py").write_text("h = 1\n")

    def current(name):
        _source._imports.cache_clear()
        return _source.source_hash(name)

    first, by_name, everything = current("a"), current("d"), current("composed")
    (tmp_path / "hpo_core" / "_c.py").write_text("h = 2\n")
    assert current("a") == first
    assert current("composed") != everything
    (tmp_path / "hpo_core" / "_b.py").write_text("g = 2\n")
    assert current("a") != first
    assert current("d") != by_name
    _source._imports.cache_clear()


def test_peers_get_parents_before_children_and_lose_inactive_parameters():
    space = SearchSpace(
        {
            "leaf": Float(0.0, 1.0).when("middle", ge=2),
            "middle": Int(1, 3).when("root", "yes"),
            "root": Categorical(["yes", "no"]),
        }
    )
    assert [name for name, _ in parents_first(space)] == ["root", "middle", "leaf"]
    everything = {"leaf": 0.5, "middle": 3, "root": "yes"}
    assert active_only(space, everything) == everything
    assert active_only(space, {**everything, "middle": 1}) == {"root": "yes", "middle": 1}
    assert active_only(space, {**everything, "root": "no"}) == {"root": "no"}


@pytest.mark.parametrize("name", sorted(PEERS))
@pytest.mark.filterwarnings("default")  # other people's
def test_every_peer_that_is_installed_stays_inside_the_space(name):
    """Also past its start-up phase, with failures, conditions and trials in flight."""
    if peer_version(name) is None:
        pytest.skip(f"{PEERS[name][3]} is not installed")
    if name == "optuna-gp":
        pytest.importorskip("torch")
    if name.startswith("cmaes"):
        pytest.importorskip("cocoex")
        chosen = problem("bbob2-f08-i1")
    else:
        chosen = problem("cond-choice3-s1")
    proposed = []
    peer = make_peer(name, chosen, seed=1, trials=16)

    class Watched:
        def ask(self):
            handle, params = peer.ask()
            proposed.append(params)
            return handle, params

        def tell(self, handle, value):
            peer.tell(handle, float("nan") if len(proposed) == 5 else value)

    drive(chosen, Watched, seed=1, trials=16, workers=3)
    assert len(proposed) == 16
    for params in proposed:
        u = chosen.space.encode(params)
        assert chosen.space.decode(u) == pytest.approx(params)
    assert len({tuple(sorted(p.items())) for p in proposed}) > 10


def test_an_unknown_peer_is_named():
    with pytest.raises(ValueError, match="got 'optima'"):
        make_peer("optima", problem("cond-choice3-s1"), 0, 10)
