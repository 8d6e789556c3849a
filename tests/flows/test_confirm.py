"""The best trials of a study again, on fresh seeds: a lucky winner is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows import confirm, tune
from flows._confirm import Wish, _fresh_seed, concluded, plan_confirmation, to_confirm
from flows._find import find, opened
from flows._notes import TRACKING, newest
from flows._tune import run_plan
from flows.cli import main
from flows.objectives import TableConfig, make_objective
from flows.objectives._base import Rerun
from flows.objectives._data import load_table, pose
from flows.objectives._fresh import FreshFolds
from flows.objectives._splits import SplitPlan, make_split
from hpo_core import Categorical, Float, InputError, SearchSpace, Study, TrialState
from hpo_core._trial import repeat_seed, trial_seed
from hpo_core.confirm import CONFIRMED, CONFIRMS, Verdict
from tests.flows.conftest import Place
from tests.flows.interrupted import killed_at

KINDS = {"a": 0.0, "b": 1.0, "c": 2.0, "d": 3.0}
SPACE = {"kind": Categorical(list(KINDS))}


def lucky(trial: Any) -> float:
    """`a` is the best, and `c` has luck with the seed of its trial in a study of seed 0."""
    luck = 5.0 if trial.params["kind"] == "c" and trial.seed == trial_seed(0, trial.number) else 0.0
    noise = np.random.default_rng([trial.seed, len(trial.params["kind"])]).normal()
    own = np.random.default_rng([trial.seed, ord(trial.params["kind"])]).normal()
    return float(KINDS[trial.params["kind"]] - luck + noise + 0.01 * own)


def studied(objective: Callable[[Any], Any] = lucky, **more: Any) -> Study:
    fields: dict[str, Any] = {
        "space": SPACE, "strategy": "grid", "trials": 4, "workers": 2, "isolation": "thread",
    }  # fmt: skip
    return tune(objective, name="mine", tell=lambda line: None, **{**fields, **more}).study


def of_kind(study: Study, kind: str) -> int:
    return next(trial.number for trial in study.trials if trial.params["kind"] == kind)


def test_a_lucky_winner_is_found_out_and_that_is_kept(
    tracked: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    study = studied()
    best, lucky_one = of_kind(study, "a"), of_kind(study, "c")
    assert study.best.number == lucky_one
    assert main(["confirm", "mine", "--repeats", "4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["trial"], said["seeds"]) == (Verdict.ANOTHER, best, 4)
    assert [row["trial"] for row in said["trials"]] == [lucky_one, best, of_kind(study, "b")]
    again = find("mine-confirm")
    seeds = {repeat_seed(again.history.seed, i) for i in (1, 2, 3, 4)}
    assert seeds.isdisjoint(trial_seed(0, n) for n in range(4))
    row = said["trials"][1]
    assert row["better_by"] == pytest.approx(2.0, abs=0.1)
    assert row["low"] < row["better_by"] < row["high"]
    assert row["mean"] == pytest.approx(np.mean(row["results"]))
    assert row["std"] == pytest.approx(np.std(row["results"], ddof=1))
    assert newest(find("mine"), CONFIRMED) == said
    run_id = newest(find("mine"), TRACKING)["run_id"]
    tags = MlflowClient(f"sqlite:///{tracked.database}").get_run(run_id).data.tags
    assert tags["hpo.confirmation"] == said["sentence"]
    ids = {name: find(name).created.study_id for name in ("mine", "mine-confirm")}
    by = {"study": "mine-confirm", "study_id": ids["mine-confirm"], "winner": lucky_one}
    assert json.loads(tags["hpo.confirmed_by"]) == by
    other = newest(again, TRACKING)["run_id"]
    tags = MlflowClient(f"sqlite:///{tracked.database}").get_run(other).data.tags
    assert json.loads(tags["hpo.confirms"]) == {"study": "mine", "study_id": ids["mine"]}
    assert (tags["hpo.verdict"], tags["hpo.repeats"]) == (said["sentence"], "4")
    for run, line in ((run_id, "Verdict of mine-confirm"), (other, "Verdict on the trials of mine")):
        page = download_artifacts(run_id=run, artifact_path="report.html", dst_path=str(tmp_path / run))
        assert f"{line}: {said['sentence']}." in Path(page).read_text("utf-8")
    for name in ("mine", "mine-confirm"):
        main(["show", name])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"confirmed trial {best} is better than the winner, trial {lucky_one}, on 4 fresh" in shown
    assert f"verdict on the trials of mine: trial {best} is better than the winner" in shown

    # Once more: nothing is run. One more trial of the study: only that is run.
    length, noted = again.history.length, find("mine").history.length
    assert main(["confirm", "mine"]) == 0
    out = capsys.readouterr().out
    assert find("mine-confirm").history.length == length
    assert find("mine").history.length == noted
    assert "hpo promote" not in out  # the function logged no model
    assert main(["confirm", "mine", "--top", "4", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 4
    assert [trial.attempt for trial in find("mine-confirm").trials] == [1, 1, 1, 1]

    assert main(["confirm", "mine", "--repeats", "5"]) == 2
    assert "'mine-confirm' has 4 fresh seeds, not 5" in capsys.readouterr().err
    assert main(["confirm", "mine", "--name", "mine"]) == 2
    assert "study 'mine' is no confirmation of 'mine'" in capsys.readouterr().err


def test_results_of_an_earlier_study_of_the_name_are_no_fresh_ones(tracked: Place) -> None:
    """Its function was mended, it was deleted and made anew, and what the old function had given on fresh
    seeds was said of the new one's trials.
    """
    studied()
    confirm("mine", lucky, top=1, repeats=2, tell=lambda line: None)
    assert main(["delete", "mine"]) == 0
    studied()
    with pytest.raises(InputError, match="confirms an earlier study named 'mine', which is gone"):
        confirm("mine", lucky, top=1, repeats=2, tell=lambda line: None)
    assert newest(find("mine"), CONFIRMED) == {}
    assert main(["delete", "mine-confirm"]) == 0
    found = confirm("mine", lucky, top=1, repeats=2, tell=lambda line: None)
    assert newest(find("mine"), CONFIRMED)["sentence"] == found.sentence()


def test_a_verdict_on_a_winner_that_was_overtaken_is_shown_as_such(
    tracked: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stood beside the best trial, which nobody had confirmed."""
    best = studied().best.number
    for winner, since in ((best, ""), (best + 1, "; another trial has become the best since")):
        with opened("mine") as study:
            study.note(CONFIRMED, {"study": "again", "sentence": "it holds", "trials": [{"trial": winner}]})
        main(["show", "mine"])
        (said,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("confirmed"))
        assert said.split(maxsplit=1)[1].rstrip() == f"it holds{since}"


def test_an_interrupted_confirmation_goes_on(tracked: Place) -> None:
    """Also that of a study of repeats, whose seeds are not used again, of a function that has no name."""

    def own(trial: Any) -> float:
        return lucky(trial)

    study = studied(own, repeats=2)
    assert study.trials[study.best.number].params == {"kind": "a"}
    wish = Wish(study="mine", repeats=3)
    with pytest.raises(InputError, match=r"call flows.confirm\('mine', function\) where it is defined"):
        plan_confirmation(wish)
    plan = plan_confirmation(wish, own)
    part = replace(plan, terms=replace(plan.terms, limits=replace(plan.terms.limits, trials=1)))
    run_plan(part, tell=lambda line: None)
    assert len(find("mine-confirm").trials) == 1
    found = confirm("mine", own, repeats=3, tell=lambda line: None)
    assert (found.verdict, found.trial) == (Verdict.HOLDS, study.best.number)
    assert newest(find("mine"), CONFIRMED)["sentence"] == found.sentence()
    again = find("mine-confirm")
    assert [trial.params["kind"] for trial in again.trials] == ["a", "b", "c"]
    assert again.history.count(TrialState.COMPLETE) == 3
    used = {repeat_seed(0, i) for i in (1, 2)}
    assert used.isdisjoint(repeat_seed(again.history.seed, i) for i in (1, 2, 3))
    with pytest.raises(InputError, match="no argument 'seeds'"):
        confirm("mine", own, seeds=3)


@pytest.mark.parametrize("after", [1, 3])
def test_a_verdict_is_kept_whole_whenever_its_command_is_killed(
    tracked: Place, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The same command notes what is missing, also for MLflow."""
    studied()
    wish = Wish(study="mine", repeats=2)
    result = run_plan(plan_confirmation(wish), tell=lambda line: None)
    with monkeypatch.context() as patch:
        patch.setattr(Study, "note", killed_at(after))
        with pytest.raises(SystemExit):
            concluded(wish, result)
    found = concluded(wish, result)
    assert found is not None
    for name, topic, tag in (
        ("mine", CONFIRMED, "hpo.confirmation"), ("mine-confirm", CONFIRMS, "hpo.verdict"),
    ):  # fmt: skip
        notes = find(name).state.notes
        said = [note.data["sentence"] for note in notes if note.topic == topic]
        tags = [note.data["tags"][tag] for note in notes if note.topic == "tags" and tag in note.data["tags"]]
        assert said[-1] == tags[-1] == found[0].sentence()


def done(strategy: str = "random", complete: int = 2) -> Study:
    study = Study({"x": Float(0.0, 1.0)}, strategy=strategy, settings={"max_steps": 3}, name="done")
    for _ in range(complete):
        study.tell(study.ask(), 1.0)
    return study


@pytest.mark.parametrize(
    ("study", "top", "said"),
    [
        (lambda: done(complete=0), 3, "no complete trial"),
        (lambda: done(), 0, "at least 1, got 0"),
        (lambda: done("pbt", complete=0), 3, "pbt changes hyperparameters during training"),
    ],
)
def test_what_cannot_be_confirmed(study: Callable[[], Study], top: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        to_confirm(study(), top)


def test_a_confirmation_in_which_everything_fails_is_over(
    tracked: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was said to go on with the same command, which then said so again."""
    module, turned = tracked.folder / "turns.py", tracked.folder / "turned"
    raises = f"assert not pathlib.Path({str(turned)!r}).exists(), 'it has turned'"
    module.write_text(f"import pathlib\n\ndef loss(trial):\n    {raises}\n    return trial.params['x']\n")
    terms = [
        "--space",
        "{x: {low: 0.0, high: 1.0}}",
        "--trials",
        "3",
        "--workers",
        "1",
        "--isolation",
        "thread",
    ]
    assert main(["tune", "turns.py:loss", "--name", "mine", "--strategy", "random", *terms]) == 0
    turned.touch()
    capsys.readouterr()
    for _ in range(2):
        assert main(["confirm", "mine", "--top", "2", "--repeats", "2"]) == 1
        said = capsys.readouterr().out
        assert "failed on fresh seeds: failed: AssertionError: it has turned" in said
        assert "fresh seeds: trial" not in said
    assert main(["show", "mine"]) == 0
    assert "failed on fresh seeds" in capsys.readouterr().out


def test_a_confirmation_that_is_confirmed_leads_to_no_promotion_of_its_own(
    tracked: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """It makes no models, and the command that was offered was refused."""
    table = ("--estimator", "linear", "--data", "sklearn:breast_cancer", "--target", "target", "--folds", "2")
    terms = ("--name", "mine", "--trials", "1", "--isolation", "thread", "--workers", "1")
    assert main(["tune", "sklearn", *table, *terms]) == 0
    for name, offered in (("mine", True), ("mine-confirm", False)):
        capsys.readouterr()
        assert main(["confirm", name, "--top", "1", "--repeats", "2"]) == 0
        assert ("\nhpo promote" in capsys.readouterr().out) == offered


def late(trial: Any) -> dict[str, float]:
    """Better the later it is; as late as 6 with the seed of the study's trial, and later with others."""
    wait = trial.params["wait"]
    own = trial.seed == trial_seed(0, trial.number)
    return {"loss": 9.0 - wait, "lat": wait + (0.0 if own else 0.5)}


def test_a_winner_that_breaks_a_bound_on_fresh_seeds_is_told(
    tracked: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was said to hold, and nothing more."""
    bounds = ["lat <= 6", "lat >= 1"]
    space = {"wait": Categorical([2, 6, 8])}
    study = studied(late, space=space, objectives={"loss": "min"}, trials=3, outcome_constraints=bounds)
    assert study.best.params == {"wait": 6}
    found = confirm("mine", late, repeats=2, tell=lambda line: None)
    assert found.trial == study.best.number
    assert main(["confirm", "mine", "--repeats", "2"]) == 0
    said = capsys.readouterr().out
    assert "; its lat is 6.5 there, which breaks lat <= 6\n" in said
    assert newest(find("mine"), CONFIRMED)["sentence"].endswith("which breaks lat <= 6")


def test_what_a_confirmation_settles_itself_is_refused(tracked: Place) -> None:
    """It was passed over without a word."""
    studied()
    with pytest.raises(InputError, match="has a seed of its own; leave seed, trials out"):
        confirm("mine", lucky, trials=9, seed=3)


def test_of_equal_configurations_the_better_trial_counts() -> None:
    study = Study({"x": Float(0.0, 1.0)}, strategy="random", settings={"on_duplicate": "repeat"})
    for x, value in ((0.5, 3.0), (0.2, 2.0), (0.5, 1.0), (0.9, 4.0)):
        study.enqueue({"x": x})
        study.tell(study.ask(), value)
    assert [trial.number for trial in to_confirm(study, 2)] == [2, 1]


def test_what_an_edit_took_out_of_the_space_is_not_confirmed() -> None:
    """It was refused with the words of a wrong value, or confirmed with a parameter that it never had."""
    study = done(complete=0)
    for x, value in ((0.1, 1.0), (0.8, 2.0)):
        study.enqueue({"x": x})
        study.tell(study.ask(), value)
    study.change_space(SearchSpace({"x": Float(0.5, 1.0)}))
    assert [trial.number for trial in to_confirm(study, 3)] == [1]
    study.change_space(SearchSpace({"x": Float(0.5, 1.0), "y": Float(0.0, 1.0)}))
    with pytest.raises(InputError, match="no complete trial in its space as it was edited"):
        to_confirm(study, 3)
    study.enqueue({"x": 0.7, "y": 0.2})
    study.tell(study.ask(), 3.0)
    assert [trial.number for trial in to_confirm(study, 3)] == [2]


def test_an_edit_of_the_space_is_no_end_of_a_confirmation(tracked: Place) -> None:
    """It was refused, with an option that hpo confirm does not have, after any edit of the study's space."""
    studied(space={"kind": Categorical(["b", "c", "d"])}, trials=3)
    confirm("mine", lucky, top=2, repeats=2, tell=lambda line: None)
    study = studied(trials=6, edit_space=True)
    assert of_kind(study, "a")
    for top in (4, 3):
        found = confirm("mine", lucky, top=top, repeats=2, tell=lambda line: None)
        assert {leader.trial for leader in found.leaders} == {t.number for t in to_confirm(study, top)}
        assert all(leader.results for leader in found.leaders)
    studied(space={"kind": Categorical(["a", "b"])}, trials=7, edit_space=True)
    found = confirm("mine", lucky, top=4, repeats=2, tell=lambda line: None)
    assert {find("mine").trials[leader.trial].params["kind"] for leader in found.leaders} == {"a", "b"}
    assert len(find("mine-confirm").trials) == 4
    assert find("mine-confirm").state.declared == SearchSpace(SPACE)  # nothing had to be run


def test_a_study_that_runs_is_left_alone(tracked: Place) -> None:
    studied()
    with opened("mine"), pytest.raises(InputError, match="is running"):
        plan_confirmation(Wish(study="mine"))
    with pytest.raises(InputError, match="at least two fresh seeds"):
        plan_confirmation(Wish(study="mine", repeats=1))


def test_fresh_seeds_are_none_that_the_study_has_used(monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study({"x": Float(0, 1)}, strategy="random")
    study.tell(study.ask(), 0.5)
    seed = _fresh_seed(study, "again", 3)
    monkeypatch.setattr("flows._confirm.trial_seed", lambda study_seed, trial: repeat_seed(seed, 3))
    assert _fresh_seed(study, "again", 2) == seed
    assert _fresh_seed(study, "again", 3) != seed


@pytest.mark.parametrize("kind", ["stratified", "plain", "grouped"])
def test_folds_are_dealt_anew_and_the_test_rows_stay(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    rows = ["x,g,y", *(f"{rng.normal():.3f},{i % 40},{i % 2}" for i in range(200))]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows))
    group = "g" if kind == "grouped" else None
    problem = pose(load_table(str(path), "y", group=group, time=None, drop=()), "binary", None)
    plan = SplitPlan(kind=kind)
    usual, one, same, other = (make_split(problem, replace(plan, deal=deal)) for deal in (None, 1, 1, 2))
    for split in (one, same, other):
        assert split.test.tolist() == usual.test.tolist()
        assert split.train.tolist() == usual.train.tolist()
        valid = np.concatenate([rows for _, rows in split.folds])
        assert sorted(valid.tolist()) == usual.train.tolist()
    folds = [[fold[1].tolist() for fold in split.folds] for split in (usual, one, same, other)]
    assert folds[1] == folds[2]
    assert folds[0] != folds[1] != folds[3]


def test_each_fresh_seed_of_a_ready_objective_has_its_own_folds() -> None:
    """With a model that draws no random numbers, so that folds are all that can differ."""
    objective = make_objective(
        "sklearn", data="sklearn:iris", estimator="sklearn.neighbors.KNeighborsClassifier"
    )
    params = {"n_neighbors": 3}
    space = objective.prepare().space
    params = {**space.decode(space.default_unit()), **params}
    results = {seed: FreshFolds(objective)(Rerun(params, seed)) for seed in (1, 2, 3, 4)}
    assert results == {seed: FreshFolds(objective)(Rerun(params, seed)) for seed in (1, 2, 3, 4)}
    assert len(set(results.values())) > 1
    assert len({objective(Rerun(params, seed)) for seed in (1, 2, 3, 4)}) == 1
    assert isinstance(objective.table, TableConfig)
