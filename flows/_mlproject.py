"""An entry point of an MLflow project as an objective: ``FOLDER`` or ``FOLDER#ENTRY``.

Each trial is one ``mlflow run`` of the entry point, in the trial's own MLflow run: what the project logs, its
model among it, is there, and the project needs no change. The metrics that are tuned are read back from that
run while the project goes on, so that schedulers that stop trials can stop it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from hpo_core import InputError, ObjectiveError, SearchSpace
from hpo_core.inner import nearest

__all__ = ["ProjectEntry", "is_project", "open_project"]

_FILE = "mlproject"
ENV_MANAGERS = ("local", "virtualenv", "uv", "conda")
_LOOK_SECONDS = 1.0
_END_SECONDS = 5.0
# Of what a project printed, what an error says.
_LAST_LINES = 20
# MLflow's own log of the run says nothing new, but for why a command could not be run at all.
_OF_MLFLOW = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ([A-Z]+) mlflow[.:]\S* (=== )?(.*?)( ===)?\s*$")
_NOTHING_NEW = "Run (ID"
_TRACEBACK = "Traceback (most recent call last):"
# MLflow's traceback of a command of its own, such as pip's, which has said before what was wrong.
_OF_A_COMMAND = "mlflow.utils.process.ShellCommandException: "


def is_project(reference: str) -> bool:
    """Whether an objective's name means a folder: no function or ready objective is named like one."""
    place = reference.partition("#")[0]
    return bool(place) and Path(place).expanduser().is_dir()


@dataclass(frozen=True, kw_only=True)
class ProjectEntry:
    """Runs ``entry`` of the project in ``folder`` with a trial's parameters, and ``fixed`` ones.

    ``metrics``: names under which the project logs what is tuned. One that is logged several times is
    reported at its steps, from step 1; its last value is the result. ``env_manager``: that of ``mlflow run``.
    ``seeded``: the entry point has a parameter ``seed`` that nobody has set, which a repeat's seed is for.
    """

    folder: str
    entry: str
    metrics: tuple[str, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    env_manager: str = "local"
    seeded: bool = False

    @property
    def label(self) -> str:
        """What the study is about, wherever its folder lies."""
        return f"{Path(self.folder).name}#{self.entry}"

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files that say what is run; what a run leaves behind is not among them."""
        top = Path(self.folder)
        named = [p for p in top.iterdir() if p.name.lower() == _FILE or p.suffix in (".yaml", ".yml")]
        return (*sorted(named), *sorted(p for p in top.rglob("*.py") if not _hidden(p.relative_to(top))))

    def digest(self) -> str:
        """SHA-256 of :attr:`sources` and of what is fixed."""
        hashed = hashlib.sha256(repr(sorted(self.fixed.items())).encode())
        for path in self.sources:
            hashed.update(path.relative_to(self.folder).as_posix().encode() + b"\0" + path.read_bytes())
        return hashed.hexdigest()

    def __call__(self, trial: Any) -> dict[str, float]:
        """Run it to its end, or until the study has seen enough of it."""
        import mlflow

        with contextlib.ExitStack() as ending:
            # A trial that is run once more, outside its study, has no run of its own.
            run = mlflow.active_run() or ending.enter_context(mlflow.start_run())
            log = _Log(run.info.run_id, self.metrics)
            process = self._start(run, self.given(trial))
            ending.callback(_end, process)
            said = _Output(process)
            while not _over(process):
                for step, values in log.glance():
                    trial.report(step, values)
            said.join()
            if process.returncode:
                raise RuntimeError(
                    f"{said.last} (entry point {self.entry!r} of {self.folder} ended with exit code "
                    f"{process.returncode})\n{said.tail}"
                )
            for step, values in log.fresh():
                trial.report(step, values)
            return self._result(log)

    def given(self, trial: Any) -> dict[str, Any]:
        """The parameters of the entry point for this trial, or repeat of one."""
        seed = {"seed": trial.seed} if self.seeded and hasattr(trial, "repeat") else {}
        return {**self.fixed, **trial.params, **seed}

    def _start(self, run: Any, params: Mapping[str, Any]) -> subprocess.Popen[str]:
        import mlflow

        given = [f"{name}={value}" for name, value in params.items()]
        command = [
            sys.executable, "-m", "mlflow", "run", self.folder, "--entry-point", self.entry,
            "--env-manager", self.env_manager, "--run-id", run.info.run_id,
            "--experiment-id", run.info.experiment_id,
            *(word for pair in given for word in ("-P", pair)),
        ]  # fmt: skip
        # The local environment is the one that this runs in, whether its shell knows about it or not.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return subprocess.Popen(
            command,
            env={**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def _result(self, log: _Log) -> dict[str, float]:
        values = log.last()
        missing = [name for name in self.metrics if name not in values]
        if missing:
            logged = ", ".join(sorted(values)) or "none"
            raise ObjectiveError(
                f"entry point {self.entry!r} logged no metric {missing[0]!r}{nearest(missing[0], values)}; "
                f"it logged: {logged}"
            )
        return {name: values[name] for name in self.metrics}


class _Log:
    """What the project has logged to the trial's run."""

    def __init__(self, run_id: str, metrics: tuple[str, ...]) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        self._run_id = run_id
        self._metrics = metrics
        self._seen = 0

    def glance(self) -> list[tuple[int, dict[str, float]]]:
        """What is :meth:`fresh`; nothing while MLflow is away, as there will be another look."""
        from mlflow.exceptions import MlflowException

        try:
            return list(self.fresh())
        except MlflowException:
            return []

    def fresh(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Steps that all metrics have reached since the last look, in order."""
        curves = [
            {m.step: m.value for m in self._client.get_metric_history(self._run_id, name)}
            for name in self._metrics
        ]
        for step in sorted(set.intersection(*map(set, curves))):
            if step > self._seen:
                self._seen = step
                yield step, {name: c[step] for name, c in zip(self._metrics, curves, strict=True)}

    def last(self) -> dict[str, float]:
        """The newest value of every metric of the run."""
        values: dict[str, float] = self._client.get_run(self._run_id).data.metrics
        return values


class _Output:
    """What a process prints, handed on to this one's output as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._before_traceback: deque[str] = deque(maxlen=_LAST_LINES)
        self._command_failed = False
        self._thread = threading.Thread(target=self._hand_on, daemon=True)
        self._thread.start()

    def _hand_on(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._note(line)
            sys.stdout.write(line)
            sys.stdout.flush()

    def _note(self, line: str) -> None:
        if line.startswith(_TRACEBACK):
            self._before_traceback = self._last.copy()
        if line.startswith(_OF_A_COMMAND) and self._before_traceback:
            self._last = self._before_traceback
            self._command_failed = True
        if not self._command_failed and (news := _news(line)):
            self._last.append(news)

    def join(self) -> None:
        """Wait for the last line; not for a process that the project has left behind."""
        self._thread.join(_END_SECONDS)

    @property
    def last(self) -> str:
        """The last line, which mostly says what was wrong."""
        return self._last[-1].strip() if self._last else "it printed nothing"

    @property
    def tail(self) -> str:
        """The last lines."""
        return "".join(self._last).strip()


def _news(line: str) -> str:
    """What a line says of what went wrong; empty for one that says nothing of it."""
    of_mlflow = _OF_MLFLOW.match(line)
    if of_mlflow is None:
        # MLflow's frame around several lines ends on one of its own.
        return line if line.strip() not in ("", "===") else ""
    level, said = of_mlflow[1], of_mlflow[3]
    return f"{said}\n" if level == "ERROR" and not said.startswith(_NOTHING_NEW) else ""


def _over(process: subprocess.Popen[str]) -> bool:
    try:
        process.wait(_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[str]) -> None:
    """End the project and what it started, if it still runs: first asked, then killed."""
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(process.pid)
        family = [*root.children(recursive=True), root]
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.terminate()
        for one in psutil.wait_procs(family, timeout=_END_SECONDS)[1]:
            with contextlib.suppress(psutil.Error):
                one.kill()
    process.wait()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part in ("mlruns", "__pycache__") for part in path.parts)


# -- what can be known before anything runs ------------------------------------------------------


def open_project(
    reference: str,
    *,
    space: SearchSpace,
    metrics: tuple[str, ...],
    fixed: Mapping[str, Any] | None = None,
    env_manager: str = "local",
) -> ProjectEntry:
    """The entry point that a reference means, checked against what it is to be run with.

    Raises :class:`InputError` for a folder that is no project, an unknown entry point or parameter, and a
    parameter that would be missing in some trial.
    """
    place, _, entry = reference.partition("#")
    folder = Path(place).expanduser().resolve()
    entry = entry or "main"
    if env_manager not in ENV_MANAGERS:
        known = ", ".join(ENV_MANAGERS)
        raise InputError(
            f"env_manager must be one of {known}, got {env_manager!r}{nearest(env_manager, ENV_MANAGERS)}"
        )
    declared = _declared(folder, entry)
    _check_parameters(declared, entry, space, fixed or {})
    return ProjectEntry(
        folder=str(folder),
        entry=entry,
        metrics=metrics,
        fixed=dict(fixed or {}),
        env_manager=env_manager,
        seeded="seed" in (declared or ()) and "seed" not in (*space.names, *(fixed or ())),
    )


def _declared(folder: Path, entry: str) -> Mapping[str, Any] | None:
    """The entry point's parameters with their defaults; ``None`` for a script, which takes any."""
    if not any(p.name.lower() == _FILE for p in folder.iterdir()):
        raise ObjectiveError(
            f"the folder {str(folder)!r} is no MLflow project: it has no file MLproject; for a function in a "
            "file give PATH.py:function"
        )
    from mlflow.projects.utils import load_project

    try:
        project = load_project(str(folder))
        found = project.get_entry_point(entry)
    except Exception as error:  # noqa: BLE001 - whatever MLflow says of a project it cannot read
        # That of a file that is no YAML is several lines, of which the last says where.
        said = "; ".join(line.strip() for line in str(error).splitlines()) or type(error).__name__
        raise ObjectiveError(f"project {str(folder)!r}: {said}") from None
    if (folder / entry).is_file():
        return None
    return {name: parameter.default for name, parameter in found.parameters.items()}


def _check_parameters(
    declared: Mapping[str, Any] | None, entry: str, space: SearchSpace, fixed: Mapping[str, Any]
) -> None:
    twice = next((name for name in space.names if name in fixed), None)
    if twice is not None:
        raise InputError(f"parameter {twice!r} is in the space and has a fixed value; keep one of them")
    if declared is None:
        return
    for name in (*space.names, *fixed):
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise InputError(
                f"entry point {entry!r} has no parameter {name!r}{nearest(name, declared)} (it has: {known})"
            )
    always = {name for name, p in space.parameters.items() if not p.conditions} | fixed.keys()
    missing = next((n for n, default in declared.items() if default is None and n not in always), None)
    if missing is not None:
        raise InputError(
            f"entry point {entry!r} needs a value for {missing!r} in every trial; add it to the space, or "
            f"give it a fixed one with --option {missing}=VALUE"
        )


def parse_metrics(text: str | None, objective: str) -> dict[str, str]:
    """``{"rmse": "min"}`` for ``rmse=min``; several are separated by commas."""
    wanted: dict[str, str] = {}
    for part in (text or "").split(","):
        name, _, direction = (word.strip() for word in part.partition("="))
        if not name or direction not in ("min", "max"):
            raise InputError(
                f"{objective!r} needs the metric to tune and its direction, as in --metric val_rmse=min or "
                f"--metric accuracy=max,seconds=min; got {text!r}"
            )
        wanted[name] = direction
    return wanted
