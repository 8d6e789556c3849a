"""Two ways into MLflow, one result: through its client, and straight into its SQLite file."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from hpo_core import Categorical, Constant, Float
from tests.tracking.fake_mlflow import Away, FakeMlflow, Killed
from tests.tracking.studies import Script, eventful
from tracking._client_writer import ClientWriter
from tracking._connection import Connection, connect
from tracking._errors import TrackingError
from tracking._options import TrackerOptions
from tracking._projector import Projector
from tracking._sqlite_writer import SqliteWriter
from tracking._writes import Point, Refused, RunWrite

OPTIONS = TrackerOptions(flush=0.0, summary=0.0)


class Told:
    """Remembers what a writer told."""

    def __init__(self) -> None:
        self.ids: dict[int, str] = {}
        self.items: list[Refused] = []

    def creating(self, write: RunWrite) -> None: ...
    def created(self, write: RunWrite, run_id: str) -> None: ...

    def done(self, write: RunWrite, run_id: str) -> None:
        self.ids[write.number] = run_id

    def refused(self, refused: Refused) -> None:
        self.items.append(refused)


def writers(connection: Connection) -> dict[str, Any]:
    """Both, over one database."""
    direct = SqliteWriter.over(connection)
    assert direct is not None
    return {"client": ClientWriter(connection.client, connection.experiment_id), "direct": direct}


def shown(connection: Connection, run_id: str) -> tuple[Any, ...]:
    """All that MLflow has on a run."""
    run: Run = connection.client.get_run(run_id)
    keys = sorted(run.data.metrics)
    history = {
        key: sorted((m.step, m.timestamp, m.value) for m in connection.client.get_metric_history(run_id, key))
        for key in keys
    }
    info = run.info
    place = info.artifact_uri.replace(run_id, "ID")
    tags = {k: v.replace(run_id, "ID") for k, v in run.data.tags.items()}
    row = (info.run_name, info.status, info.start_time, info.end_time, info.user_id, place)
    return row, tags, run.data.params, run.data.metrics, history


def write(number: int, run_id: str | None = None, **fields: Any) -> RunWrite:
    """A write with everything in it that the test does not care about."""
    return RunWrite(
        number=number, uid=f"u{number}", run_id=run_id, name=f"run-{number}", start_time=5, **fields
    )


def test_the_same_writes_look_the_same(sqlite_uri: str, experiment: str) -> None:
    """Creation, repetition, later points in any order, ends and reopenings."""
    connection = connect(sqlite_uri, experiment)
    draw = random.Random(1)
    results = []
    for writer in writers(connection).values():
        draw.seed(1)
        told = Told()
        first = write(
            0,
            tags={"mlflow.user": "me", "a": "x" * 8000, "b": ""},
            params={"p": "1", "q": "v" * 6000},
            points=[Point("m", 0.5, 10, 3), Point("n", -1e300, 10, 0)],
        )
        writer.write([first], told)
        run_id = told.ids[0]
        writer.write([write(0, run_id, tags={"a": "new"}, params={"p": "1"}, points=first.points)], told)
        points = [Point("m", draw.choice([0.5, 1.5]), draw.choice([10, 11]), step) for step in range(6)]
        draw.shuffle(points)
        points += [Point("m", v, 11, 5) for v in (0.25, 9.0, 0.5)]
        for point in points:
            writer.write([write(0, run_id, points=[point])], told)
        writer.write([write(0, run_id, status="FAILED", end_time=99)], told)
        states = [shown(connection, run_id)]
        writer.write([write(0, run_id, status="RUNNING")], told)
        states.append(shown(connection, run_id))
        writer.write([write(0, run_id, status="FINISHED", end_time=120)], told)
        states.append(shown(connection, run_id))
        assert told.items == []
        results.append(states)
    assert results[0] == results[1]
    assert results[0][2][0][:4] == ("run-0", "FINISHED", 5, 120)


def test_a_server_is_sent_several_runs_at_once() -> None:
    """One after the other, 1,500 trials of a quick study took minutes to arrive."""
    meeting = threading.Barrier(4, timeout=60)

    class Patient(FakeMlflow):
        def create_run(self, *args: Any, **kwargs: Any) -> Any:
            meeting.wait()
            return super().create_run(*args, **kwargs)

    mlflow, told = Patient(), Told()
    ClientWriter(mlflow, "1", at_once=4).write([write(n) for n in range(8)], told)
    assert sorted(told.ids) == list(range(8))
    assert len(set(told.ids.values())) == 8


def test_nothing_is_written_behind_the_back_of_who_hears_that_mlflow_is_away() -> None:
    """Every thread has ended by then, and what arrived has been told."""
    mlflow, told = FakeMlflow(), Told()
    mlflow.fault = lambda number, name: (Away("no answer"), False) if number >= 9 else None
    writer = ClientWriter(mlflow, "1", at_once=4)
    with pytest.raises(Away):
        writer.write([write(n, params={"p": "1"}) for n in range(40)], told)
    assert len(mlflow.calls) <= 9 + 3
    assert not [t for t in threading.enumerate() if t.name.startswith("hpo-tracking-")]
    full = {run_id for run_id, run in mlflow.stored.items() if run.params}
    assert set(told.ids.values()) == full


def test_what_mlflow_refuses_is_left_out_and_said(sqlite_uri: str, experiment: str) -> None:
    """A parameter that has another value keeps it; the rest of the write arrives."""
    connection = connect(sqlite_uri, experiment)
    for writer in writers(connection).values():
        told = Told()
        writer.write([write(0, params={"p": "1"})], told)
        run_id = told.ids[0]
        later = write(
            0,
            run_id,
            params={"p": "2", "q": "3"},
            tags={"t": "1"},
            points=[Point("m", 1.0, 1, 1)],
            status="FINISHED",
            end_time=9,
        )
        writer.write([later], told)
        run = connection.client.get_run(run_id)
        assert (run.data.params, run.data.metrics["m"]) == ({"p": "1", "q": "3"}, 1.0)
        assert (run.info.status, run.data.tags["t"]) == ("FINISHED", "1")
        assert [item.what for item in told.items] == ["parameter p"]
        assert "parameter p" in run.data.tags["hpo.refused"]


def test_a_metric_that_mlflow_refuses_takes_no_other_along(sqlite_uri: str, experiment: str) -> None:
    """Nor tags; each that is refused is said, and none that arrived."""
    connection = connect(sqlite_uri, experiment)
    writer = ClientWriter(connection.client, connection.experiment_id)
    told = Told()
    writer.write([write(0)], told)
    points = [Point("good", 1.0, 1, 1), Point("bad[0]", 2.0, 1, 1), Point("better", 3.0, 1, 1)]
    writer.write([write(0, told.ids[0], points=points, tags={"t": "1", "bad[1]": "2"})], told)
    run = connection.client.get_run(told.ids[0])
    assert run.data.metrics == {"good": 1.0, "better": 3.0}
    assert run.data.tags["t"] == "1"
    assert [item.what for item in told.items] == ["metric bad[0]", "tag bad[1]"]
    assert run.data.tags["hpo.refused"].count("bad") >= 2


def test_a_run_that_somebody_deleted_stays_deleted(sqlite_uri: str, experiment: str) -> None:
    """And does not keep the others from being written."""
    connection = connect(sqlite_uri, experiment)
    for writer in writers(connection).values():
        told = Told()
        writer.write([write(0), write(1)], told)
        connection.client.delete_run(told.ids[0])
        both = [write(n, told.ids[n], points=[Point("m", 1.0, 1, 1)], status="FINISHED") for n in (0, 1)]
        writer.write(both, told)
        assert told.items
        assert connection.client.get_run(told.ids[0]).info.lifecycle_stage == "deleted"
        assert connection.client.get_run(told.ids[1]).info.status == "FINISHED"


def test_a_failed_transaction_leaves_nothing(sqlite_uri: str, experiment: str) -> None:
    """All runs of a batch, or none."""
    connection = connect(sqlite_uri, experiment)
    direct = SqliteWriter.over(connection)
    assert direct is not None
    bad = write(1, points=[Point("m", None, 1, 1)])  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        direct.write([write(0), bad], Told())
    assert list(connection.runs("")) == []
    direct.write([write(0)], Told())
    direct.close()
    assert len(list(connection.runs(""))) == 1


def test_a_database_that_is_no_longer_there_gets_nothing_until_it_is_back(
    sqlite_uri: str, experiment: str
) -> None:
    """SQLite goes on writing to a file that was removed, and the study said that all had arrived."""
    connection = connect(sqlite_uri, experiment)
    direct, told = writers(connection)["direct"], Told()
    file = connection.sqlite
    assert file is not None
    away = file.rename(file.with_name("elsewhere.db"))
    with pytest.raises(TrackingError, match="was moved, removed or replaced"):
        direct.write([write(0)], told)
    file.touch()
    with pytest.raises(TrackingError, match="was moved, removed or replaced"):
        direct.write([write(0)], told)
    assert not told.ids
    away.replace(file)
    direct.write([write(0)], told)
    direct.close()
    assert connection.client.get_run(told.ids[0]).info.run_name == "run-0"


def test_an_unknown_schema_is_left_to_mlflow(sqlite_uri: str, experiment: str, tmp_path: Path) -> None:
    """A column more, or a trigger on a table of ours, and the client writes instead."""
    connection = connect(sqlite_uri, experiment)
    assert connection.sqlite is not None
    for change in (
        "ALTER TABLE metrics ADD COLUMN extra TEXT",
        "CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT 1; END",
    ):
        copy = tmp_path / "copy.db"
        copy.unlink(missing_ok=True)
        with sqlite3.connect(connection.sqlite) as source, sqlite3.connect(copy) as target:
            source.backup(target)
            target.execute(change)
        source.close()
        target.close()
        other = Connection(connection.client, "", connection.experiment_id, copy)
        assert SqliteWriter.over(other) is None


@pytest.mark.parametrize("direct", [True, False])
def test_a_study_of_many_long_and_weird_things(
    sqlite_uri: str, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    """300 parameters, 2500 points, values of 10,000 characters, names that MLflow refuses."""
    if not direct:
        monkeypatch.setattr(SqliteWriter, "over", classmethod(lambda cls, c: None))
    space: dict[str, Any] = {f"p{i:03}": Constant(i) for i in range(300)}
    space |= {"a[0]": Float(0, 1), "a_0_": Constant(1), "long": Categorical(["x" * 10_000, "y" * 10_000])}
    script = Script(tmp_path, space=space, name='it\'s a "study" / 100%')
    trial = script.begin()
    script.study.execution.curve(trial, "train loss (%)", list(range(2500)), [1.0] * 2500, now=script.now())
    script.finish(trial, 0.5)
    script.stop()
    connection = connect(sqlite_uri, experiment)
    projector = Projector(tmp_path, connection, OPTIONS)
    projector.open(0.0)
    projector.finish(0.0)
    assert projector.refusals == []
    assert projector.uploads.close(float(2**31))
    projector.close()
    params = script.study.trials[trial].params
    script.close()
    run = next(r for r in connection.runs("") if r.info.run_name == "trial-0000")
    assert len(run.data.params) == 303
    assert run.data.params["a_0_"] == str(params["a[0]"]) or run.data.params["a_0_"] == "1"
    assert run.data.params["long"].endswith("[10000 characters]")
    assert run.data.metrics["train loss ___"] == 1.0
    assert run.data.tags["hpo.names"].count("a[0]") == 1
    assert "hpo.params" not in run.data.tags
    exact = connection.client.download_artifacts(run.info.run_id, "config.json", str(tmp_path))
    assert json.loads(Path(exact).read_text()) == params
    assert not (tmp_path / "artifacts" / "0").exists()
    assert len(connection.client.get_metric_history(run.info.run_id, "train loss ___")) == 2500


@pytest.mark.parametrize("direct", [True, False])
def test_the_best_result_of_an_objective_with_the_longest_name_is_shown(
    sqlite_uri: str, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    """With `best_` before it MLflow refused the name, and with that the study's run was never up to date."""
    if not direct:
        monkeypatch.setattr(SqliteWriter, "over", classmethod(lambda cls, c: None))
    name = "n" * 250
    script = Script(tmp_path, objectives={name: "min"})
    script.finish(script.begin(), {name: 0.5})
    script.close()
    connection = connect(sqlite_uri, experiment)
    projector = Projector(tmp_path, connection, OPTIONS)
    run_id = projector.open(0.0)
    projector.finish(0.0)
    assert projector.refusals == []
    projector.close()
    ((key, value),) = connection.client.get_run(run_id).data.metrics.items()
    assert (key.startswith("best_nnn"), len(key), value) == (True, 250, 0.5)


def test_both_ways_show_the_same_study(
    sqlite_uri: str, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eventful study, run for run."""
    eventful(tmp_path).close()
    results = []
    for direct in (True, False):
        (tmp_path / "runs.jsonl").unlink(missing_ok=True)
        if not direct:
            monkeypatch.setattr(SqliteWriter, "over", classmethod(lambda cls, c: None))
        connection = connect(sqlite_uri, f"{experiment}-{direct}")
        projector = Projector(tmp_path, connection, OPTIONS)
        parent = projector.open(0.0)
        projector.finish(0.0)
        projector.close()
        found = list(connection.runs(""))
        ids = {r.info.run_id: r.info.run_name for r in found}
        study = {}
        for run in found:
            row, tags, *rest = shown(connection, run.info.run_id)
            study[run.info.run_name] = (row[:5], {k: ids.get(v, v) for k, v in tags.items()}, *rest)
        assert ids[parent] == "toy"
        results.append(study)
    assert results[0] == results[1]
    assert len(results[0]) == 11


def test_death_between_the_commit_and_the_notes(
    sqlite_uri: str, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs exist and nobody wrote it down: the next projector finds them by their uid."""
    eventful(tmp_path).close()
    connection = connect(sqlite_uri, experiment)

    def died(self: Projector, write: RunWrite, run_id: str) -> None:
        if write.number >= 3:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Projector, "done", died)
        projector = Projector(tmp_path, connection, OPTIONS)
        projector.open(0.0)
        with pytest.raises(Killed):
            projector.finish(0.0)
        projector.close()
    assert len(list(connection.runs(""))) == 11
    projector = Projector(tmp_path, connection, OPTIONS)
    projector.open(0.0)
    projector.finish(0.0)
    projector.close()
    runs = list(connection.runs(""))
    assert len(runs) == 11
    assert {run.info.status for run in runs} == {"FINISHED", "FAILED", "KILLED"}
