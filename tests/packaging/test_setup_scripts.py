"""The scripts behind `make` and CI: they fail loudly, say what to do, and never fetch CUDA."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASH = shutil.which("bash") or "bash"


def script(path: Path, text: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!{BASH}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def run(*command: str, path: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with exactly this search path and environment."""
    return subprocess.run(
        [BASH, *command],
        cwd=cwd,
        env={"PATH": path, **environment},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def torch_script() -> ModuleType:
    """The script .ci/torch as a module."""
    loader = SourceFileLoader("ci_torch", str(ROOT / ".ci/torch"))
    spec = spec_from_loader("ci_torch", loader)
    assert spec
    module = module_from_spec(spec)
    write, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = write
    return module


@pytest.mark.parametrize("version", ["3.9.2", "3.15.0"])
def test_venv_wants_a_python_that_everything_installs_with(version: str, tmp_path: Path) -> None:
    """Any other is passed over: with a newer one pip began to compile numpy, and failed after minutes."""
    pretending = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 'final', 0); "
    for name in ("python3", "python3.12", "python3.13", "python3.14", "python3.11", "python"):
        script(
            tmp_path / name,
            f'[ "$1" = --version ] && echo "Python {version}" || "{sys.executable}" -c "{pretending}$2"',
        )
    done = run(".ci/venv", str(tmp_path / "venv"), path=str(tmp_path))
    assert done.returncode == 2
    assert f"Expected Python 3.11, 3.12, 3.13 or 3.14, found: Python {version}" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_venv_tries_the_next_python(tmp_path: Path) -> None:
    """A broken python3 does not hide a good python3.12."""
    script(tmp_path / "python3", "exit 1")
    script(
        tmp_path / "python3.12",
        f'case "$*" in "-m venv"*) echo "made $4" ;; *) exec "{sys.executable}" "$@" ;; esac',
    )
    done = run(".ci/venv", "somewhere", path=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "made somewhere" in done.stdout


def test_make_tune_is_one_command() -> None:
    """`make tune` runs the study that the README shows, on all cores."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    command = [make, "--dry-run", "--always-make", "tune", "WORKERS=7"]
    shown = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert "hpo tune lgbm --data sklearn:breast_cancer --target target --trials 30" in shown
    assert "--workers 7" in shown


def plan(*names: str) -> subprocess.CompletedProcess[str]:
    """What pip answers when asked what it would install."""
    report = {"install": [{"metadata": {"name": name}} for name in names]}
    return subprocess.CompletedProcess([], 0, stdout=json.dumps(report))


@pytest.mark.parametrize(
    ("would_install", "required", "installs", "code"),
    [
        (("torch", "sympy"), "", True, 0),
        (("torch", "nvidia-cudnn-cu13", "triton"), "", False, 0),
        (("torch", "cuda-toolkit"), "1", False, 2),
        ((), "", False, 0),
    ],
)
def test_torch_is_installed_only_without_cuda(
    torch_script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    would_install: tuple[str, ...],
    required: str,
    installs: bool,
    code: int,
) -> None:
    """The plan decides; CUDA in it means no torch, which is an error only where torch was required."""
    calls: list[tuple[str, ...]] = []

    def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
        calls.append(arguments)
        return plan(*would_install)

    monkeypatch.setattr(torch_script, "pip", pip)
    monkeypatch.setenv("HPO_REQUIRE_TORCH", required)
    assert torch_script.main("constraints.txt") == code
    assert [call for call in calls if "--dry-run" not in call] == (
        [
            (
                "install",
                "--quiet",
                "--no-compile",
                "--constraint",
                "constraints.txt",
                "torch",
                "pytorch-lightning",
            )
        ]
        if installs
        else []
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with CI's script, a list of packages, and tools that only write down what they were asked."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / ".ci/packages").write_text("# comment\n", encoding="utf-8")
    script(tmp_path / "bin/make", 'echo "make $*" >> "$LOG"; exit "${MAKE_EXIT:-0}"')
    script(tmp_path / "bin/apt-get", 'echo "apt-get $*" >> "$LOG"')
    script(tmp_path / "bin/sudo", 'exec "$@"')
    script(tmp_path / "bin/dpkg-query", '[ "${@: -1}" = there ] && echo "install ok installed"')
    return tmp_path


def ci(checkout: Path, **environment: Any) -> tuple[int, list[str]]:
    """Run CI's script; exit code and the commands it gave."""
    log = checkout / "log"
    path = f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = run(str(checkout / ".ci/run"), path=path, LOG=str(log), **environment)
    return done.returncode, log.read_text(encoding="utf-8").splitlines()


def test_ci_installs_nothing_that_is_not_listed(checkout: Path) -> None:
    """With an empty list CI is `make test` and nothing else."""
    assert ci(checkout) == (0, ["make test"])


def test_ci_installs_what_is_missing(checkout: Path) -> None:
    """Listed packages that the machine has are left alone."""
    (checkout / ".ci/packages").write_text("# tools\nthere\nabsent\n", encoding="utf-8")
    code, commands = ci(checkout)
    assert code == 0
    assert commands[0] == "apt-get update -q"
    assert commands[1].endswith("install -q -y --no-install-recommends absent")
    assert commands[2:] == ["make test"]


@pytest.mark.parametrize("code", [1, 2, 5])
def test_ci_fails_as_the_checks_fail(checkout: Path, code: int) -> None:
    """The exit code of the checks is CI's own."""
    assert ci(checkout, MAKE_EXIT=str(code)) == (code, ["make test"])


@pytest.fixture
def versions_tree(tmp_path: Path) -> Path:
    """A checkout with the script .ci/versions whose Python writes down how it is called."""
    for folder in (".ci", ".venv/bin", "tmp"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / ".ci/versions", tmp_path / ".ci")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    record = (
        f'echo "${{PYTHONPATH:-}} $*" >> {tmp_path}/calls; [ "$2" != pytest ] || [ ! -e {tmp_path}/broken ]'
    )
    script(tmp_path / ".venv/bin/python", record)
    return tmp_path


def test_versions_lays_each_over_the_environment_and_leaves_nothing(versions_tree: Path) -> None:
    """By default the lowest that pyproject.toml allows, and MLflow's parts in one version."""
    system = {"path": os.environ["PATH"], "TMPDIR": str(versions_tree / "tmp")}
    done = run(".ci/versions", cwd=versions_tree, **system)
    assert (done.returncode, done.stderr) == (0, "")
    mlflow, tracked, prefect, run_by = (versions_tree / "calls").read_text().splitlines()
    assert "--no-deps" in mlflow
    assert mlflow.endswith("mlflow==3.17 mlflow-skinny==3.17 mlflow-tracing==3.17")
    assert prefect.endswith(" prefect==3.8.8")
    for installed, tested in ((mlflow, tracked), (prefect, run_by)):
        folder, _, words = tested.partition(" ")
        assert f"--target {folder} " in installed
        assert words.startswith("-m pytest ")
        assert [name for name in words.split() if "/" in name and not (ROOT / name).exists()] == []
    assert list((versions_tree / "tmp").iterdir()) == []


def test_versions_fails_with_its_tests_and_for_other_packages(versions_tree: Path) -> None:
    system = {"path": os.environ["PATH"], "TMPDIR": str(versions_tree / "tmp")}
    done = run(".ci/versions", "numpy==2.0.0", cwd=versions_tree, **system)
    assert (done.returncode, "got numpy==2.0.0" in done.stderr) == (2, True)
    (versions_tree / "broken").touch()
    done = run(".ci/versions", "prefect==3.8.8", cwd=versions_tree, **system)
    assert done.returncode == 1
    assert list((versions_tree / "tmp").iterdir()) == []
