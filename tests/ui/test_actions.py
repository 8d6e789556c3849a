"""What the pages can do to a study: when, by which command, and on whose behalf."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from flows.ui import _actions
from flows.ui._actions import ACTIONS, available, command
from hpo_core import InputError
from tests.tracking.studies import Script
from tracking import BoardStudy

COUNTS = {"complete": 2, "failed": 1}


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """A study in its folder, which is open: this process drives it."""
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    return Script(tmp_path / "studies" / "mine", name="mine")


def shown(script: Script, state: str, **tags: str) -> BoardStudy:
    """The study as MLflow has it."""
    tags = {"hpo.state": state, "hpo.limits": '{"trials": 9}', **tags}
    tags = {"hpo.study_id": script.study.created.study_id, **tags}
    return BoardStudy("r", "1", "e", "mine", "FINISHED", 0, 1, tags)


def possible(study: BoardStudy, counts: dict[str, int] | None = None) -> set[str]:
    return {
        action for action, why in available(study, COUNTS if counts is None else counts).items() if not why
    }


@pytest.mark.parametrize(
    ("state", "can"),
    [
        ("interrupted", {"cancel", "resume", "extend", "retry", "promote"}),
        ("cancelled", {"resume", "extend", "retry", "promote"}),
        ("finished", {"extend", "retry", "promote"}),
        ("failed", {"extend", "retry", "promote"}),
    ],
)
def test_what_can_be_done_to_a_study_that_nobody_drives(script: Script, state: str, can: set[str]) -> None:
    script.close()
    assert possible(shown(script, state)) == can
    assert "extend it" in available(shown(script, "finished"), COUNTS)["resume"]
    assert "retry its trials" in available(shown(script, "failed"), COUNTS)["resume"]
    assert available(shown(script, state), COUNTS).keys() == set(ACTIONS)


def test_what_there_is_none_of_cannot_be_gone_on_with(script: Script) -> None:
    """No limit to raise, no trial that ended badly, none that is complete."""
    script.close()
    assert possible(shown(script, "cancelled", **{"hpo.limits": "{}"}), {}) == {"resume"}
    assert possible(shown(script, "cancelled"), {"timed_out": 1}) == {"resume", "extend", "retry"}


def test_a_study_that_is_driven_can_only_be_cancelled(script: Script) -> None:
    """Or waited for, once it has ended and its driver is still at work on it."""
    assert possible(shown(script, "running")) == {"cancel"}
    assert possible(shown(script, "finished")) == {"cancel"}
    assert "wait for it, or cancel it" in available(shown(script, "running"), COUNTS)["resume"]
    assert "still writing its report" in available(shown(script, "finished"), COUNTS)["extend"]
    script.close()


def test_nothing_is_done_to_what_is_not_here(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the same name may hold another study; a server may be there to be looked at only."""
    script.close()
    other = shown(script, "cancelled", **{"hpo.study_id": "another"})
    assert possible(other) == set()
    assert "not on this server" in available(other, COUNTS)["resume"]
    monkeypatch.setenv("HPO_UI_READ_ONLY", "1")
    assert possible(shown(script, "cancelled")) == set()


@pytest.mark.parametrize(
    ("action", "body", "arguments"),
    [
        ("cancel", {}, []),
        ("extend", {"trials": 20}, ["--trials=20"]),
        ("extend", {"timeout": 90.5, "max_total_steps": 7}, ["--timeout=90.5", "--max-total-steps=7"]),
        ("extend", {"max_cost": 60, "max_failures": 3}, ["--max-cost=60", "--max-failures=3"]),
        ("retry", {}, ["--failed"]),
        ("retry", {"trials": [3, 5]}, ["--trial=3", "--trial=5"]),
        ("retry", {"trials": [0]}, ["--trial=0"]),
        ("promote", {"trial": 0, "alias": "best", "margin": 0}, ["--trial=0", "--alias=best", "--margin=0"]),
    ],
)
def test_an_action_is_a_command(
    script: Script, action: str, body: dict[str, Any], arguments: list[str]
) -> None:
    script.close()
    assert command(shown(script, "cancelled"), action, body) == [action, "mine", *arguments]


@pytest.mark.parametrize(
    ("action", "body", "says"),
    [
        ("exted", {}, "did you mean 'extend'"),
        ("extend", {}, "a new total, one of trials, timeout"),
        ("extend", {"trials": None}, "whole number, got None"),
        ("extend", {"max_cost": "9"}, "takes a number, got '9'"),
        ("extend", {"trials": -1}, "whole number, got -1"),
        ("extend", {"trials": True}, "whole number, got True"),
        ("extend", {"trials": 2.5}, "whole number, got 2.5"),
        ("retry", {"trials": 3}, "takes a list"),
        ("retry", {"trials": ["--now"]}, "whole number, got '--now'"),
        ("promote", {"margin": float("nan")}, "takes a number"),
        ("cancel", {"trials": 3}, "does not take 'trials'"),
    ],
)
def test_what_is_no_command_is_refused(script: Script, action: str, body: dict[str, Any], says: str) -> None:
    script.close()
    with pytest.raises(InputError, match=says):
        command(shown(script, "cancelled"), action, body)


def test_a_command_runs_as_who_asked_for_it_and_without_what_is_the_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = {"_MLFLOW_SERVER_FILE_STORE": "x", "MLFLOW_AUTH_CONFIG_PATH": "x", "MLFLOW_RUN_ID": "x"}
    theirs |= {"MLFLOW_TRACKING_URI": "x", "MLFLOW_FLASK_SERVER_SECRET_KEY": "x"}
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.setenv("HPO_HOME", "somewhere")
    packed = base64.b64encode(b"ann:a:b").decode()
    environment = _actions._environment(f"Basic {packed}")
    assert not environment.keys() & theirs.keys()
    assert environment["HPO_HOME"] == "somewhere"
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["MLFLOW_TRACKING_USERNAME"] == "ann"
    assert environment["MLFLOW_TRACKING_PASSWORD"] == "a:b"
    for other in (None, "", "Bearer abc", "Basic %%%", "Basic /w=="):
        assert "MLFLOW_TRACKING_USERNAME" not in _actions._environment(other)


@pytest.mark.parametrize(
    ("lines", "code", "says"),
    [
        (["hpo: a warning", "made version 3"], 0, "made version 3"),
        (["hpo: first", "hpo: no such trial", "Exception ignored"], 2, "no such trial"),
        (["Segmentation fault"], 139, "Segmentation fault"),
        ([], 0, "done"),
        ([], 9, "the command ended with code 9"),
    ],
)
def test_how_a_command_ended_is_said_in_a_line(lines: list[str], code: int, says: str) -> None:
    assert _actions._last(lines, code) == says
