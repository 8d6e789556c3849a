"""Bad input: exit code 2, one line that says what is wrong, no traceback, and nothing half-created."""

from __future__ import annotations

import errno
import importlib.abc
import json
import os
import socket
import sys
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows._embedded import free_port
from flows._named import load_objective
from flows._workspace import Terms, open_study
from flows.cli import main
from hpo_core import Float, Limits, SearchSpace, Settings, make_strategy
from tests.flows.conftest import Hpo, Place, Said
from tests.flows.small_tables import mixed, written

OBJECTIVE = """
def loss(trial):
    return trial.suggest_float("x", 0.0, 1.0)

NUMBER = 3
"""


def refused(said: Said, place: Place, *parts: str) -> None:
    """One line on stderr with all of ``parts``; no study, no database of MLflow."""
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("hpo: ")
    assert "Traceback" not in said.err
    for part in parts:
        assert part in said.err
    assert place.studies == []
    assert not place.database.exists()


@pytest.fixture
def table(place: Place) -> str:
    """A table that is all right."""
    return written(place.folder, mixed())


@pytest.fixture
def objective(place: Place, request: pytest.FixtureRequest) -> str:
    """A file with an objective, under a name that no other test has imported."""
    name = f"objective_{abs(hash(request.node.nodeid))}"
    (place.folder / f"{name}.py").write_text(OBJECTIVE)
    return f"{name}.py"


# -- calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["tunes"], ["No such command 'tunes'"]),
        (["tune"], ["Missing argument", "objective", "hpo tune --help"]),
        (["show"], ["Missing argument", "STUDY"]),
        (["tune", "lgbm", "--trails", "3"], ["No such option: --trails", "--trials"]),
        (["tune", "lgbm", "--trials"], ["--trials", "requires an argument"]),
        (["tune", "lgbm", "--trials", "x"], ["'--trials'", "integer"]),
        (["tune", "lgbm", "--timeout", "soon"], ["'--timeout'"]),
        (["up", "--mlflow-port", "http"], ["'--mlflow-port'"]),
        (["list", "more"], ["unexpected extra argument", "more"]),
    ],
)
def test_wrong_calls_name_the_parameter(
    arguments: list[str], parts: list[str], hpo: Hpo, place: Place
) -> None:
    refused(hpo(*arguments), place, *parts)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--trials", 0, "trials must be a whole number of at least 1, got 0"),
        ("--trials", -5, "trials must be a whole number of at least 1, got -5"),
        ("--workers", 0, "workers must be a whole number of at least 1, got 0"),
        ("--timeout", -1, "timeout must be a number above 0, got -1.0"),
        ("--timeout", "nan", "timeout must be a number above 0, got nan"),
        ("--trial-timeout", 0, "trial_timeout must be a number above 0"),
        ("--trial-memory", -1, "trial_memory must be a number above 0"),
        ("--upload-checkpoints", "last", "upload_checkpoints must be one of none, best, kept, got 'last'"),
        ("--checkpoint-quota", 0, "checkpoint_quota must be a number above 0"),
        ("--max-failures", 0, "failures must be a positive number, got 0"),
        ("--stop-when", "nois", "stop_when must be noise, never or a positive number, got 'nois'"),
        ("--stop-when", 0, "stop_when must be noise, never or a positive number, got '0'"),
        ("--gpus-per-trial", -1, "gpus_per_trial must be a number above 0"),
        ("--seed", -1, "seed"),
        ("--runner", "ray", "runner must be one of local, dask, gpu, got 'ray'"),
        ("--isolation", "proces", "did you mean 'process'?"),
        ("--rule", "first", "rule must be 'last', 'best' or 'average-K', got 'first'"),
        ("--on-duplicate", "skip", "on_duplicate must be 'resample', 'reuse' or 'repeat', got 'skip'"),
        ("--max-attempts", 0, "max_attempts must be a whole number of at least 1, got 0"),
        ("--granularity", -1, "granularity must be a number of seconds of at least 0, got -1.0"),
        ("--strategy", '{"name": "asha", "et": 2}', "strategy 'asha' has no option 'et'; did you mean 'eta'"),
        ("--strategy", "tpee", "unknown strategy 'tpee'; did you mean 'tpe'"),
        ("--strategy", "tpe+ashaa", "unknown strategy 'ashaa'; did you mean 'asha'"),
        ("--name", "../escape", "study's name"),
        ("--name", "", "study's name"),
        ("--space", "nowhere.yaml", "nowhere.yaml"),
        ("--data", "my.csv", "'data' goes with the ready objectives"),
        ("--folds", 3, "'folds' goes with the ready objectives"),
        ("--register", "m", "'register' goes with the ready objectives"),
        ("--option", "folds", "--option takes KEY=VALUE, got 'folds'"),
    ],
)
def test_values_out_of_range(
    option: str, value: object, says: str, hpo: Hpo, place: Place, objective: str
) -> None:
    refused(hpo("tune", f"{objective}:loss", option, value), place, says)


def test_a_limit_that_threads_cannot_hold_is_refused_while_there_is_no_study(
    hpo: Hpo, place: Place, objective: str
) -> None:
    """It was found when the study had its folder and its run."""
    said = hpo("tune", f"{objective}:loss", "--isolation", "thread", "--trial-memory", 9)
    refused(said, place, "a trial in a thread cannot be killed at a limit such as trial_memory")


@pytest.mark.parametrize(
    "arguments",
    [
        ("lgbm", "--data", "secret/table.csv"),
        ("secret/study.py:loss",),
        ("{file}:loss", "--space", "secret/space.yaml"),
    ],
)
def test_a_folder_that_may_not_be_read_is_answered_in_a_line(
    arguments: tuple[str, ...], hpo: Hpo, place: Place, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a traceback of ``pathlib``. Root may read everything, so the refusal is made up."""
    look = Path.stat

    def stat(path: Path, **keywords: Any) -> os.stat_result:
        if "secret" in path.parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, **keywords)

    monkeypatch.setattr(Path, "stat", stat)
    arguments = tuple(argument.format(file=objective) for argument in arguments)
    refused(hpo("tune", *arguments, "--trials", 1), place, "secret", "Permission denied", "who may read")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("lgmb", "did you mean 'lgbm'?"),
        ("nowhere.py:loss", "the Python file 'nowhere.py' does not exist in"),
        ("{file}:lost", "has no function 'lost'; did you mean 'loss'?"),
        ("{file}:NUMBER", "is int, not a function of a trial"),
        ("{file}", "PATH.py:function"),
        ("no.such.module:loss", "module 'no.such.module' cannot be imported"),
    ],
)
def test_objectives_that_are_not_there(
    reference: str, says: str, hpo: Hpo, place: Place, objective: str
) -> None:
    refused(hpo("tune", reference.format(file=objective)), place, says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("def loss(trial:\n", "SyntaxError"),
        ("import not_installed_anywhere\n", "No module named 'not_installed_anywhere'"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_loaded(content: str, says: str, hpo: Hpo, place: Place) -> None:
    name = f"broken_{abs(hash(content))}.py"
    (place.folder / name).write_text(content)
    refused(hpo("tune", f"{name}:loss"), place, "cannot be loaded", says)


def test_a_file_with_the_name_of_a_module_hides_no_module(hpo: Hpo, place: Place) -> None:
    (place.folder / "json.py").write_text(OBJECTIVE)
    refused(hpo("tune", "json.py:loss"), place, "has the name of another module, 'json'; rename the file")
    assert json.loads("3") == 3


def test_a_file_whose_name_means_another_one_in_worker_processes(
    hpo: Hpo, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They import by name: with a module of that name in PYTHONPATH they ran its function, without a word."""
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    for folder in (place.folder, elsewhere):
        (folder / "of_two_folders.py").write_text(OBJECTIVE)
    monkeypatch.syspath_prepend(elsewhere)
    says = f"another module, 'of_two_folders' ({elsewhere / 'of_two_folders.py'}), which comes first"
    refused(hpo("tune", "of_two_folders.py:loss"), place, says, "rename the file")

    (place.folder / "test.py").write_text(OBJECTIVE)  # of the standard library, and not in its list
    refused(hpo("tune", "test.py:loss"), place, "has the name of another module, 'test'", "rename the file")

    (place.folder / "train.v2.py").write_text(OBJECTIVE)
    refused(hpo("tune", "train.v2.py:loss"), place, "has a dot in its name", "rename the file")


def test_a_link_to_a_file_is_that_file(hpo: Hpo, place: Place) -> None:
    """Worker processes looked for the link's name in the folder of the file."""
    folder = place.folder / "linked"
    folder.mkdir()
    (folder / "behind_a_link.py").write_text(OBJECTIVE)
    (place.folder / "a_link.py").symlink_to(folder / "behind_a_link.py")
    said = hpo("tune", "a_link.py:loss", "--trials", 1, "--name", "linked", "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert load_objective(f"{place.folder / 'a_link.py'}:loss").__module__ == "behind_a_link"


def test_a_file_inside_a_package(hpo: Hpo, place: Place) -> None:
    (place.folder / "inside.py").write_text(f"from . import other\n{OBJECTIVE}")
    refused(hpo("tune", "inside.py:loss"), place, "relative import", "name it as package.module:function")


def test_an_objective_that_cannot_be_sent_to_a_process(hpo: Hpo, place: Place) -> None:
    (place.folder / "with_lock.py").write_text(
        "import threading\n\nclass Objective:\n    def __init__(self):\n"
        "        self.lock = threading.Lock()\n\n    def __call__(self, trial):\n        return 0.0\n\n"
        "objective = Objective()\n"
    )
    refused(hpo("tune", "with_lock.py:objective"), place, "cannot be sent to worker processes", "thread")


# -- data ----------------------------------------------------------------------------------------


def test_data_that_is_not_there_or_empty(hpo: Hpo, place: Place) -> None:
    refused(hpo("tune", "lgbm"), place, "lgbm needs data")
    refused(hpo("tune", "lgbm", "--data", "my.csv"), place, "my.csv")
    refused(hpo("tune", "lgbm", "--data", "."), place, "folder")
    refused(hpo("tune", "lgbm", "--data", "sklearn:irish"), place, "did you mean 'iris'")
    for name, content in (("empty.csv", ""), ("header.csv", "a,b,y\n"), ("broken.parquet", "PAR1")):
        (place.folder / name).write_text(content)
        refused(hpo("tune", "lgbm", "--data", name), place, name)


def test_a_target_that_is_no_column_or_tells_nothing(hpo: Hpo, place: Place, table: str) -> None:
    refused(hpo("tune", "lgbm", "--data", table, "--target", "colur"), place, "'colur'", "'colour'")
    for name, column in (("one.csv", ["same"] * 160), ("none.csv", [None] * 160)):
        one_class = written(place.folder, mixed().assign(y=column), name)
        refused(hpo("tune", "lgbm", "--data", one_class, "--target", "y"), place, "'y'")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["lgbm", "--metric", "acu"], ["'acu'", "'auc'"]),
        (["lgbm", "--metric", "rmse"], ["rmse"]),
        (["lgbm", "--metric", "auc", "--metric", "logloss"], ["tunes one metric, got 'auc,logloss'"]),
        (["lgbm", "--task", "binari"], ["'binari'"]),
        (["lgbm", "--strategy", "gpp"], ["'gpp'", "'gp'"]),
        (["lgbm", "--split", "stratifed"], ["stratifed", "stratified"]),
        (["lgbm", "--folds", "1000"], ["fold"]),
        (["lgbm", "--folds", "-1"], ["folds", "-1"]),
        (["lgbm", "--split", "grouped"], ["group"]),
        (["lgbm", "--group", "persn"], ["'persn'", "'person'"]),
        (["lgbm", "--option", "max_rounds=-1"], ["max_rounds"]),
        (["lgbm", "--option", "rounds=5"], ["has no option 'rounds'", "max_rounds"]),
        (["lgbm", "--option", "trial_timeout=5"], ["no option of the objective 'lgbm'", "--trial-timeout"]),
        (["sklearn", "--estimator", "sklearn.ensemble.RandomForst"], ["RandomForst"]),
        (["sklearn", "--estimator", "no.such.Model"], ["no.such"]),
        (["torch", "--option", "max_epochs=0"], ["max_epochs"]),
    ],
)
def test_unknown_names_and_options_of_ready_objectives(
    arguments: list[str], parts: list[str], hpo: Hpo, place: Place, table: str
) -> None:
    refused(hpo("tune", *arguments, "--data", table, "--target", "y"), place, *parts)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("num_leafs: {low: 4, high: 8}", ["'num_leafs'", "'num_leaves'"]),
        ("learning_rate: {low: 0.2, high: 0.1}", ["learning_rate", "low"]),
        ("learning_rate: {low: 0.0, high: 0.1, log: true}", ["learning_rate", "log"]),
        ("learning_rate: {low: -1, high: 0.1, log: true}", ["learning_rate", "log"]),
        ("learning_rate: {low: 0.01, high: 0.1, default: 0.5}", ["learning_rate", "default"]),
        ("learning_rate: {lo: 0.01, high: 0.1}", ["learning_rate", "'lo'"]),
        ("- a list", ["got ['a list']"]),
        ("a: b: c", ["space.yaml"]),
        ("", ["space.yaml"]),
    ],
)
def test_space_files_that_make_no_sense(
    content: str, parts: list[str], hpo: Hpo, place: Place, table: str
) -> None:
    (place.folder / "space.yaml").write_text(content)
    said = hpo("tune", "lgbm", "--data", table, "--target", "y", "--space", "space.yaml")
    refused(said, place, "space.yaml", *parts)


# -- surroundings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("http://127.0.0.1:{port}", "nothing answers at 127.0.0.1:{port}"),
        ("http://user:secret@127.0.0.1:{port}", "user:***@"),
        ("http://127.0.0.1:http", "port"),
        ("http://user:a/secret@127.0.0.1:{port}", "write / as %2F"),
        ("gopher://somewhere", "gopher"),
        ("sqlite:////dev/null/mlflow.db", "/dev/null"),
    ],
)
def test_a_tracking_server_that_does_not_answer(
    uri: str, says: str, hpo: Hpo, place: Place, objective: str
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it either
        port = nobody.getsockname()[1]
        said = hpo("tune", f"{objective}:loss", "--tracking-uri", uri.format(port=port))
    refused(said, place, says.format(port=port), "run offline")
    assert "secret" not in said.err


def test_a_name_that_the_registry_will_not_take_is_refused_before_hours_of_training(
    hpo: Hpo, place: Place, table: str
) -> None:
    for name in ("a/b", "models:/a", " "):
        said = hpo("tune", "lgbm", "--data", table, "--target", "y", "--register", name)
        refused(said, place, "a registered model's name", repr(name))


def test_ports_that_cannot_be_had(hpo: Hpo, place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(hpo("up", "--mlflow-port", port), place, f"port {port} is in use", "--mlflow-port")
        refused(hpo("up", "--mlflow-port", 0), place, "--mlflow-port takes a port from 1 to 65535, got 0")
    refused(hpo("up", "--prefect-port", 70000), place, "--prefect-port takes a port from 1 to 65535")
    assert not (place.folder / ".hpo").exists()


def test_servers_whose_logs_have_no_place(hpo: Hpo, place: Place) -> None:
    """A folder that may not be written to, or a file where it should be; it was a traceback."""
    (place.folder / ".hpo").write_text("")
    ports = ("--mlflow-port", free_port(), "--prefect-port", free_port())
    refused(hpo("up", *ports), place, "logs cannot be written to", str(place.folder / ".hpo"), "HPO_HOME")


def test_a_working_folder_that_was_deleted(hpo: Hpo, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a checkout, say, while a shell was in it; it was a traceback."""
    gone = place.folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for command in (("list",), ("show", "mine")):
        said = hpo(*command)
        assert (said.code, said.out) == (2, "")
        assert "the folder that this runs in was deleted" in said.err


# -- studies -------------------------------------------------------------------------------------


def existing(name: str, place: Place, **more: object) -> None:
    """A study that was created, and not run."""
    terms = {
        "space": SearchSpace({"x": Float(0.0, 1.0)}),
        "objectives": {"loss": "min"},
        "strategy": make_strategy("random"),
        "limits": Limits(trials=3),
        "settings": Settings(),
        "seed": 0,
        **more,
    }
    open_study(Terms(name=name, **terms), now=1.0).journal.close()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "command", ["show", "why", "resume", "cancel", "sync", "resync", "delete", "promote"]
)
def test_studies_that_do_not_exist(command: str, hpo: Hpo, place: Place) -> None:
    fetch = "; `hpo resume nothing --tracking-uri URI` fetches one that MLflow has"
    refused(hpo(command, "nothing"), place, "there is no study 'nothing'", fetch)
    assert not place.database.exists()
    existing("something", place)
    said = hpo(command, "somthing")
    assert (said.code, said.out) == (2, "")
    assert "did you mean 'something'?" in said.err


def test_a_study_whose_server_is_gone_can_be_deleted_here(hpo: Hpo, place: Place) -> None:
    """Nothing said how."""
    existing("old", place)
    said = hpo("delete", "old", "--tracking-uri", f"http://127.0.0.1:{free_port()}")
    assert said.code == 2
    assert said.err.endswith("with --keep-runs\n")
    assert hpo("delete", "old", "--keep-runs").code == 0


def test_commands_to_copy_hold_for_a_name_with_a_space(hpo: Hpo, place: Place) -> None:
    existing("my study", place)
    assert "`hpo resume 'my study'` goes on with it" in hpo("show", "my study").out
    assert "`hpo resume 'my study'` goes on with it" in hpo("cancel", "my study").out
    for look in ("show", "why"):
        told = hpo(look, "my study").out
        assert "cancelled: cancelled on request; `hpo resume 'my study'` goes on with it" in told


def test_a_name_that_is_another_studys_offers_to_resume_or_rename(
    hpo: Hpo, place: Place, table: str, objective: str
) -> None:
    existing("mine", place, identity={"objective": "lgbm", "data": "another"})
    before = place.study("mine").history.length
    for arguments in (
        [f"{objective}:loss"],
        ["lgbm", "--data", table, "--target", "y"],
    ):
        said = hpo("tune", *arguments, "--name", "mine")
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert "study 'mine' exists and its " in said.err
        assert "Run with the same terms to resume it, or choose another --name" in said.err
    assert place.study("mine").history.length == before
    assert not place.database.exists()


def test_another_space_is_refused_unless_it_was_edited_on_purpose(hpo: Hpo, place: Place) -> None:
    (place.folder / "spaced.py").write_text(
        "from hpo_core import Float\n\ndef loss(trial):\n    return trial.params['x']\n\n"
        "loss.space = {'x': Float(0.0, 2.0)}\n"
    )
    existing("mine", place, identity={"objective": "spaced:loss"})
    said = hpo("tune", "spaced.py:loss", "--name", "mine")
    assert said.code == 2
    assert "its search space is another one (--edit-space goes on with the new one)" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["extend", "mine"],
            "one of --trials, --timeout, --max-total-steps, --max-cost, --max-failures",
        ),
        (
            ["extend", "mine", "--trials", 2],
            "has trials 3 already; give more than that, got 2, or go on as it is with `hpo resume mine`",
        ),
        (["extend", "mine", "--trials", -1], "has trials 3 already"),
        (["extend", "mine", "--timeout", 9], "has no limit on timeout"),
        (["extend", "mine", "--max-cost", 9], "has no limit on max_cost"),
        (["retry", "mine"], "--failed, or --trial N"),
        (["why", "mine", 7], "has no trials, got 7"),
        (["promote", "mine"], "has no complete trial to promote"),
        (["promote", "mine", "--trial", 7], "has no trials, got 7"),
        (["promote", "mine", "--margin", -1], "margin"),
        (["promote", "mine", "--rollback", "--alias", ""], "an alias has letters"),
        (["promote", "mine", "--rollback", "--alias", "Latest"], "neither latest nor v and a number"),
        (["promote", "mine", "--rollback", "--model", "a/b"], "neither '/' nor ':', got 'a/b'"),
        (["resume", "mine"], "does not say how it was started"),
    ],
)
def test_what_a_study_cannot_do(arguments: list[object], says: str, hpo: Hpo, place: Place) -> None:
    existing("mine", place)
    said = hpo(*arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert says in said.err
    assert not place.database.exists()


def test_where_nothing_is_complete_there_is_no_best_trial_to_run_again(hpo: Hpo, place: Place) -> None:
    existing("mine", place)
    said = hpo("rerun", "mine")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "hpo rerun" not in said.err  # there is no trial yet


def test_a_study_that_is_driven_is_refused_with_its_own_code(hpo: Hpo, place: Place) -> None:
    terms = Terms(
        name="mine",
        space=None,
        objectives={"loss": "min"},
        strategy=make_strategy("random"),
        limits=Limits(trials=3),
        settings=Settings(),
        seed=0,
    )
    driven = open_study(terms, now=1.0)
    try:
        said = hpo("delete", "mine", "--keep-runs")
        assert (said.code, said.out, said.err.count("\n")) == (3, "", 1)
        assert "is being driven by this process already; wait for it" in said.err
        assert "stop it first: `hpo cancel mine` does so" in said.err
        assert hpo("show", "mine").out.startswith("study   mine, running")
        assert "asked the driver" in hpo("cancel", "mine").out
    finally:
        driven.journal.close()


def test_what_is_no_address_of_a_dask_scheduler_is_shown_without_its_password(
    hpo: Hpo, tracked: Place
) -> None:
    pytest.importorskip("distributed")
    (tracked.folder / "study.py").write_text(OBJECTIVE)
    dask = ("--runner", "dask", "--dask", "tcp://me:hidden@h:1")
    said = hpo("tune", "study.py:loss", "--trials", 1, "--offline", *dask)
    assert said.code == 2
    assert "tcp://host:8786" in said.err
    assert "hidden" not in said.err
    assert tracked.studies == []


def test_a_damaged_journal_is_named(hpo: Hpo, place: Place) -> None:
    existing("mine", place)
    journal = place.folder / ".hpo" / "studies" / "mine" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"random", b"randon"))
    said = hpo("show", "mine")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "line 1" in said.err


def test_a_study_of_a_later_version_is_named_and_hides_no_other(hpo: Hpo, place: Place) -> None:
    existing("mine", place)
    existing("later", place)
    journal = place.folder / ".hpo" / "studies" / "later" / "journal.jsonl"
    first, *rest = journal.read_bytes().splitlines(keepends=True)
    body = first[:-19] + b',"version":99}'
    journal.write_bytes(body[:-1] + f',"crc":"{zlib.crc32(body):08x}"}}\n'.encode() + b"".join(rest))
    said = hpo("show", "later")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "version 99" in said.err
    assert "upgrade mlflow-hpo" in said.err
    listed = hpo("list")
    assert listed.code == 0
    assert "mine" in listed.out
    assert "later: the journal has version 99" in listed.err


def test_what_would_be_deleted_is_counted_without_making_an_experiment(hpo: Hpo, tracked: Place) -> None:
    from mlflow import MlflowClient

    existing("mine", tracked)
    said = hpo("delete", "mine", "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert "in MLflow 0 runs" in said.out
    assert MlflowClient().get_experiment_by_name("mine") is None


def test_a_table_of_another_question_needs_another_name(hpo: Hpo, place: Place) -> None:
    """The default name follows the data and the question, so that only an explicit one can clash."""
    first = pd.DataFrame({"a": range(40), "y": [0, 1] * 20})
    for name in ("a.csv", "b.csv"):
        first.to_csv(Path(name), index=False)
    names = set()
    for arguments in (["--data", "a.csv"], ["--data", "a.csv", "--metric", "logloss"]):
        said = hpo("tune", "lgbm", "--target", "y", "--dry-run", "--json", *arguments)
        names.add(json.loads(said.out)["study"])
    assert len(names) == 2
    assert place.studies == []


class _Interrupted(importlib.abc.MetaPathFinder):
    """Ctrl-C comes while the command line is imported."""

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == "flows.cli._main":
            raise KeyboardInterrupt


def test_an_interruption_of_the_first_imports_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command was typed by mistake: half a second of Ctrl-C showed the innards of the libraries."""
    monkeypatch.delitem(sys.modules, "flows.cli._main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Interrupted(), *sys.meta_path])
    assert main(["list"]) == 130
