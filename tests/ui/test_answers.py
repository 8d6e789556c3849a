"""What the pages ask the server for: caching, mistakes, and who may act."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import mlflow
import pytest

from tests.ui.conftest import Site

JSON = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def run(site: Site) -> str:
    """A finished study of three trials, one failed."""
    script = site.study("answers")
    script.run(0.5, steps=2)
    script.run(0.25)
    script.finish(script.begin(), state="failed", reason="it broke")
    script.stop()
    run_id = site.show(script)
    script.close()
    return run_id


def test_mlflow_is_still_there(site: Site) -> None:
    """The ordinary pages and the REST interface answer as before; it is the MLflow that is tested here."""
    said = {}
    for path in ("", "version", "health"):
        with urllib.request.urlopen(f"{site.server.uri}/{path}", timeout=60) as answer:
            assert answer.status == 200
            said[path] = answer.read().decode()
    assert said["version"] == mlflow.__version__


def test_an_answer_that_did_not_change_is_not_sent_again(site: Site, run: str) -> None:
    """304 to whoever has it; a study that went on gets another tag."""
    _, _, headers = site.ask(f"api/studies/{run}")
    assert site.ask(f"api/studies/{run}", If_None_Match=headers["ETag"])[0] == 304
    assert site.ask(f"api/studies/{run}", If_None_Match='"other"')[0] == 200


def test_trials_are_sorted_filtered_and_paged(site: Site, run: str) -> None:
    """By rank unless asked otherwise; those without the value come last."""
    _, table, _ = site.ask(f"api/studies/{run}/trials")
    assert [row["trial"] for row in table["rows"]] == [1, 0, 2]
    _, table, _ = site.ask(f"api/studies/{run}/trials?sort=trial&order=desc&limit=1&offset=1")
    assert ([row["trial"] for row in table["rows"]], table["total"]) == ([1], 3)
    _, table, _ = site.ask(f"api/studies/{run}/trials?state=failed")
    assert [row["trial"] for row in table["rows"]] == [2]


@pytest.mark.parametrize(
    "path, status, says",
    [
        ("api/studies/0123", 404, "no such study"),
        ("api/studies/{run}/trials/99", 404, "or trial"),
        ("api/studies/{run}/trials?sort=rnak", 400, "did you mean 'rank'"),
        ("api/studies/{run}/trials?limit=-1", 400, "whole number"),
        ("api/studies/{run}/compare?trials=1,x", 400, "whole number, got 'x'"),
        ("api/studies/{run}/compare?trials=,", 400, "names no trials to compare"),
        ("static/..%2F__init__.py", 404, ""),
        ("static/nothing.js", 404, "no such file"),
    ],
)
def test_mistakes_are_answered_in_a_line(site: Site, run: str, path: str, status: int, says: str) -> None:
    """Status and reason, never a traceback."""
    code, answer, _ = site.ask(path.format(run=run))
    assert code == status
    assert says in (answer or {}).get("message", "")


def test_metrics_have_the_names_that_the_objective_gave_them(site: Site) -> None:
    """They had those that MLflow takes: its run has no `loss [ms]`."""
    script = site.study("named", objectives={"loss [ms]": "min"})
    for steps in (1, 2):
        trial = script.begin()
        for step in range(1, steps + 1):
            script.report(trial, step, **{"loss [ms]": 3.0 - step, "size": 1.0})
        script.finish(trial, 3.0 - steps)
    script.stop()
    run = site.show(script)
    script.close()
    _, trial, _ = site.ask(f"api/studies/{run}/trials/1")
    assert trial["metrics"] == {"loss [ms]": 1.0, "size": 1.0}
    assert trial["curves"]["loss [ms]"] == [[1, 2.0], [2, 1.0]]
    _, compared, _ = site.ask(f"api/studies/{run}/compare?trials=0,1")
    assert [one["curves"]["loss [ms]"] for one in compared["trials"]] == [[[1, 2.0]], [[1, 2.0], [2, 1.0]]]


def test_a_run_that_is_no_study_is_not_shown(site: Site, run: str) -> None:
    """The run of a trial has no study page."""
    _, table, _ = site.ask(f"api/studies/{run}/trials")
    assert site.ask(f"api/studies/{table['rows'][0]['run_id']}")[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {**JSON, "Origin": "http://elsewhere.example"},
        {**JSON, "Sec_Fetch_Site": "cross-site"},
        # A name of theirs that leads here: the page's origin is the host's, and yet not ours.
        {**JSON, "Host": "rebound.example", "Origin": "http://rebound.example"},
    ],
)
def test_other_sites_cannot_act(site: Site, run: str, headers: dict[str, str]) -> None:
    """Only JSON, and only from the pages' own origin."""
    assert site.ask(f"api/studies/{run}/actions/retry", {}, **headers)[0] == 403


def test_a_request_that_is_nested_too_deeply_is_refused(site: Site, run: str) -> None:
    request = urllib.request.Request(
        f"{site.server.uri}/hpo/api/studies/{run}/actions/extend",
        b"[" * 9000,
        {"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    with refused.value as answer:
        assert (answer.code, json.load(answer)["message"]) == (400, "the request is no JSON")


def test_actions_say_why_they_are_not_possible(site: Site, run: str) -> None:
    """The same words on the page and for whoever asks all the same."""
    _, study, _ = site.ask(f"api/studies/{run}")
    assert study["actions"]["cancel"] == "the study is finished"
    assert study["actions"]["retry"] == ""
    code, answer, _ = site.ask(f"api/studies/{run}/actions/cancel", {}, **JSON)
    assert (code, answer["message"]) == (409, "the study is finished")
    code, answer, _ = site.ask(f"api/studies/{run}/actions/extend", {"trials": "9; rm"}, **JSON)
    assert (code, answer["message"]) == (400, "trials takes a whole number, got '9; rm'")


def test_a_study_of_another_machine_is_only_shown(site: Site) -> None:
    """Without its folder nothing can be done to it, and the page says so."""
    script = site.study("elsewhere")
    script.run(0.5)
    run_id = site.show(script)
    script.close()
    script.folder.rename(script.folder.with_name("moved"))
    _, study, _ = site.ask(f"api/studies/{run_id}")
    assert set(study["actions"].values()) == {
        "the study's folder is not on this server; use the hpo command where it is"
    }


def test_a_command_that_fails_is_quoted(site: Site, run: str) -> None:
    """A study that only Python can go on with: what `hpo extend` says is the answer."""
    code, answer, _ = site.ask(f"api/studies/{run}/actions/extend", {"trials": 200}, **JSON)
    assert code == 409
    assert "does not say how it was started" in answer["message"]
