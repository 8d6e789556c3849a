"""Log a model to a run, without making the run active and without guessing what it needs.

Each flavour in the form that its reader can trust most: LightGBM and XGBoost as their own text, torch as
an exported program, scikit-learn through skops. Where a model cannot be written so, the next form is
tried; a model logged as a pickle says so in the tag ``hpo.serialization``.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import logging
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo_core import InputError
from tracking import _settings
from tracking._connection import Connection
from tracking._errors import TrackingError, brief, is_denied
from tracking._skops import skops_io

_log = logging.getLogger("tracking")
# Tags that say how a model was written.
_FLAVOR, _SERIALIZATION = "hpo.flavor", "hpo.serialization"
# What writing a model imports.
_WRITERS = {
    "lightgbm": ("lightgbm", "mlflow.lightgbm"),
    "sklearn": ("mlflow.sklearn",),
    "pytorch": ("torch", "mlflow.pytorch"),
    "pyfunc": ("torch.export", "mlflow.pyfunc"),
}
# MLflow's model API takes the tracking server from the process, so only one server at a time.
_server = threading.RLock()
_BASE = ("mlflow", "numpy", "pandas", "scipy", "cloudpickle")
_NOISY = (
    *("mlflow.sklearn", "mlflow.pytorch", "mlflow.pyfunc", "mlflow.models.model"),
    "mlflow.store.model_registry.abstract_store",
)
_LIBRARIES = {
    "lightgbm": ("lightgbm", "scikit-learn"),
    "xgboost": ("xgboost", "scikit-learn"),
    "sklearn": ("scikit-learn", "skops"),
    "pytorch": ("torch",),
}


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that was logged to a run.

    ``flavor`` and ``serialization``, the form that it was written in, are what its tags say where it was
    found and not logged just now; without these they are empty.
    """

    model_id: str
    run_id: str
    flavor: str = ""
    serialization: str = ""

    @property
    def uri(self) -> str:
        """``models:/m-...``."""
        return f"models:/{self.model_id}"


@dataclass(frozen=True, kw_only=True)
class CodeModel:
    """A model that is read from files by code of its own: no pickle, and no module that must be installed.

    ``code``: a Python file that defines an ``mlflow.pyfunc.PythonModel`` and hands it to
    ``mlflow.models.set_model``. ``files``: what its ``load_context`` finds at ``context.artifacts[name]``.
    """

    code: Path
    files: Mapping[str, bytes]

    def written(self, folder: Path) -> dict[str, Any]:
        """Write the files; how MLflow is told where."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        paths = {name: str(folder / name) for name in self.files}
        return {"python_model": str(self.code), "artifacts": paths}


def load_writers(*flavors: str) -> None:
    """Import what writing models of these flavors needs, which takes seconds.

    What is missing or broken is skipped: whoever needs it later says so.
    """
    for module in (module for flavor in flavors for module in _WRITERS[flavor]):
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    if "sklearn" in flavors:
        with contextlib.suppress(Exception):
            skops_io()


def log_trial_model(run_id: str, model: Any, **options: Any) -> LoggedModel:
    """Log a model to a trial's run from where the trial runs; ``options`` as of :func:`log_model`."""
    return log_model(run_id, model, **options)


def log_model(
    run_id: str,
    model: Any,
    *,
    connection: Connection | None = None,
    flavor: str | None = None,
    name: str = "model",
    pip_requirements: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    **options: Any,
) -> LoggedModel:
    """Log ``model`` to the run ``run_id``, whose status does not change.

    ``connection``: the server; ``None`` for the one that this process is set to. ``flavor``:
    ``"lightgbm"``, ``"xgboost"``, ``"sklearn"``, ``"pytorch"``, ``"pyfunc"``; found from the model when
    ``None``. ``pip_requirements``: the installed versions of the flavour's libraries when ``None``.
    ``options``: for the flavour: ``signature``, ``input_example`` (torch needs one, to export the model
    as a program), ``params``, ``metadata``...

    Raises :class:`InputError` for a model of no known flavour, and :class:`TrackingError` where its files do
    not get to MLflow.
    """
    flavor = flavor or _flavor_of(model)
    requirements = list(pip_requirements or _requirements(flavor, model))
    failed: list[str] = []
    with using_server(connection), tempfile.TemporaryDirectory() as folder:
        for serialization, arguments in _attempts(flavor, model, options, Path(folder)):
            try:
                info = _log_once(
                    flavor,
                    run_id,
                    {"name": name, "pip_requirements": requirements, **options, **arguments()},
                    {**(tags or {}), _FLAVOR: flavor, _SERIALIZATION: serialization},
                )
            except InputError:
                raise
            except Exception as error:
                if _of_the_store(error):
                    raise TrackingError(
                        f"MLflow does not take the files of the model ({brief(error)}); see whether they can "
                        "be written to where it keeps artifacts"
                    ) from error
                # With skops or torch.export anything may be wrong.
                failed.append(f"{serialization}: {brief(error)}")
                continue
            if failed:
                _log.info("the model was logged as %s; %s", serialization, "; ".join(failed))
            return LoggedModel(info.model_id, run_id, flavor, serialization)
    raise InputError(
        f"cannot log the {type(model).__name__} as {flavor}: {'; '.join(failed)}; pass flavor=, or an "
        "input_example if it is a torch module"
    )


def _of_the_store(error: Exception) -> bool:
    """Whether the model could be written and not be sent, so that another way to write it changes nothing."""
    if isinstance(error, OSError) or is_denied(error) or "API request to" in str(error):
        return True
    # Each kind of store has errors of its own: no credentials, or no library that talks to it.
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__", "").startswith("mlflow.store.artifact.") for frame in frames)


def find_model(
    connection: Connection, run_id: str, tags: Mapping[str, str] | None = None
) -> LoggedModel | None:
    """The newest whole model with these tags that was logged to the run, or ``None``.

    One whose logging was cut short is not whole. The run is in the connection's experiment.
    """
    wanted = (tags or {}).items()
    for model in connection.models(f"source_run_id = '{run_id}'"):
        if str(model.status) == "READY" and wanted <= model.tags.items():
            return LoggedModel(
                model.model_id, run_id, model.tags.get(_FLAVOR, ""), model.tags.get(_SERIALIZATION, "")
            )
    return None


def find_trial_model(connection: Connection, study_id: str, trial: int) -> LoggedModel | None:
    """The model that a trial's objective has logged, or ``None``; MLflow keeps those of runs it deletes."""
    for deleted in (False, True):
        runs = connection.trial_runs(study_id, trial, deleted=deleted)
        found = filter(None, (find_model(connection, run.info.run_id) for run in runs))
        if (model := next(found, None)) is not None:
            return model
    return None


def is_logged(connection: Connection, model_id: str) -> bool:
    """Whether MLflow has the model still."""
    from mlflow.exceptions import MlflowException

    try:
        connection.client.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _log_once(flavor: str, run_id: str, arguments: dict[str, Any], tags: dict[str, str]) -> Any:
    from mlflow import MlflowClient
    from mlflow.models import Model

    module = importlib.import_module(f"mlflow.{flavor}")
    client = MlflowClient()
    run = client.get_run(run_id)
    if run.info.lifecycle_stage == "deleted":
        raise InputError(
            f"the run {run_id} was deleted in MLflow, so no model can be logged to it; `hpo resync STUDY` "
            "makes it again"
        )
    # Made beforehand: Model.log would put it into whichever experiment the process is set to.
    made = client.create_logged_model(
        run.info.experiment_id,
        name=arguments["name"],
        source_run_id=run_id,
        tags=tags,
        params={**run.data.params, **{k: str(v) for k, v in arguments.pop("params", {}).items()}},
    )
    try:
        return Model.log(
            artifact_path=None, flavor=module, run_id=run_id, model_id=made.model_id, **arguments
        )
    except BaseException:
        with contextlib.suppress(Exception):
            client.delete_logged_model(made.model_id)
        raise


Attempt = tuple[str, Callable[[], dict[str, Any]]]


def _attempts(flavor: str, model: Any, options: Mapping[str, Any], folder: Path) -> list[Attempt]:
    """Forms to try, the most trustworthy first. ``folder``: for files, until the model is logged."""
    match flavor:
        case "lightgbm":
            return [("lightgbm", lambda: {"lgb_model": model})]
        case "xgboost":
            return [("xgboost", lambda: {"xgb_model": model, "model_format": "ubj"})]
        case "sklearn":
            pickled = {"sk_model": model, "serialization_format": "cloudpickle"}
            if "serialization_format" in options:
                return [(str(options["serialization_format"]), lambda: {"sk_model": model})]
            return [("skops", lambda: _skops_arguments(model)), ("cloudpickle", lambda: pickled)]
        case "pytorch":
            pickled = {"pytorch_model": model, "serialization_format": "pickle"}
            if "serialization_format" in options:
                return [(str(options["serialization_format"]), lambda: {"pytorch_model": model})]
            exported: list[Attempt] = [
                ("pt2", lambda: {"pytorch_model": model, "serialization_format": "pt2"})
            ]
            return (exported if "input_example" in options else []) + [("pickle", lambda: pickled)]
        case "pyfunc" if isinstance(model, CodeModel):
            return [("code", lambda: model.written(folder))]
        case "pyfunc":
            return [("cloudpickle", lambda: {"python_model": model})]
        case _:
            raise InputError(f"flavor must be one of {[*_LIBRARIES, 'pyfunc']}, got {flavor!r}")


def _skops_arguments(model: Any) -> dict[str, Any]:
    """Trust the types that this very model consists of, and no others."""
    io = skops_io()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.skops")
        io.dump(model, file)
        types = io.get_untrusted_types(file=file)
        # Fails here, before a model is logged, where skops cannot read what it wrote.
        io.load(file, trusted=types)
    return {"sk_model": model, "serialization_format": "skops", "skops_trusted_types": types}


def _flavor_of(model: Any) -> str:
    kinds = {
        "lightgbm": ("Booster", "LGBMModel"),
        "xgboost": ("Booster", "XGBModel"),
        "torch": ("nn.Module",),
        "sklearn": ("base.BaseEstimator",),
    }
    for package, names in kinds.items():
        if package not in sys.modules:
            continue
        for name in names:
            kind: Any = sys.modules[package]
            for part in name.split("."):
                kind = getattr(kind, part, None)
            if isinstance(kind, type) and isinstance(model, kind):
                return "pytorch" if package == "torch" else package
    from mlflow.pyfunc import PythonModel

    if isinstance(model, PythonModel):
        return "pyfunc"
    raise InputError(
        f"a {type(model).__name__} is no LightGBM, XGBoost, torch or scikit-learn model; pass flavor=, or "
        "wrap it in an mlflow.pyfunc.PythonModel"
    )


def _requirements(flavor: str, model: Any) -> list[str]:
    """Pinned to what runs now. MLflow's own inference takes seconds in a process of its own."""
    packages = [*_BASE, *_LIBRARIES.get(flavor, ())]
    # A pipeline may hold estimators of other libraries.
    packages += [p for p in ("lightgbm", "xgboost") if flavor == "sklearn" and p in repr(type(model)).lower()]
    pinned = []
    for package in dict.fromkeys(packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            pinned.append(f"{package}=={importlib.metadata.version(package).split('+')[0]}")
    return pinned


@contextlib.contextmanager
def using_server(connection: Connection | None) -> Iterator[None]:
    """Point MLflow's model API to the connection's server for a moment."""
    _settings.set_up_process()
    import mlflow

    with _server, _quiet():
        if connection is None:
            yield
            return
        chosen, registry = _settings.chosen_uri(), mlflow.get_registry_uri()
        variable = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(connection.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(chosen)
            if variable is not None:
                os.environ["MLFLOW_TRACKING_URI"] = variable
            if mlflow.get_registry_uri() != registry:
                mlflow.set_registry_uri(registry)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MLflow warns of pickles at length; :func:`log_model` has chosen them knowingly."""
    loggers = [logging.getLogger(n) for n in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
