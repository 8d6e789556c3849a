"""The study's summary as Markdown for Prefect."""

from __future__ import annotations

import pytest

from flows._artifact import artifact_key, markdown
from hpo_core import Categorical, Float, Study


@pytest.mark.parametrize(
    "name, key",
    [
        ("my-study", "study-my-study"),
        ("A b_c. 1", "study-a-b-c-1-82ea06"),
        ("Größe", "study-gr-e-aedc3f"),
        ("研究", "study-4ff0f1"),
    ],
)
def test_keys_are_ones_that_prefect_takes(name: str, key: str) -> None:
    """Small letters, digits, dashes."""
    assert artifact_key(name) == key


def test_two_studies_have_two_artifacts() -> None:
    """Whatever letters Prefect does not take in their names; the artifact of one replaced the other's."""
    names = ("研究", "тест", "my study", "my-study", "My-study")
    assert len({artifact_key(name) for name in names}) == len(names)


def test_the_leaders_are_listed_best_first_and_text_stays_text() -> None:
    """One row each; what would break the table, or be HTML, does not."""
    space = {"kind": Categorical(["a|b", "<b>"]), "x": Float(0, 1)}
    study = Study(space, {"auc": "max"}, "random", 0, name="s<1>")
    for value in (0.25, 0.75, 0.5):
        study.tell(study.ask(), value)
    study.tell(study.ask(), state="failed")
    lines = markdown(study, "http://there", "done").splitlines()
    assert lines[0].startswith("**s&lt;1>**: 3 complete, 1 failed in ")
    assert lines[2] == "| trial | auc | seconds | kind | x |"
    assert [row.split(" | ")[:2] for row in lines[4:7]] == [["| 1", "0.75"], ["| 2", "0.5"], ["| 0", "0.25"]]
    assert all(row.replace("\\|", "").count("|") == 6 for row in lines[2:7])
    assert "<b>" not in "\n".join(lines)
    assert lines[-1] == "[The study in MLflow](http://there)"


def test_a_study_without_a_complete_trial_has_no_table() -> None:
    """And no link where there is no server."""
    study = Study({"x": Float(0, 1)}, {"loss": "min"}, "random", 0, name="s")
    assert "|" not in markdown(study, None, "nothing was run")
