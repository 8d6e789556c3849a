"""Which trial is better than which: one order for everyone who shows trials or takes the best."""

from __future__ import annotations

import pytest

from hpo_core import Float, Study
from hpo_core._result import leaders, ranked


def study(objectives: dict[str, str], *values: tuple[float, ...] | None) -> Study:
    """One trial for each tuple of values; one for `None` that failed."""
    made = Study({"x": Float(0.0, 1.0)}, objectives=objectives, strategy="random")
    for row in values:
        if row is None:
            made.tell(made.ask(), state="failed")
        else:
            made.tell(made.ask(), dict(zip(objectives, row, strict=True)))
    made.ask()
    return made


@pytest.mark.parametrize(("direction", "order"), [("min", [1, 4, 2, 0]), ("max", [0, 2, 1, 4])])
def test_the_best_come_first_and_of_equals_the_earlier(direction: str, order: list[int]) -> None:
    """A trial that failed and one that still runs have no place."""
    made = study({"loss": direction}, (3.0,), (1.0,), (2.0,), None, (1.0,))
    assert leaders(made.history).tolist() == order
    assert ranked(made.history).tolist() == order
    assert made.best.number == order[0]


def test_of_several_objectives_the_front_leads_in_the_order_of_the_first() -> None:
    made = study({"loss": "min", "gain": "max"}, (3.0, 9.0), (1.0, 1.0), (2.0, 5.0), (2.5, 4.0), (9.0, 0.0))
    assert leaders(made.history).tolist() == [1, 2, 0]
    assert [trial.number for trial in made.pareto_front] == [0, 1, 2]
    assert ranked(made.history, 1).tolist() == [0, 2, 3, 1, 4]


def test_of_several_objectives_the_best_is_on_the_front() -> None:
    """One that is as good by the first objective and worse by the others came earlier, and was the best."""
    made = study({"loss": "min", "gain": "max"}, (1.0, 1.0), (1.0, 5.0), (3.0, 9.0), (1.0, 5.0))
    assert made.best.number == leaders(made.history)[0] == 1


def test_a_study_without_a_complete_trial_has_no_leaders() -> None:
    assert leaders(study({"loss": "min"}, None).history).tolist() == []
    assert leaders(study({"a": "min", "b": "min"}).history).tolist() == []
