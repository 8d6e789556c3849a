"""Studies that begin with what others found: earlier studies, Optuna, Hyperopt; in Python and by command."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hyperopt
import numpy as np
import optuna
import pandas
import pytest

from flows import Result, from_csv, from_hyperopt, from_optuna, from_study, tune
from flows._warm_start import begin_with, origins_of
from flows._workspace import study_folder
from flows.cli import main
from flows.sources import parse_source
from hpo_core import Categorical, Float, InputError, Int, Journal, SearchSpace, Study, TrialState
from hpo_core.warm_start import Fitting, Outcome, Past, adopt, fit
from tests.databases import copy_database
from tests.flows.conftest import Hpo, Place
from tests.flows.interrupted import killed_at

OBJECTIVE = '''
"""An objective with a space, as a user writes it."""

from hpo_core import Float, Int


def loss(trial):
    if trial.number == 2:
        raise ValueError("it broke")
    return trial.params["x"] ** 2 + trial.params["y"]


loss.space = {"x": Float(-5.0, 5.0), "y": Int(1, 3)}


def narrow(trial):
    return trial.params["x"] ** 2


narrow.space = {"x": Float(-5.0, 0.0)}


def asking(trial):
    return trial.suggest_float("x", -5.0, 5.0) ** 2 + trial.suggest_int("y", 1, 2)


def gain(trial):
    return {"gain": -(trial.params["x"] ** 2)}


gain.space = {"x": Float(-5.0, 5.0)}
gain.objectives = {"gain": "max"}
'''


@pytest.mark.parametrize("after", range(1, 4))
def test_a_driver_that_is_killed_as_it_begins_leaves_nothing_out(
    monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Wherever it is: the next one notes what is missing."""
    study = Study({"x": Float(0.0, 1.0)}, strategy="random")
    outcomes = {name: Outcome(key=name, params={"x": 0.5}, values={"loss": 1.0}) for name in ("a", "b")}
    past = [
        fit(study.space, {"loss": "min"}, Past(source=f"csv:{name}", outcomes=[outcome]))
        for name, outcome in outcomes.items()
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Study, "note", killed_at(after))
        with pytest.raises(SystemExit):
            begin_with(study, past, 0.0)
    begin_with(study, [each for each in past if each.source not in origins_of(study)], 1.0)
    assert origins_of(study) == {"csv:a": 1, "csv:b": 1}
    assert len(study.state.observed) == 2
    tags = [note.data["tags"] for note in study.state.notes if note.topic == "tags"]
    assert tags[-1] == {"hpo.warm_start": "csv:a (1 result), csv:b (1 result)"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prefect_server: None, empty_database: Path) -> Path:
    """A folder with the finished study ``old``: six trials, one of which failed."""
    folder = tmp_path_factory.mktemp("finished")
    copy_database(empty_database, folder / "mlflow.db")
    (folder / "mine.py").write_text(OBJECTIVE)
    command = ["tune", "mine.py:loss", "--name", "old", "--trials", "6", "--strategy", "random"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        patch.delenv("HPO_HOME", raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        assert main([*command, "--isolation", "thread", "--workers", "1"]) == 0
    del sys.modules["mine"]
    return folder


@pytest.fixture
def begun(tracked: Place, finished: Path) -> Place:
    """A copy of it to work in."""
    shutil.copytree(finished / ".hpo", tracked.folder / ".hpo")
    shutil.copy(finished / "mine.py", tracked.folder)
    tracked.database.unlink()
    copy_database(finished / "mlflow.db", tracked.database)
    return tracked


def test_a_study_begins_with_an_earlier_one(begun: Place, hpo: Hpo) -> None:
    """It knows the results from the start, costs no trial for them, says so, and imports them once."""
    command = (
        *("tune", "mine.py:gain", "--name", "new", "--strategy", "tpe", "--isolation", "thread"),
        *("--workers", 1, "--warm-start", "study:old?gain=-loss"),
    )
    said = hpo(*command, "--trials", 3, "--dry-run")
    line = "warm start from study:old: 6 results (1 of them failed); ignored y, which the space does not have"
    assert line in said.out
    assert begun.studies == ["old"]
    said = hpo(*command, "--trials", 3)
    assert said.code == 0, said.err
    assert said.out.count(line) == 1
    study = begun.study("new")
    assert study.history.evidence.trials.tolist() == [-1] * 6 + [0, 1, 2]
    old = begun.study("old")
    assert study.history.evidence.values[0, 0] == old.trials[0].values["loss"]
    shown = hpo("show", "new")
    assert line in " ".join(shown.out.split())
    assert json.loads(hpo("show", "new", "--json").out)["warm_start"] == {"study:old": 6}
    # The source may be gone by the time that the study is resumed.
    shutil.rmtree(begun.folder / ".hpo" / "studies" / "old")
    again = hpo(*command, "--trials", 4)
    assert again.code == 0, again.err
    assert (begun.study("new").history.evidence.trials < 0).sum() == 6
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{begun.database}")
    runs = client.search_runs(
        [client.get_experiment_by_name("new").experiment_id], "tags.`hpo.role` = 'study'"
    )
    assert [run.data.tags["hpo.warm_start"] for run in runs] == ["study:old (6 results)"]


def test_a_study_that_only_mlflow_has(begun: Place, hpo: Hpo) -> None:
    """Its journal is read from there; nothing of it stays here. Its runs are as good as its journal."""
    shutil.rmtree(begun.folder / ".hpo")
    terms = (
        *("--strategy", "random", "--isolation", "thread", "--workers", 1, "--trials", 1),
        *("--warm-start", "study:old", "--warm-start", "mlflow:old"),
    )
    said = hpo("tune", "mine.py:narrow", "--name", "new", *terms)
    assert said.code == 0, said.err
    assert begun.studies == ["new"]
    assert "with 'x' outside its range" in said.out
    rows = (begun.study("new").history.evidence.trials < 0).sum()
    assert 1 <= rows <= 4
    assert said.out.count("warm start from") == 2


@pytest.mark.parametrize(
    "source, says",
    [
        ("study:odl", "there is no study 'odl' to start from, neither in .* did you mean 'old'"),
        ("study:new", "cannot start from itself"),
        ("study:old?x=rate", "nothing in study:old fits this study: 6 without 'x'"),
        ("study:old?loss=acc", "study:old has no metric 'acc'"),
        ("study:old?loss=-loss", "if one is the other with its sign turned, say loss=loss"),
        ("study:old?x", "OURS=THEIRS, got 'x' in .* within a name is written %3F"),
        ("studies:old", "did you mean 'study'"),
        ("mlflow:none", "the experiment 'none' does not exist"),
        ("optuna:sqlite:///none.db#s", "does not exist"),
        ("optuna:none.log", "there is no Optuna journal none.log"),
        ("optuna:sqlite:///mlflow.db#s", "not one of Optuna's"),
        ("optuna:mlflow.db#s", "no Optuna journal; give its URL, sqlite:///mlflow.db"),
    ],
)
def test_a_source_that_cannot_be_used_leaves_nothing(begun: Place, hpo: Hpo, source: str, says: str) -> None:
    """Exit code 2 and one line."""

    def things() -> list[str]:
        """What is there, without what SQLite and Python keep beside their files, as they see fit."""
        names = {p.name for p in begun.folder.iterdir()} - {"__pycache__"}
        return sorted(name for name in names if "mlflow.db-" not in name)

    before = things()
    said = hpo("tune", "mine.py:loss", "--name", "new", "--trials", 3, "--warm-start", source)
    assert (said.code, said.err.count("\n")) == (2, 1), said.err
    assert re.search(says, said.err), said.err
    assert begun.studies == ["old"]
    assert things() == before


# -- other optimisers --------------------------------------------------------------------------

MIXED = SearchSpace({"x": Float(-2.0, 2.0), "n": Int(1, 8), "kind": Categorical(["a", "b"])})


def ours(source: Any, objectives: dict[str, str] | None = None) -> Fitting:
    """What of a source fits the space that the others searched."""
    return fit(MIXED, objectives or {"loss": "min"}, source.read(None))


def optunas(storage: Any) -> Any:
    """A study of Optuna with an end of each kind."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", -2.0, 3.0)
        n = trial.suggest_int("n", 1, 8)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            raise ValueError("broke")
        return float(x**2 + n + (kind == "b"))

    study = optuna.create_study(
        storage=storage, study_name="theirs", sampler=optuna.samplers.RandomSampler(0)
    )
    study.enqueue_trial({"x": 2.5, "n": 1, "kind": "a"})
    study.optimize(objective, n_trials=6, catch=ValueError)
    study.enqueue_trial({"x": 0.0, "n": 1, "kind": "a"})
    return study


def test_a_table_of_results(tmp_path: Path) -> None:
    """Columns by name, text read by the parameter's type, rows without a result or out of range left out."""
    text = (
        "kind,n,x,val_loss,who\n"
        "a,3,0.5,1.25,me\n"
        "b,4.0,1e-1,2.5,me\n"
        "b,4,99,2.5,me\n"
        "a,1,0.25,,nobody\n"
        "a,3,0.5,1.25,me\n"
    )
    (tmp_path / "by hand.csv").write_text(text, encoding="utf-8-sig")
    source = parse_source(f"csv:{tmp_path}/by%20hand.csv?loss=val_loss")
    found = ours(source)
    assert [(p, v) for _, p, v in found.rows] == [
        ({"x": 0.5, "n": 3, "kind": "a"}, {"loss": 1.25}),
        ({"x": 0.1, "n": 4, "kind": "b"}, {"loss": 2.5}),
        ({"x": 0.5, "n": 3, "kind": "a"}, {"loss": 1.25}),
    ]
    assert found.skipped == {"with 'x' outside its range": 1, "without the metric 'val_loss'": 1}
    assert found.ignored == ["who"]
    keys = [key for key, _, _ in found.rows]
    assert len(set(keys)) == 3
    assert [key for key, _, _ in ours(source).rows] == keys
    turned = ours(from_csv(tmp_path / "by hand.csv", metrics={"gain": "-val_loss"}), {"gain": "max"})
    assert [v["gain"] for _, _, v in turned.rows] == [-1.25, -2.5, -1.25]
    (tmp_path / "tabs.tsv").write_text(text.replace(",", "\t"))
    assert len(ours(from_csv(tmp_path / "tabs.tsv", metrics={"loss": "val_loss"})).rows) == 3


def test_a_table_as_pandas_writes_it(tmp_path: Path) -> None:
    """With its index as a first column that has no name; a spreadsheet may leave such columns at the end."""
    past = pandas.DataFrame({"x": [0.5, 0.1], "n": [3, 4], "kind": ["a", "b"], "loss": [1.25, 2.5]})
    past.to_csv(tmp_path / "past.csv")
    past.to_csv(tmp_path / "semicolons.csv", sep=";", decimal=",")
    past.to_csv(tmp_path / "tabs.tsv", sep="\t")
    (tmp_path / "wide.csv").write_text("x,n,kind,loss,,\n0.5,3,a,1.25,,\n0.1,4,b,2.5,,seen\n")
    for name in ("past.csv", "wide.csv", "semicolons.csv", "tabs.tsv"):
        found = ours(from_csv(tmp_path / name))
        assert [(p, v) for _, p, v in found.rows] == [
            ({"x": 0.5, "n": 3, "kind": "a"}, {"loss": 1.25}),
            ({"x": 0.1, "n": 4, "kind": "b"}, {"loss": 2.5}),
        ]
        assert not found.ignored


def test_a_table_of_a_space_with_conditions(tmp_path: Path) -> None:
    """An empty field is a parameter that was inactive; a comma in a choice is no decimal one."""
    space = SearchSpace(
        {"layers": Categorical(["[1,2]", "[3]"]), "inner": Float(0.0, 1.0).when("layers", "[1,2]")}
    )
    text = "layers;inner;loss\n[1,2];0,5;1,25\n\n[3];;2,5\n[1,2];;3\n"
    (tmp_path / "t.csv").write_text(text)
    found = fit(space, {"loss": "min"}, from_csv(tmp_path / "t.csv").read(None))
    assert [(p, v) for _, p, v in found.rows] == [
        ({"layers": "[1,2]", "inner": 0.5}, {"loss": 1.25}),
        ({"layers": "[3]"}, {"loss": 2.5}),
    ]
    assert found.skipped == {"without 'inner'": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"csv:.*t\.csv cannot be read \(.*No such file"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"", r"needs a header that names each column once, got \[\]"),
        (b"x,n,x\n1,2,3\n", "names each column once"),
        (b",,\n1,2,3\n", r"names each column once, got \['', '', ''\]"),
        (b"x,n,kind,loss\n1,2,a\n", "row 2 has more or fewer than 4 fields"),
        (b"x,n,kind,loss\n", "nothing in csv:.* fits this study: it has no results"),
        (b"x,n,kind,score\n1,2,a,3\n", "has no metric 'loss'"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        ours(from_csv(tmp_path / "t.csv"))


@pytest.mark.parametrize("kind", ["database", "journal", "object"])
def test_from_an_optuna_storage(tmp_path: Path, kind: str) -> None:
    """Values as they are, failures as failures, pruned and waiting trials left out; read twice alike."""
    if kind == "journal":
        path = str(tmp_path / "journal.log")
        backend = optuna.storages.journal.JournalFileBackend(path)
        study = optunas(optuna.storages.JournalStorage(backend))
        source = parse_source(f"optuna:{path}")
    else:
        url = f"sqlite:///{tmp_path / 'optuna.db'}"
        study = optunas(url)
        source = parse_source(f"optuna:{url}#theirs") if kind == "database" else from_optuna(study)
    found, again = ours(source), ours(source)
    assert [row[0] for row in found.rows] == [row[0] for row in again.rows]
    done = [t for t in study.trials if t.state.name == "COMPLETE" and t.params["x"] <= 2.0]
    assert [(p, v["loss"]) for _, p, v in found.rows if v["loss"] == v["loss"]] == [
        (t.params, t.value) for t in done
    ]
    outside = 5 - 1 - len(done)
    assert found.failures == 1
    assert found.skipped["pruned"] == 1
    assert found.skipped["without an end"] == 1
    assert found.skipped["with 'x' outside its range"] == outside >= 1


def test_of_several_studies_of_optuna_one_is_named_as_it_has_to_be_written(tmp_path: Path) -> None:
    """Its name may have what the command line reads otherwise."""
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    for name in ("a #1?", "b"):
        optuna.create_study(storage=url, study_name=name)
    with pytest.raises(InputError, match=r"2 studies \(a #1\?, b\); say which, as in optuna:(.*)") as refused:
        parse_source(f"optuna:{url}").read(None)
    assert str(refused.value).endswith(f"optuna:{url}#a%20%231%3F")


def test_what_optuna_calls_better_must_be_better_here(tmp_path: Path) -> None:
    """Its only objective is ours, if the direction is; several are taken by their order."""
    study = optunas(None)
    with pytest.raises(InputError, match="score=-value 0"):
        ours(from_optuna(study), {"score": "max"})
    found = ours(from_optuna(study, metrics={"score": "-value 0"}), {"score": "max"})
    assert max(v["score"] for _, _, v in found.rows if v["score"] == v["score"]) == -min(
        t.value for t in study.trials if t.value is not None and t.params["x"] <= 2.0
    )
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    optunas(url)
    # As in docs/cli.md; Optuna seldom has a name for it.
    named = ours(parse_source(f"optuna:{url}#theirs?score=-loss"), {"score": "max"})
    assert repr([row[1:] for row in named.rows]) == repr([row[1:] for row in found.rows])
    with pytest.raises(InputError, match="has no study 'mine'"):
        ours(from_optuna(url, "mine"))


def test_the_bounds_of_an_earlier_study_are_not_those_of_this_one(tmp_path: Path) -> None:
    """What broke a bound there has been measured and counts; what failed there, or before it, has not."""
    space, folder = {"x": Float(0.0, 1.0)}, study_folder("old", tmp_path)
    folder.mkdir(parents=True)
    bound = {"outcome_constraints": ["ms <= 10"]}
    with Journal(folder / "journal.jsonl") as journal:
        old = Study(space, strategy="random", name="old", settings=bound, journal=journal)
        old.observe({"x": 0.1}, {"loss": 0.1, "ms": 15.0})
        old.observe({"x": 0.2}, {"loss": math.nan})
        for ms in (5.0, 20.0):
            old.tell(old.ask(), {"loss": ms / 100, "ms": ms})
        raised = old.ask()
        old.report(raised, 1, {"loss": 0.3})
        old.tell(raised, state="infeasible")
    past = from_study("old", home=tmp_path).read(None)
    new = Study(space, strategy="random", settings={"outcome_constraints": ["ms <= 17"]})
    assert adopt(new, fit(new.space, new.objectives, past, bounded=["ms"])) == 5
    np.testing.assert_array_equal(
        new.history.evidence.values[:, 0], [0.1, math.nan, 0.05, math.nan, math.nan]
    )
    states = [TrialState(state).label for state in new.history.evidence.states.tolist()]
    assert states == ["complete", "failed", "complete", "infeasible", "failed"]
    assert new.history.evidence.measured[3, 0] == 0.2
    free = fit(new.space, new.objectives, past)
    assert [values["loss"] for _, _, values in free.rows] == pytest.approx(
        [0.1, math.nan, 0.05, 0.2, math.nan], nan_ok=True
    )


def test_what_was_infeasible_for_optuna_is_a_failure() -> None:
    """Above 0 is broken, as Optuna has it."""
    study = optuna.create_study()
    space = {"x": optuna.distributions.FloatDistribution(-2.0, 2.0)}
    for number, constraints in enumerate(([-1.0, 0.0], [-1.0, 0.5], [0.1, -1.0], None)):
        attributes = {} if constraints is None else {"constraints": constraints}
        params = {"x": number / 4}
        study.add_trial(
            optuna.create_trial(params=params, distributions=space, value=1.0, system_attrs=attributes)
        )
    found = fit(SearchSpace({"x": Float(-2.0, 2.0)}), {"loss": "min"}, from_optuna(study).read(None))
    assert [values["loss"] == 1.0 for _, _, values in found.rows] == [True, False, False, True]
    assert found.failures == 2


def test_a_loss_of_hyperopts_is_the_only_objective_whatever_its_name() -> None:
    """With numbers as numpy has them, and without what a branch that was not taken would have had."""

    def objective(point: dict[str, Any]) -> dict[str, Any]:
        return {"loss": point["kind"].get("x", 1.0), "ms": np.float32(2.5), "status": hyperopt.STATUS_OK}

    space = {"kind": hyperopt.hp.choice("kind", [{"x": hyperopt.hp.uniform("x", 0, 1)}, {}])}
    trials = hyperopt.Trials()
    hyperopt.fmin(
        objective, space, hyperopt.rand.suggest, 9, trials=trials, rstate=np.random.default_rng(0),
        show_progressbar=False, verbose=False,
    )  # fmt: skip
    declared = SearchSpace(
        {"kind": Categorical(["with", "without"]), "x": Float(0.0, 1.0).when("kind", "with")}
    )
    source = from_hyperopt(trials, choices={"kind": ["with", "without"]})
    found = fit(declared, {"error": "min"}, source.read(None), bounded=["ms"])
    assert len(found.rows) == 9
    assert {params["kind"] for _, params, _ in found.rows} == {"with", "without"}
    for _, params, values in found.rows:
        assert values == {"error": params.get("x", 1.0), "ms": 2.5}
    with pytest.raises(InputError, match="takes the Trials object itself"):
        from_hyperopt(object())


def test_from_hyperopts_trials() -> None:
    """Choices by their options, whole numbers as such, failures as failures."""

    def objective(point: dict[str, Any]) -> dict[str, Any]:
        if point["n"] == 8:
            return {"status": hyperopt.STATUS_FAIL}
        return {"loss": point["x"] ** 2 + point["n"], "status": hyperopt.STATUS_OK}

    hp = hyperopt.hp
    space = {
        "x": hp.uniform("x", -2, 2),
        "n": hp.quniform("n", 1, 8, 1),
        "kind": hp.choice("kind", ["b", "a"]),
    }
    trials = hyperopt.Trials()
    hyperopt.fmin(
        objective, space, hyperopt.rand.suggest, 25, trials=trials, rstate=np.random.default_rng(0),
        show_progressbar=False, verbose=False,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"numbers of options for 'kind'.*choices=\{'kind': \[...\]\}"):
        ours(from_hyperopt(trials))
    found = ours(from_hyperopt(trials, choices={"kind": ["b", "a"]}))
    assert len(found.rows) == 25
    assert found.failures == trials.statuses().count("fail") >= 1
    for document, (_, params, values) in zip(trials.trials, found.rows, strict=True):
        point = hyperopt.space_eval(space, {k: v[0] for k, v in document["misc"]["vals"].items()})
        assert params == point
        assert type(params["n"]) is int
        if document["result"]["status"] == "ok":
            assert values == {"loss": document["result"]["loss"]}


def drawn(seed: int) -> hyperopt.Trials:
    """Trials that chose one of three numbers, and drew one of three others."""
    space = {"batch": hyperopt.hp.choice("batch", [1, 2, 4]), "layers": hyperopt.hp.randint("layers", 1, 4)}
    trials = hyperopt.Trials()
    hyperopt.fmin(
        lambda point: point["batch"] + point["layers"], space, hyperopt.rand.suggest, 12, trials=trials,
        rstate=np.random.default_rng(seed), show_progressbar=False, verbose=False,
    )  # fmt: skip
    return trials


def test_the_number_of_an_option_of_hyperopts_is_not_taken_for_the_option() -> None:
    """Of the options 1, 2 and 4 the second is number 1. Those of `randint` are values, and look the same."""
    space = SearchSpace({"batch": Categorical([1, 2, 4]), "layers": Int(1, 3)})
    with pytest.raises(InputError, match=r"has numbers of options for 'batch' and not the options; say what"):
        fit(space, {"loss": "min"}, from_hyperopt(drawn(0)).read(None))
    told = from_hyperopt(drawn(0), choices={"batch": [1, 2, 4]})
    found = fit(space, {"loss": "min"}, told.read(None))
    assert all(values["loss"] == params["batch"] + params["layers"] for _, params, values in found.rows)
    assert "the numbers of 'layers' are taken as they are; if they count options, say what" in str(found)
    unknown = str(fit(None, {"loss": "min"}, from_hyperopt(drawn(0)).read(None)))
    assert "the numbers of 'batch' are taken as they are" in unknown
    as_numbers = SearchSpace({"batch": Int(0, 4), "layers": Int(1, 3)})
    assert "the numbers of 'batch'" in str(
        fit(as_numbers, {"loss": "min"}, from_hyperopt(drawn(0)).read(None))
    )


def test_trials_of_two_searches_of_hyperopts_are_two_sources() -> None:
    """Both count their trials from 0, so the second search was taken for the first and left out."""
    same = [from_hyperopt(drawn(0)).label for _ in range(2)]
    assert same[0] == same[1] != from_hyperopt(drawn(1)).label


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    """Neither a path nor bytes."""
    for given in (tmp_path / "trials.pkl", str(tmp_path / "trials.pkl"), b"\x80\x04"):
        with pytest.raises(InputError, match="takes the Trials object itself"):
            from_hyperopt(given)


def test_an_objective_that_just_asks_begins_with_runs_by_hand(begun: Place, hpo: Hpo) -> None:
    """They are matched with what it asks for; those that it has no room for are counted, not hidden."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{begun.database}")
    experiment = client.create_experiment("by-hand")
    for x, y in [("0.25", "1"), ("-3", "2.0"), ("0.5", "3"), ("1e99", "1")]:
        run = client.create_run(experiment).info.run_id
        for name, value in {"x": x, "y": y, "author": "me"}.items():
            client.log_param(run, name, value)
        client.log_metric(run, "loss", 1.0)
        client.set_terminated(run)
    terms = ("--strategy", "random", "--isolation", "thread", "--workers", 1, "--trials", 2)
    said = hpo("tune", "mine.py:asking", "--name", "new", *terms, "--warm-start", "mlflow:by-hand")
    assert said.code == 0, said.err
    assert "its parameters are matched with those that the objective asks for" in " ".join(said.out.split())
    study = begun.study("new")
    evidence = study.history.evidence
    known = [study.space.decode(x) for x in evidence.X[evidence.trials < 0]]
    assert sorted((round(p["x"], 9), p["y"]) for p in known) == [(-3.0, 2), (0.25, 1)]
    shown = " ".join(hpo("show", "new").out.split())
    assert "2 of 4 results fit what the objective has asked for so far" in shown


def valley(trial: Any) -> float:
    """Best at 0.7."""
    return float(abs(trial.params["x"] - 0.7))


def test_python_takes_sources_as_records_and_as_text(tracked: Place) -> None:
    """Several of them; a second call with another source adds it, and the first is not read again."""
    run = partial(
        tune, valley, space={"x": Float(0.0, 1.0)}, isolation="thread", workers=1, tell=lambda line: None
    )
    first: Result = run(name="first", trials=4, strategy="random")
    second = run(name="second", trials=4, strategy="random", seed=1)
    new = run(name="third", trials=2, strategy="tpe", warm_start=from_study("first"))
    assert (new.study.history.evidence.trials < 0).sum() == 4
    new = run(name="third", trials=3, strategy="tpe", warm_start=[from_study("first"), "study:second"])
    assert (new.study.history.evidence.trials < 0).sum() == 8
    known = sorted(new.study.history.evidence.values[new.study.history.evidence.trials < 0, 0])
    trials = [*first.study.trials, *second.study.trials]
    assert known == pytest.approx(sorted(t.values["loss"] for t in trials))
    # What a study began with is part of what it knows: it comes along, once.
    last = run(name="fourth", trials=1, strategy="random", warm_start=["study:third", "study:first"])
    assert (last.study.history.evidence.trials < 0).sum() == 8 + 3
    with pytest.raises(InputError, match="warm_start takes from_study"):
        run(name="fifth", warm_start=7)


def test_what_is_known_already_is_not_tried_first(begun: Place) -> None:
    """Configurations that a study is to begin with, but for those that an earlier one has tried."""
    from flows._plan import plan_request, with_past
    from flows._request import Request

    tried = [trial.params for trial in begun.study("old").trials]
    plan = plan_request(Request(objective="mine.py:loss", name="new", warm_start=("study:old",)))
    other = {"x": 4.5, "y": 3}
    plan = replace(plan, terms=replace(plan.terms, first=(tried[0], other)))
    assert with_past(plan).terms.first == (other,)
