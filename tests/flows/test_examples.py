"""Every example runs as it stands, and so does the code that the guide for newcomers shows."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import flows
from flows import tune
from flows._prefect import prefect_api
from flows.runners._messages import RETURNED
from tests.flows.conftest import Place
from tests.flows.test_callbacks import run

HOME = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((HOME / "examples").glob("*.py"))
GUIDE = re.findall(r"```python\n(.*?)```", (HOME / "docs" / "migrating.md").read_text(), flags=re.DOTALL)


@pytest.fixture
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further worker process would load MLflow, torch and the like once more, to show nothing else."""
    monkeypatch.setattr(flows, "tune", lambda *args, **terms: tune(*args, **{**terms, "workers": 1}))


@pytest.mark.slow
@pytest.mark.usefixtures("one_worker")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path: Path, tracked: Place, capsys: pytest.CaptureFixture[str]) -> None:
    if path.stem == "asha_checkpoints":
        pytest.importorskip("torch")
    # An example's own flow would have Prefect start a server for it alone.
    with prefect_api() as ready:
        ready()
        runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr()
    assert said.out.strip()
    assert "Traceback" not in said.out + said.err


@pytest.mark.parametrize(
    ("name", "params"),
    [("asha_checkpoints", {"rate": 0.1, "width": 8}), ("pbt_schedule", {"rate": 0.01, "alpha": 1e-3})],
)
def test_an_example_that_was_lost_after_its_last_step_has_its_result_again(
    name: str, params: dict[str, float], tmp_path: Path
) -> None:
    """With no step left to do it returned what it had begun with, 0.0, and was the best trial of all."""
    if name == "asha_checkpoints":
        pytest.importorskip("torch")
    loss = runpy.run_path(str(HOME / "examples" / f"{name}.py"))["loss"]
    _, (first, again) = run(loss, tmp_path, None, None, params=[params, params])
    assert [first.kind, again.kind] == [RETURNED, RETURNED]
    assert again.values == first.values


@pytest.mark.slow
@pytest.mark.parametrize("code", GUIDE, ids=["optuna", "hyperopt", "ray"])
def test_the_new_code_of_the_guide_runs(
    code: str, tracked: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """With fewer trials than it asks for, in threads."""
    few = code.replace("trials=100, workers=4", 'trials=6, workers=2, isolation="thread"')
    assert few != code
    (tracked.folder / "newcomer.py").write_text(few)
    result = runpy.run_path("newcomer.py", run_name="__main__")["result"]
    assert len(result.study.trials) == 6
    assert not any(trial.state.label == "failed" for trial in result.study.trials)
    assert "Traceback" not in capsys.readouterr().err
