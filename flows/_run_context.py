"""Which trial the code that runs here belongs to, as tags on every MLflow run that it opens.

MLflow loads this module wherever it is imported (entry point ``mlflow.run_context_provider``), so it
imports the standard library only and costs a look at a dictionary where no trial runs.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import threading
from collections.abc import Iterator, Mapping

# Read by other threads of a worker process, and by the processes that an objective starts.
VARIABLE = "HPO_TRIAL_TAGS"

_of_thread = threading.local()

# The Prefect runs around the segment that this coroutine carries out; set by whoever orchestrates it.
prefect_runs: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("prefect_runs")


@contextlib.contextmanager
def running_trial(tags: Mapping[str, str], *, whole_process: bool) -> Iterator[None]:
    """Inside, runs that are opened get these tags. ``whole_process``: in every thread and subprocess."""
    _of_thread.tags = dict(tags)
    if whole_process:
        os.environ[VARIABLE] = json.dumps(dict(tags))
    try:
        yield
    finally:
        _of_thread.tags = {}
        if whole_process:
            os.environ.pop(VARIABLE, None)


def current_tags() -> dict[str, str]:
    """The tags of the trial that runs here; empty where none does."""
    tags: dict[str, str] = getattr(_of_thread, "tags", {})
    if tags or VARIABLE not in os.environ:
        return dict(tags)
    try:
        found = json.loads(os.environ[VARIABLE])
        return {str(name): str(value) for name, value in found.items()}
    except (ValueError, AttributeError):
        return {}  # somebody else's variable; a tag is not worth an error


class TrialContext:
    """MLflow's run context provider: study, trial, attempt, and the flow run and task run around them."""

    def in_context(self) -> bool:
        """Whether a trial runs here."""
        return bool(current_tags())

    def tags(self) -> dict[str, str]:
        """The tags for a new run."""
        return current_tags()
