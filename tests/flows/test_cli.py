"""The command line on studies that run: what a user sees, and what the promises of each command are."""

from __future__ import annotations

import json
import re
import sys
from typing import Any
from uuid import UUID

import pytest

from flows._again import plan_of, run_again
from flows._find import flow_runs_of, opened, tracking_of
from flows._prefect import prefect_api
from hpo_core import Float, Int, SearchSpace, TrialState
from tests.flows.cli_studies import OBJECTIVES, runs
from tests.flows.conftest import Hpo, Place
from tracking._projector import Projector
from tracking._writes import Refused


@pytest.fixture
def objectives(tracked: Place, request: pytest.FixtureRequest) -> str:
    """The file with the objectives, under a name that no other test has imported."""
    name = f"objectives_{abs(hash(request.node.nodeid))}.py"
    (tracked.folder / name).write_text(OBJECTIVES)
    return name


def tune(objectives: str, function: str, *more: object) -> list[object]:
    """The usual command of these tests: random search in two threads, six trials."""
    return [
        *("tune", f"{objectives}:{function}", "--strategy", "random", "--trials", 6, "--name", "mine"),
        *("--workers", 2, "--isolation", "thread", *more),
    ]


# -- running -------------------------------------------------------------------------------------


def test_the_same_command_again_runs_nothing_and_a_higher_total_extends(
    objectives: str, hpo: Hpo, tracked: Place
) -> None:
    first = hpo(*tune(objectives, "loss"))
    assert (first.code, first.err) == (0, "")
    assert "study mine: minimise loss by random, 6 trials, 2 at once" in first.out
    assert "study mine: 6 complete in " in first.out
    assert "mlflow server --app-name hpo --backend-store-uri sqlite:" in first.out
    assert "hpo extend mine --trials 12" in first.out
    study = tracked.study("mine")
    events = study.history.length

    again = hpo(*tune(objectives, "loss"))
    assert (again.code, again.err) == (0, "")
    assert "the study is finished: all 6 trials have been started" in again.out
    assert "resuming" not in again.out
    assert tracked.study("mine").history.length == events

    more = hpo(*tune(objectives, "loss", "--trials", 8))
    assert (more.code, more.err) == (0, "")
    assert "its limits are now trials=8" in more.out
    assert "resuming study mine: 6 of 8 trials are done" in more.out
    after = tracked.study("mine")
    assert [t.params for t in after.trials[:6]] == [t.params for t in study.trials]
    assert after.history.count(TrialState.COMPLETE) == len(after.trials) == 8
    assert [run.info.status for run in runs(tracked)] == ["FINISHED"] * 9


def test_a_lower_total_takes_nothing_back(objectives: str, hpo: Hpo, tracked: Place) -> None:
    hpo(*tune(objectives, "loss"))
    said = hpo(*tune(objectives, "loss", "--trials", 2))
    assert (said.code, len(tracked.study("mine").trials)) == (0, 6)


def test_without_a_name_the_command_names_its_study_after_the_code(
    objectives: str, hpo: Hpo, tracked: Place
) -> None:
    command = [*tune(objectives, "loss"), "--offline"]
    where = command.index("--name")
    del command[where : where + 2]
    assert hpo(*command).code == 0
    assert hpo(*command).code == 0
    assert len(tracked.studies) == 1
    (tracked.folder / objectives).write_text(OBJECTIVES + "\n# edited\n")
    assert hpo(*command).code == 0
    assert len(tracked.studies) == 2


def test_json_is_one_object_on_standard_output(objectives: str, hpo: Hpo, tracked: Place) -> None:
    said = hpo(*tune(objectives, "talks", "--json"))
    result = json.loads(said.out)
    assert said.out.count("\n") == 1
    assert result["study"] == "mine"
    assert result["counts"] == {"complete": 6}
    assert result["best"]["values"]["loss"] == tracked.study("mine").best.values["loss"]
    assert result["tracking"]["run_id"] == runs(tracked)[0].info.run_id
    again = json.loads(hpo(*tune(objectives, "talks", "--json")).out)
    assert again["resumed"]
    assert again["best"] == result["best"]


def test_a_study_without_one_complete_trial_is_a_failure(objectives: str, hpo: Hpo, tracked: Place) -> None:
    said = hpo(*tune(objectives, "hopeless"))
    assert (said.code, said.err) == (1, "")
    assert "failed  RuntimeError: never works (trials 0, 1, 2, 3, 4, 5)" in said.out
    assert runs(tracked)[0].info.status == "FAILED"


def test_too_many_failures_end_the_study(objectives: str, hpo: Hpo, tracked: Place) -> None:
    """It has results to look at, and a pipeline must not take them for what was asked for."""
    some = tune(objectives, "fragile", "--workers", 1, "--max-failures")
    said = hpo(*some, 2)
    assert said.code == 1
    assert "study mine: 1 complete, 2 failed" in said.out
    assert "hpo extend mine --max-failures 4" in said.out
    study = tracked.study("mine")
    assert study.stopped is not None
    assert (study.stopped.state, study.best.number) == ("failed", 0)
    assert runs(tracked)[0].info.status == "FAILED"
    again = hpo(*some, 2)
    assert again.code == 1
    assert "the study has failed: 2 trials failed, the limit is 2" in again.out
    assert hpo(*some, 4).code == 0
    assert runs(tracked)[0].info.status == "FINISHED"
    assert tracked.study("mine").history.n_trials == 6


def test_a_study_with_enough_says_so_and_extend_overrules_it(
    objectives: str, hpo: Hpo, tracked: Place
) -> None:
    said = hpo(*tune(objectives, "loss", "--trials", 40, "--stop-when", 1000))
    assert said.code == 0
    stopped = tracked.study("mine").stopped
    assert stopped is not None
    assert "all further trials are expected to gain" in stopped.reason
    assert tracked.study("mine").history.n_trials < 35
    again = hpo("extend", "mine", "--trials", 41)
    assert "its limits are now trials=41, improvement=never" in again.out
    assert tracked.study("mine").history.count(TrialState.COMPLETE) == 41


def test_several_objectives_end_in_a_front(objectives: str, hpo: Hpo, tracked: Place) -> None:
    said = hpo(*tune(objectives, "both"))
    assert (said.code, said.err) == (0, "")
    assert "minimise size, maximise speed by random" in said.out
    assert "6 trials on the Pareto front" in said.out
    assert hpo("show", "mine").code == 0
    assert hpo("extend", "mine", "--trials", 7).code == 0
    assert len(tracked.study("mine").pareto_front) == 7
    front = [trial.number for trial in tracked.study("mine").pareto_front]
    shown = json.loads(hpo("show", "mine", "--json").out)
    assert shown["front"] == front == json.loads(hpo(*tune(objectives, "both", "--json")).out)["front"]
    assert shown["objectives"] == {"size": "min", "speed": "max"}
    assert (shown["limits"], shown["settings"]["rule"], shown["seed"]) == ({"trials": 7}, "last", 0)
    assert shown["strategy_config"]["sampler"] == "random"


def test_offline_first_and_delivered_later(objectives: str, hpo: Hpo, tracked: Place) -> None:
    said = hpo(*tune(objectives, "loss", "--offline"))
    assert (said.code, said.err) == (0, "")
    assert "mlflow server" not in said.out
    assert hpo("sync", "mine").out == "MLflow has all of study mine\n"
    assert len(runs(tracked)) == 7
    assert "mlflow server --app-name hpo" in hpo("show", "mine").out  # it was not shown yet, for ever


def test_a_project_folder_that_was_moved_is_gone_on_with_in_its_new_place(hpo: Hpo, place: Place) -> None:
    """The advice was to call `tune`, and commands by name looked in the old place for ever."""
    first = place.folder / "first"
    first.mkdir()
    (first / "mine.py").write_text("def loss(trial):\n    return trial.suggest_float('x', 0, 1)\n")
    (first / "table.csv").write_text("a,y\n" + "".join(f"{n},{n % 7}\n" for n in range(60)))
    of_file = ("--name", "of-file", "--trials", 1, "--offline")
    table = ("--target", "y", "--name", "of-table", "--trials", 1, "--folds", 2, "--offline")
    assert hpo("tune", f"{first}/mine.py:loss", *of_file).code == 0
    assert hpo("tune", "lgbm", "--data", f"{first}/table.csv", *table).code == 0
    second = first.rename(place.folder / "second")
    del sys.modules["mine"]  # as in another process; monkeypatch would bring it back for later tests
    said = hpo("extend", "of-file", "--trials", 2, "--offline")
    assert said.code == 2
    assert "`hpo tune FOLDER/mine.py:loss --name of-file` goes on with it there" in said.err
    assert hpo("tune", f"{second}/mine.py:loss", *of_file[:3], 2, "--offline").code == 0
    assert hpo("tune", "lgbm", "--data", f"{second}/table.csv", *table[:5], 2, *table[6:]).code == 0
    for name in ("of-file", "of-table"):
        said = hpo("extend", name, "--trials", 3, "--offline")
        assert (said.code, said.err) == (0, "")
        assert [n.topic for n in place.study(name).state.notes].count("place") == 1


def test_a_study_whose_space_was_edited_is_extended_with_that(
    objectives: str, hpo: Hpo, place: Place
) -> None:
    """It was refused, as the space that it had been made with was another one by then."""
    command = ("tune", f"{objectives}:loss", "--name", "mine", "--offline", "--space")
    y = '"y": {"low": 1, "high": 3}'
    assert hpo(*command, f'{{"x": {{"low": 0.0, "high": 1.0}}, {y}}}', "--trials", 1).code == 0
    assert (
        hpo(*command, f'{{"x": {{"low": 0.0, "high": 2.0}}, {y}}}', "--trials", 2, "--edit-space").code == 0
    )
    said = hpo("extend", "mine", "--trials", 3, "--offline")
    assert (said.code, said.err) == (0, "")
    assert place.study("mine").space == SearchSpace({"x": Float(0.0, 2.0), "y": Int(1, 3)})


def test_a_space_that_a_study_did_not_take_is_none_that_commands_by_its_name_ask_for(
    objectives: str, hpo: Hpo, place: Place
) -> None:
    """A study that is over keeps its own, and from then on hpo extend was refused: it asked for the other."""
    command = ("tune", f"{objectives}:loss", "--name", "mine", "--offline", "--trials")
    own, other = (f'{{"x": {{"low": 0.0, "high": {high}}}}}' for high in (1.0, 2.0))
    assert hpo(*command, 1, "--space", own).code == 0
    said = hpo(*command, 1, "--space", other, "--edit-space")
    assert "this command with a higher limit goes on with the new one" in said.out
    said = hpo("extend", "mine", "--trials", 2, "--offline")
    assert (said.code, said.err) == (0, "")
    assert hpo(*command, 3, "--space", other, "--edit-space").code == 0
    assert hpo("extend", "mine", "--trials", 4, "--offline").code == 0
    assert place.study("mine").state.declared == SearchSpace({"x": Float(0.0, 2.0)})


def test_what_mlflow_refuses_is_not_said_to_be_there(
    objectives: str, hpo: Hpo, tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had all of the study, was said, with exit code 0."""
    hpo(*tune(objectives, "loss", "--offline"))
    deliver = Projector.deliver

    def refusing(projector: Projector, now: float, **how: bool) -> bool:
        if not projector.refusals:
            projector.refused(Refused(3, "run", "it was deleted in MLflow"))
        return deliver(projector, now, **how)

    monkeypatch.setattr(Projector, "deliver", refusing)
    said = hpo("sync", "mine")
    assert (said.code, said.out) == (1, "")
    assert "MLflow refused 1 item, the last was run of trial 3: it was deleted in MLflow" in said.err


def test_whoever_waits_for_mlflow_to_take_the_rest_is_told_what_it_does_not_take(
    objectives: str, hpo: Hpo, tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was not a word for ten minutes."""
    hpo(*tune(objectives, "loss", "--offline"))

    def stuck(projector: Projector, now: float, given_up: Any) -> bool:
        raise OSError("no space left there")

    monkeypatch.setattr(Projector, "finish", stuck)
    monkeypatch.setattr("flows.cli._end._SILENT_SECONDS", 0.2)
    monkeypatch.setattr("flows.cli._end._DELIVER_SECONDS", 2.0)
    said = hpo("sync", "mine")
    assert said.code == 1
    assert said.err.count("no space left there; waiting, for 0 minutes at most while nothing arrives") == 1


def test_a_password_that_was_not_kept_is_asked_for(
    objectives: str, hpo: Hpo, tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study went to a new database in the working folder, without a word."""
    tracked.database.unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9/mlflow")
    assert hpo(*tune(objectives, "loss", "--offline")).code == 0
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for command in (("sync", "mine"), ("extend", "mine", "--trials", 7)):
        said = hpo(*command)
        assert (said.code, said.out) == (2, "")
        assert "http://me:***@127.0.0.1:9/mlflow" in said.err
        assert "set MLFLOW_TRACKING_URI" in said.err
    assert hpo("extend", "mine", "--trials", 7, "--offline").code == 0
    assert not tracked.database.exists()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    assert tracking_of(tracked.study("mine"), None) == "http://127.0.0.1:9/mlflow"


def test_a_study_moves_to_another_experiment_when_its_own_was_deleted(
    objectives: str, hpo: Hpo, tracked: Place
) -> None:
    """MLflow keeps the name; there was no way to show a finished study again."""
    from mlflow import MlflowClient

    hpo(*tune(objectives, "fragile"))
    client = MlflowClient(f"sqlite:///{tracked.database}")
    gone = client.get_experiment_by_name("mine")
    assert gone is not None
    client.delete_experiment(gone.experiment_id)
    refused = hpo("sync", "mine")
    assert refused.code == 2
    assert f"restore --experiment-id {gone.experiment_id}`" in refused.err
    assert "`hpo sync STUDY --experiment NAME`" in refused.err
    # These had raised the limit, or queued the trials, before they were refused.
    for order in (("extend", "mine", "--trials", 7), ("retry", "mine", "--failed")):
        before = (tracked.folder / ".hpo/studies/mine/journal.jsonl").read_bytes()
        assert (said := hpo(*order)).code == 2
        assert "was deleted in MLflow" in said.err
        assert (tracked.folder / ".hpo/studies/mine/journal.jsonl").read_bytes() == before
    assert hpo("sync", "mine", "--experiment", "second").out == "MLflow has all of study mine\n"
    assert hpo("extend", "mine", "--trials", 7).code == 0
    second = client.get_experiment_by_name("second")
    assert second is not None
    assert len(client.search_runs([second.experiment_id])) == 8


def test_steps_and_cost_limit_a_study_and_can_be_raised(objectives: str, hpo: Hpo, tracked: Place) -> None:
    """The engine had both limits and no command could set them."""
    terms = (
        "--strategy",
        "random",
        "--workers",
        1,
        "--isolation",
        "thread",
        "--name",
        "mine",
        "--max-steps",
        3,
    )
    limits = ("--max-total-steps", 7, "--max-cost", 3600)
    said = hpo("tune", f"{objectives}:stepped", *terms, *limits)
    assert said.code == 0
    assert "the limit of 7 steps has no room for another segment" in hpo("why", "mine").out
    assert len(runs(tracked)) == 1 + 2
    said = hpo("extend", "mine", "--max-total-steps", 9, "--max-cost", 7200)
    assert said.code == 0
    assert "its limits are now steps=9, cost=7200" in said.out
    assert len(runs(tracked)) == 1 + 3
    shown = json.loads(runs(tracked)[0].data.tags["hpo.limits"])
    assert shown == {"steps": 9, "cost": 7200}, "and no number of trials, which nobody asked for"
    refused = hpo("extend", "mine", "--max-cost", 7200)
    assert refused.code == 2
    assert "has max_cost 7200 already; give more than that" in refused.err


TRAINED = """
def trained(trial):
    x = trial.suggest_float("x", 0.0, 1.0)
    done = [] if trial.checkpoint is None else list(trial.checkpoint.load())
    for step in trial.steps(9):
        assert done == [*range(1, step)]
        done.append(step)
        trial.save(step, bytes(done))
        trial.report(step, loss=x + 1 / step)
    return x + 1 / 9
"""


def test_extend_goes_on_with_the_trials_that_a_limit_has_left_paused(hpo: Hpo, tracked: Place) -> None:
    """They were pruned for good: each extension began anew, and such a study never had a result."""
    (tracked.folder / "mine.py").write_text(TRAINED)
    terms = ("--strategy", "random+asha", "--trials", 9, "--max-steps", 9, "--workers", 1, "--name", "mine")
    said = hpo("tune", "mine.py:trained", *terms, "--max-total-steps", 17, "--seed", 2)
    cut = [t.number for t in tracked.study("mine").trials if t.state is TrialState.PRUNED]
    assert len(cut) > 1
    assert "hpo extend mine --max-total-steps 34" in said.out, "the limit that left no room, not the trials"
    said = hpo("extend", "mine", "--max-total-steps", 60)
    assert (said.code, said.err) == (0, "")
    assert (
        f"of the trials that its end had cut short {len(cut)} that were paused are paused again" in said.out
    )
    study = tracked.study("mine")
    assert any(study.trials[number].state is TrialState.COMPLETE for number in cut)
    assert study.best.number == min(study.trials, key=lambda t: t.params["x"]).number
    _, *trials = runs(tracked)
    assert len(trials) == 9
    assert {run.info.status for run in trials} == {"FINISHED", "KILLED"}, (
        "complete and pruned, and none still open"
    )
    states = [run.data.tags["hpo.state"] for run in trials]
    assert states == [t.state.label for t in study.trials]


def test_a_result_that_breaks_a_constraint_does_not_count(objectives: str, hpo: Hpo, tracked: Place) -> None:
    bound = ("--constraint", "ms>=3", "--seed", 1)
    assert hpo(*tune(objectives, "slow", *bound)).code == 0
    own, *trials = runs(tracked)
    assert own.data.tags["hpo.constraints"] == '["ms >= 3"]'
    kept = [run.data.metrics["ms"] >= 3 for run in trials]
    assert 0 < sum(kept) < 6
    assert [run.data.tags["hpo.state"] == "complete" for run in trials] == kept
    assert {run.data.tags["hpo.state"] for run in trials} == {"complete", "infeasible"}
    best = min(run.data.metrics["loss"] for run in trials if run.data.metrics["ms"] >= 3)
    assert json.loads(own.data.tags["hpo.best_values"]) == {"loss": best}
    shown = hpo("show", "mine").out
    assert "where" in shown
    assert "ms >= 3" in shown
    assert "failed" not in shown
    worst = next(i for i, ok in enumerate(kept) if not ok)
    assert "the study wants ms >= 3" in hpo("why", "mine", worst).out
    again = hpo(*tune(objectives, "slow", "--constraint", "ms <= 9", "--trials", 7))
    assert "the study keeps its constraints: ms >= 3 (asked for: ms <= 9)" in again.out
    refused = hpo(*tune(objectives, "slow", "--constraint", "ms < 9", "--name", "other"))
    assert refused.code == 2
    assert "'METRIC <= NUMBER' or 'METRIC >= NUMBER', got 'ms < 9'" in refused.err


@pytest.mark.parametrize("metrics", [["size=max", "speed=min"], ["size=max,speed=min"]])
def test_a_function_may_have_several_metrics(objectives: str, hpo: Hpo, metrics: list[str]) -> None:
    """Of a repeated --metric the last one alone was tuned, without a word."""
    given = [word for metric in metrics for word in ("--metric", metric)]
    assert hpo(*tune(objectives, "both", *given, "--offline")).code == 0
    assert json.loads(hpo("show", "mine", "--json").out)["objectives"] == {"size": "max", "speed": "min"}


def test_a_dry_run_creates_nothing(objectives: str, hpo: Hpo, tracked: Place) -> None:
    limits: list[object] = ["--timeout", 90, "--max-failures", 7, "--stop-when", "noise"]
    limits += ["--max-cost", 5400, "--max-total-steps", 5000]
    said = hpo(*tune(objectives, "loss", "--strategy", "asha", "--max-steps", 9, *limits, "--dry-run"))
    assert said.code == 0
    assert "dry run: nothing was created" in said.out
    ends = ["ends after 1 min 30 s", "ends once its trials have taken 1 h 30 min together"]
    ends += ["ends once its trials have taken 5,000 steps together", "ends once 7 trials have failed"]
    assert "\n".join([*ends, ""]) in said.out
    assert "ends when all further trials are expected to gain less than the noise of a result" in said.out
    assert tracked.studies == []


@pytest.mark.parametrize(
    ("strategy", "total", "are"),
    [
        ("random", "total: 63", "exact"),
        ("median", "total: at most 63", "most"),
        ("asha", "total: about 19", "about"),
    ],
)
def test_a_dry_run_says_whether_its_numbers_are_bounds(
    objectives: str, hpo: Hpo, tracked: Place, strategy: str, total: str, are: str
) -> None:
    """All steps of all trials were given as the total of strategies that stop most of them."""
    command = (
        *tune(objectives, "loss", "--strategy", strategy, "--max-steps", 9, "--dry-run"),
        "--trials",
        7,
    )
    said = hpo(*command)
    assert f"{total} steps\n" in said.out
    bound = total.removeprefix("total: ").rpartition(" ")[0]
    assert f"workers: as long as {bound}{' ' if bound else ''}" in said.out
    assert json.loads(hpo(*command, "--json").out)["steps_are"] == are
    assert tracked.studies == []


def test_a_strategy_with_options_and_the_rules_of_a_study_can_be_typed(
    objectives: str, hpo: Hpo, tracked: Place
) -> None:
    """`threshold` cannot do without options, and none could be given on the command line."""
    threshold = '{"name": "random+threshold", "upper": 0.5}'
    rules = ("--rule", "best", "--on-duplicate", "reuse", "--max-attempts", 2, "--granularity", 0)
    command = tune(objectives, "loss", "--strategy", threshold, *rules, "--name", "typed", "--trials", 2)
    assert "strategy random+threshold (upper=0.5)" in hpo(*command, "--dry-run").out
    assert hpo(*command).code == 0
    settings = tracked.study("typed").state.settings
    assert (settings.rule, settings.on_duplicate, settings.max_attempts) == ("best", "reuse", 2)
    assert "by random+threshold (upper=0.5)" in hpo("show", "typed").out
    again = hpo("extend", "typed", "--trials", 3)
    assert again.code == 0
    assert "keeps" not in again.out


@pytest.mark.parametrize("said, in_order", [("true", True), ("false", False)])
def test_parameters_of_a_project_are_options_flags_too(
    said: str, in_order: bool, objectives: str, hpo: Hpo, tracked: Place
) -> None:
    """`mlflow run -P deterministic=true` hands on `--deterministic true`."""
    command = tune(objectives, "loss", "--deterministic", said, "--max_failures", 60, "--dry-run", said)
    asked = hpo(*command, "--name", "true")
    assert asked.code == 0
    assert ("dry run" in asked.out) == in_order
    if not in_order:
        assert not tracked.study("true").state.settings.deterministic


def test_the_run_that_mlflow_run_opened_becomes_the_studys(
    objectives: str, hpo: Hpo, tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tracked.database}")
    experiment = client.create_experiment("of-the-project")
    opened = client.create_run(experiment, tags={"mlflow.source.type": "PROJECT"})
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    said = hpo(*tune(objectives, "loss", "--json"))
    assert said.code == 0
    assert json.loads(said.out)["run_id"] == opened.info.run_id
    found = runs(tracked, "of-the-project")
    assert len(found) == 7
    assert found[0].data.tags["mlflow.source.type"] == "PROJECT"
    assert found[0].data.tags["hpo.study"] == "mine"
    # Later commands find it there without being told.
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    assert hpo("extend", "mine", "--trials", 8).code == 0
    assert len(runs(tracked, "of-the-project")) == 9
    assert client.get_experiment_by_name("mine") is None


def test_a_run_that_is_nowhere_is_refused_and_leaves_nothing(
    objectives: str, hpo: Hpo, tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    said = hpo(*tune(objectives, "loss"))
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "MLFLOW_RUN_ID=0000" in said.err
    assert tracked.studies == []


# -- going on ------------------------------------------------------------------------------------


def test_failed_trials_are_run_once_more_on_request(objectives: str, hpo: Hpo, tracked: Place) -> None:
    hpo(*tune(objectives, "fragile"))
    (tracked.folder / "mended").touch()
    refused = hpo("retry", "mine", "--trial", 1, "--trial", 99)
    assert (refused.code, tracked.study("mine").trials[1].attempt) == (2, 1)
    assert (
        "study 'mine' has no trial 99 that ended badly; `hpo show mine` lists those that did" in refused.err
    )
    said = hpo("retry", "mine", "--trial", 1)
    assert (said.code, said.err) == (0, "")
    assert "1 trial will run once more" in said.out
    study = tracked.study("mine")
    assert study.trials[1].state is TrialState.COMPLETE
    assert study.trials[1].attempt == 2
    assert study.trials[2].state is TrialState.FAILED
    run = runs(tracked)[2]
    assert (run.info.status, run.data.tags["hpo.state"]) == ("FINISHED", "complete")
    assert hpo("retry", "mine", "--trial", 1).code == 2


def test_where_nothing_failed_nothing_is_said_to_be_listed(objectives: str, hpo: Hpo, tracked: Place) -> None:
    hpo(*tune(objectives, "loss", "--offline"))
    assert hpo("retry", "mine", "--failed").err == "hpo: study 'mine' has no trial that ended badly\n"


def test_why_says_what_a_trial_waits_for(objectives: str, hpo: Hpo, tracked: Place) -> None:
    """It was a free worker, also where there was none and none would come."""
    hpo(*tune(objectives, "fragile", "--offline"))
    run_again(plan_of(tracked.study("mine")), wanted=lambda number: number == 1)
    assert hpo("why", "mine", 1).out.startswith("trial 1 is waiting until the study goes on")
    with opened("mine"):
        assert hpo("why", "mine", 1).out.startswith("trial 1 is waiting for a free worker")


def test_a_study_that_is_just_being_resumed_can_be_cancelled(
    objectives: str, hpo: Hpo, tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was taken for one to the driver before, and removed."""
    asked: list[int] = []

    def meanwhile(*_: Any) -> None:
        if not asked:
            asked.append(hpo("cancel", "mine").code)

    hpo(*tune(objectives, "loss", "--offline"))
    journal = tracked.folder / ".hpo" / "studies" / "mine" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:4]))  # as a kill at its beginning leaves it
    monkeypatch.setattr("flows._session.check_experiment", meanwhile)
    hpo("resume", "mine", "--offline")
    assert asked == [0]
    stopped = tracked.study("mine").stopped
    assert stopped is not None
    assert stopped.state == "cancelled"


def test_a_cancelled_study_goes_on_when_it_is_resumed(objectives: str, hpo: Hpo, tracked: Place) -> None:
    hpo(*tune(objectives, "loss", "--offline"))
    journal = tracked.folder / ".hpo" / "studies" / "mine" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    last = next(i for i, line in enumerate(lines) if b'"trial":4' in line and b"trial_finished" in line)
    journal.write_bytes(b"".join(lines[:last]))  # as a kill in the middle of trial 4 leaves it
    shown = hpo("show", "mine").out
    assert "interrupted; `hpo resume mine` goes on with it" in shown
    assert re.search(r"\d complete, \d interrupted;", shown)
    assert "trial 4 is interrupted" in hpo("why", "mine", 4).out
    assert "nothing was running" in hpo("cancel", "mine").out
    assert "ended already" in hpo("cancel", "mine").err
    cancelled = tracked.study("mine")
    assert cancelled.stopped is not None
    assert cancelled.stopped.state == "cancelled"
    (journal.parent / "cancel").touch()  # a request that came when the driver had ended
    said = hpo("resume", "mine")
    assert (said.code, said.err) == (0, "")
    study = tracked.study("mine")
    assert study.history.count(TrialState.COMPLETE) == len(study.trials) == 6
    assert len(runs(tracked)) == 7


# -- MLflow --------------------------------------------------------------------------------------


def test_resync_makes_runs_again_that_were_lost_and_keeps_what_users_added(
    objectives: str, hpo: Hpo, tracked: Place
) -> None:
    from mlflow import MlflowClient

    hpo(*tune(objectives, "loss"))
    before = runs(tracked)
    client = MlflowClient(f"sqlite:///{tracked.database}")
    client.delete_run(before[3].info.run_id)
    client.set_tag(before[4].info.run_id, "mine", "kept")
    client.log_metric(before[4].info.run_id, "extra", 1.0)
    assert hpo("sync", "mine").code == 0
    assert len(runs(tracked)) == 6
    assert hpo("resync", "mine").out == "MLflow has all of study mine\n"
    after = runs(tracked)
    assert len(after) == 7
    for old, new in zip(before, after, strict=True):
        assert new.data.params == old.data.params
        assert {k: new.data.metrics[k] for k in old.data.metrics} == old.data.metrics
        assert new.info.status == old.info.status
    assert after[3].info.run_id != before[3].info.run_id
    assert after[4].data.tags["mine"] == "kept"
    assert len(client.get_metric_history(after[5].info.run_id, "loss")) == 1


def test_delete_says_what_would_go_and_then_takes_it(objectives: str, hpo: Hpo, tracked: Place) -> None:
    hpo(*tune(objectives, "loss"))
    would = hpo("delete", "mine", "--dry-run")
    assert would.out.startswith("would delete ")
    assert would.out.endswith("; in MLflow 7 runs and artifacts, 0 models; in Prefect 1 flow run\n")
    assert tracked.studies == ["mine"]
    (flow_run,) = flow_runs_of(tracked.study("mine"))
    assert is_in_prefect(flow_run)
    artifacts = tracked.database.parent / "mlartifacts" / "mine"
    assert list(artifacts.rglob("report.html"))
    done = hpo("delete", "mine")
    assert (done.out, done.err) == (would.out.replace("would delete", "deleted"), "")
    assert tracked.studies == []
    assert runs(tracked) == []
    assert [path for path in artifacts.rglob("*") if path.is_file()] == []
    assert not is_in_prefect(flow_run)


def is_in_prefect(flow_run: str) -> bool:
    """Whether the Prefect server of the tests has the flow run."""
    from prefect import get_client
    from prefect.exceptions import ObjectNotFound

    with prefect_api() as ready:
        ready()
        with get_client(sync_client=True) as client:
            try:
                return str(client.read_flow_run(UUID(flow_run)).id) == flow_run
            except ObjectNotFound:
                return False


def test_gc_frees_what_no_trial_can_need(objectives: str, hpo: Hpo, tracked: Place) -> None:
    hpo(*tune(objectives, "loss", "--offline"))
    assert hpo("gc", "--dry-run").out == "would free 0.0 MiB\n"
    assert hpo("gc").out == "freed 0.0 MiB\n"
