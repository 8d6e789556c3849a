"""The wheel and the files that other tools read: Prefect's deployments and the MLflow project."""

from __future__ import annotations

import ast
import inspect
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
OBJECTIVES = ("lgbm", "sklearn", "torch")


def function(path: Path, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The definition of a function in a module, which is not imported for it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
    raise LookupError(f"{path.name} defines no function {name}")


def deployments() -> list[dict[str, Any]]:
    """The deployments that prefect.yaml declares."""
    return yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]


def test_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    """Three packages, licence, entry points and pages; no tests, benchmarks or settings of this checkout."""
    builder = pytest.importorskip("hatchling.builders.wheel")
    (wheel,) = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        scripts = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    assert {name.partition("/")[0] for name in names} <= {
        *("hpo_core", "tracking", "flows", "mlflow_hpo-0.1.0.dist-info")
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "hpo = flows.cli:main" in scripts[0]
    assert {"hpo = flows.ui:create_app", "prefect = flows._project_backend:prefect_backend"} <= {
        *scripts[0].splitlines()
    }
    assert {f"flows/ui/static/{name}" for name in ("page.html", "app.js", "draw.js", "style.css")} <= {*names}


def test_deployments_are_the_three_objectives_functions_and_going_on() -> None:
    """tune/lgbm, tune/sklearn, tune/torch, tune/function and resume/study, all in the pool hpo-process."""
    *tuning, own, going_on = deployments()
    assert (own["name"], own["entrypoint"]) == ("function", "flows/_flow.py:tune_flow")
    # A table's data would be refused for every other objective.
    assert "parameters" not in own
    assert [(one["name"], one["parameters"]["objective"]) for one in tuning] == [(n, n) for n in OBJECTIVES]
    assert (going_on["name"], going_on["entrypoint"]) == ("study", "flows/_flow.py:resume_flow")
    assert {one["work_pool"]["name"] for one in deployments()} == {"hpo-process"}


def test_deployments_name_the_flow_and_its_parameters() -> None:
    """The entry point exists and takes every parameter that a deployment sets."""
    for one in deployments():
        path, _, name = one["entrypoint"].partition(":")
        arguments = function(ROOT / path, name).args
        taken = {argument.arg for argument in arguments.args + arguments.kwonlyargs}
        assert set(one.get("parameters", ())) - taken == set()


def test_the_automation_watches_both_flows_and_crashes_them() -> None:
    """As `prefect automation create --from-file` reads it; names of flows and events are Prefect's own."""
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

    from flows._flow import resume_flow, tune_flow

    (given,) = yaml.safe_load((ROOT / "prefect-automations.yaml").read_text())["automations"]
    automation = AutomationCore.model_validate(given)
    trigger = automation.trigger
    assert isinstance(trigger, EventTrigger)
    assert trigger.match_related.model_dump()["prefect.resource.name"] == [tune_flow.name, resume_flow.name]
    assert trigger.after < trigger.expect
    # More than two heartbeats of the default frequency may be missed before anything is said.
    assert trigger.within.total_seconds() > 3 * tune_flow_heartbeat()
    (action,) = automation.actions
    assert (action.type, action.state.value) == ("change-flow-run-state", "CRASHED")


def tune_flow_heartbeat() -> int:
    """Seconds between the heartbeats of a flow run where nobody has set another number."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY

    return int(PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value() or 0)


def test_mlflow_project_passes_parameters_on() -> None:
    """Declared parameters fill the command, others follow as options, and a hostile value stays one word."""
    from mlflow.projects._project_spec import load_project

    specification = load_project(str(ROOT / "mlproject"))
    for entry, objective in zip(("main", "sklearn", "torch"), OBJECTIVES, strict=True):
        given = {"data": "my table; rm.csv", "trials": "20", "metric": "auc"}
        command = specification.get_entry_point(entry).compute_command(given, None)
        words = shlex.split(command)
        # Where the command line, called in the checkout, finds the study; MLflow calls it in mlproject/.
        assert words[1:5] == ["HPO_HOME=${HPO_HOME:-$PWD/../.hpo}", "hpo", "tune", objective]
        options = dict(zip(words[5::2], words[6::2], strict=True))
        assert options["--data"] == "my table; rm.csv"
        assert (options["--trials"], options["--metric"]) == ("20", "auc")


def test_mlflow_project_environment_is_this_checkout() -> None:
    """MLflow installs from a folder of links to the project's; the way back to the root is a link too."""
    environment = yaml.safe_load((ROOT / "mlproject/python_env.yaml").read_text(encoding="utf-8"))
    assert environment["dependencies"] == ["-c repository/constraints.txt", "-e ./repository"]
    assert (ROOT / "mlproject/repository").resolve() == ROOT


def options_of_tune() -> set[str]:
    """The options that `hpo tune` understands."""
    from flows.cli._tune import tune

    return {"--" + name.replace("_", "-") for name in inspect.signature(tune).parameters}


def test_console_script_has_its_function() -> None:
    """`hpo` calls flows.cli:main, which can be imported and called."""
    from flows.cli import main

    assert callable(main)


def test_mlflow_project_uses_options_that_exist() -> None:
    """Every option in the project's commands is one of `hpo tune`."""
    project = yaml.safe_load((ROOT / "mlproject/MLproject").read_text(encoding="utf-8"))
    for entry in project["entry_points"].values():
        used = {word for word in entry["command"].split() if word.startswith("--")}
        assert used - options_of_tune() == set()


def test_make_tune_uses_options_that_exist() -> None:
    """So does the command behind `make tune`."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    planned = subprocess.run(
        [make, "--dry-run", "--always-make", "tune"], cwd=ROOT, text=True, capture_output=True, check=True
    ).stdout
    command = planned[planned.index("hpo tune") :]
    used = {word for word in command.split() if word.startswith("--")}
    assert {"--data", "--register"} <= used
    assert used - options_of_tune() == set()
