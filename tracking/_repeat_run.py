"""A run of its own for each repeat of a trial, below the trial's run.

It is there only where the objective uses MLflow itself, so that one repeat does not overwrite what another
has logged. Should its worker die, whoever takes up the trial's runs ends it with them.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hpo_core import TrialPaused, TrialPruned
from tracking._active_run import run_below
from tracking._errors import brief
from tracking._states import FAILED, FINISHED, KILLED, RUNNING
from tracking.tags import PARENT_RUN_ID, ROLE, STUDY, STUDY_ID, TRIAL

__all__ = ["repeat_run"]

REPEAT = "hpo.repeat"
_INHERITED = (STUDY, STUDY_ID, TRIAL, "mlflow.user", "mlflow.source.name")
_log = logging.getLogger("tracking")


@contextlib.contextmanager
def repeat_run(repeat: int, seed: int, *, again: bool) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Inside, what is logged to MLflow goes to the run of this repeat of the running trial.

    ``again``: another attempt at it may have made the run already. Yields what adds the results of the repeat
    to its run; where there is none, it does nothing.
    """
    with run_below(lambda parent: _made(parent, repeat, seed, again=again)) as run_id:

        def result(values: Mapping[str, float]) -> None:
            _quietly(lambda client, run: client.log_batch(run, _metrics(values)), run_id())

        status = FAILED
        try:
            yield result
            status = FINISHED
        except (TrialPruned, TrialPaused):
            status = KILLED
            raise
        finally:
            _quietly(lambda client, run: client.set_terminated(run, status), run_id())


def _metrics(values: Mapping[str, float]) -> list[Any]:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    return [Metric(name, value, now, 0) for name, value in values.items()]


def _made(parent: Any, repeat: int, seed: int, *, again: bool) -> str:
    """The id of the run, made now unless an earlier attempt has made it."""
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment, above = parent.info.experiment_id, parent.info.run_id
    if again:
        query = f"tags.`{PARENT_RUN_ID}` = '{above}' AND tags.`{REPEAT}` = '{repeat}'"
        for run in client.search_runs([experiment], query, max_results=1):
            client.update_run(run.info.run_id, RUNNING)
            return str(run.info.run_id)
    tags = {name: value for name, value in parent.data.tags.items() if name in _INHERITED}
    tags |= {PARENT_RUN_ID: above, ROLE: "repeat", REPEAT: str(repeat), "hpo.seed": str(seed)}
    name = f"{parent.info.run_name} repeat {repeat}"
    return str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)


def _quietly(write: Callable[[Any, str], Any], run_id: str | None) -> None:
    """What the study itself needs is in its journal; training goes on when MLflow does not take this."""
    if run_id is None:
        return
    from mlflow import MlflowClient

    try:
        write(MlflowClient(), run_id)
    except Exception as error:  # noqa: BLE001 - whatever it was
        _log.warning("the run of a repeat could not be completed: %s", brief(error))
