"""The dialog that promotes a trial: its gates, by keyboard, by name, and as a rehearsal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flows._notes import TRACKING
from flows.ui import _actions
from hpo_core import InputError
from tests.ui.browser import Tab
from tests.ui.conftest import Site
from tracking import BoardStudy, StudyTracker, log_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")


@pytest.fixture(scope="module")
def run(site: Site) -> str:
    """A finished study whose one trial has results on three folds, and a model."""
    from sklearn.dummy import DummyRegressor

    script = site.study("candidate")
    trial = script.begin()
    for fold, value in enumerate((0.2, 0.3, 0.25), start=1):
        script.report(trial, fold, loss_fold=value)
    script.finish(trial, 0.25)
    script.study.note(TRACKING, {"uri": site.server.uri, "experiment": "candidate"}, now=script.now())
    script.stop()
    tracker = StudyTracker(script.folder, site.server.uri, "candidate")
    parent = tracker.start()
    model = DummyRegressor().fit([[0.0]], [0.0])
    log_model(tracker.run_id(trial, 60.0), model, connection=tracker.connection)
    assert tracker.close(60.0)
    script.close()
    assert parent is not None
    return parent


def names(tab: Tab, role: str) -> list[str]:
    """What a screen reader calls the dialog's elements of that role, in their order."""
    root = tab.call("DOM.getDocument")["root"]["nodeId"]
    dialog = tab.call("DOM.querySelector", nodeId=root, selector="dialog")["nodeId"]
    found = tab.call("Accessibility.queryAXTree", nodeId=dialog, role=role)["nodes"]
    return [node["name"]["value"] for node in found if not node["ignored"]]


def test_a_gate_is_chosen_by_keyboard_and_rehearsed(site: Site, tab: Tab, run: str) -> None:
    """Tab to the gate, an arrow key to the other one; only what belongs to it is asked; nothing is made."""
    tab.size(1200, 900)
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelector('[data-key=promote]')")
    tab.run("document.querySelector('[data-key=promote]').focus()")
    tab.press("Enter", 13)
    tab.until("document.querySelector('dialog[open]')")
    assert names(tab, "dialog") == ["Promote a trial of candidate"]
    assert names(tab, "group") == ["Gate: it must beat the alias's holder"]
    assert names(tab, "radio") == [
        "in its score on the same held-out data",
        "in a paired test over the same folds",
    ]
    assert names(tab, "spinbutton") == ["Trial", "by more than"]
    assert "in the metric (empty: the tuned one)" in names(tab, "textbox")
    for _ in range(3):
        tab.press("Tab", 9)
    assert tab.run("document.activeElement.value") == "margin"
    tab.press("ArrowDown", 40)
    assert tab.run("document.activeElement.value") == "folds"
    assert names(tab, "spinbutton") == ["Trial", "by more than", "with p at most"]
    assert "in the metric (empty: the tuned one)" not in names(tab, "textbox")
    said = [rehearsed(tab)]
    tab.press("ArrowUp", 38)
    said.append(rehearsed(tab))
    assert said == [
        f"no version holds candidate@champion (dry run: the first one, with loss 0.25{where})"
        for where in (" over 3 folds", "")
    ]
    tab.run("document.querySelector('dialog').close()")
    problems, tab.problems = tab.problems, []
    assert problems == []


def rehearsed(tab: Tab) -> str:
    """What "Only check" says."""
    tab.run("[...document.querySelectorAll('dialog button')].find(b => b.innerText === 'Only check').click()")
    tab.until("document.querySelector('.message.good, .message.bad')")
    return str(tab.run("document.querySelector('.message').innerText"))


def command(**body: Any) -> list[str]:
    """What is run for a request to promote."""
    study = BoardStudy("r", "1", "e", "s", "FINISHED", 0, 1, {})
    return _actions.command(study, "promote", body)


def test_the_terms_of_a_gate_become_options() -> None:
    """A margin of zero too; what is no number is refused before anything is run."""
    assert command(gate="folds", margin=0, level=0.1) == [
        *("promote", "s", "--gate=folds", "--margin=0", "--level=0.1"),
    ]
    assert command(metric="--json", trial=3) == ["promote", "s", "--trial=3", "--metric=--json"]
    for body in ({"margin": "0; rm"}, {"level": json.loads("NaN")}, {"margin": True}, {"folds": 3}):
        with pytest.raises(InputError):
            command(**body)


def test_each_limit_of_a_study_can_be_raised(site: Site, tab: Tab) -> None:
    """One that the time ends was offered more trials, which `hpo extend` refuses; and one total is enough."""
    script = site.study("timed")
    script.run(0.5)
    script.study.extend(now=script.now(), seconds=60.0, failures=3)
    run = site.show(script)
    script.close()
    tab.open(f"{site.server.uri}/hpo/studies/{run}")
    tab.until("document.querySelector('[data-key=extend]')")
    tab.run("document.querySelector('[data-key=extend]').click()")
    tab.until("document.querySelector('dialog[open]')")
    assert names(tab, "spinbutton") == [
        "New total of trials (now 100)",
        "New total of seconds (now 60)",
        "Failed trials after which it stops (now 3)",
    ]
    tab.run("document.querySelector('dialog button.main').click()")
    tab.until("document.querySelector('.message.good, .message.bad')")
    said = tab.run("document.querySelector('.message').innerText")
    assert "does not say how it was started" in said, "it was sent, with two fields empty"
    tab.run("document.querySelector('dialog').close()")
    tab.problems = []
