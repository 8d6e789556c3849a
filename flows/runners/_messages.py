"""What driver and workers say to each other: one JSON object a line, the same for every runner.

Worker to driver: ``ready`` (``problem``), then ``report``, ``curve``, ``saved``, ``run_id`` (a question), and
``done`` (``trial``, ``attempt``, ``outcome``). Driver to worker: ``study`` (``tracking``, ``output``), then
``run`` (a job), ``stop``, ``suspend``, ``run_id`` (the answer: ``trial``, ``attempt``, ``run_id``). What a
trial says is typed in :mod:`flows.runners._port`, and a dict on the line only. The objective itself travels
pickled, once, from the driver to its own workers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cloudpickle


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One segment as a worker gets it. ``folder`` is the study's, for checkpoints.

    ``checkpoint`` is the folder of the checkpoint to start from, ``""`` for none; ``known_step`` is the
    last step already reported, so that a repeated attempt does not report a step twice. ``study_seed`` is
    the study's own. ``judged``: whether the strategy may decide by reports. ``budgets``: with which ones
    a trial is to train that begins anew with each; empty where that follows from the rest.
    """

    trial: int
    attempt: int
    params: dict[str, Any]
    seed: int
    target: int | None
    from_step: int
    known_step: int
    checkpoint: str
    folder: str
    tags: dict[str, str] = field(default_factory=dict)
    study_seed: int = 0
    judged: bool = True
    budgets: Sequence[int] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


# How a segment can end, as the worker or its supervisor saw it.
RETURNED, PAUSED, STOPPED, SUSPENDED = "returned", "paused", "stopped", "suspended"
PRUNED, INFEASIBLE, RAISED = "pruned", "infeasible", "raised"
TIMED_OUT, OUT_OF_MEMORY, LOST = "timed_out", "out_of_memory", "lost"
# The study's disk took no checkpoint; so will it be with the next trial.
NO_SPACE = "no_space"
# Lost together with all else that ran there, which speaks against none of it.
CUT_OFF = "cut_off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a segment ended.

    ``values``: what the objective returned. ``params`` and ``found``: what a define-by-run objective
    used, and the distributions it asked for, as JSON. ``note``: something the user should be told.
    """

    kind: str
    values: dict[str, float] | float | None = None
    reason: str = ""
    traceback: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def encode(message: dict[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object of one line. Raises ``ValueError`` when it is none."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"expected a JSON object, got {message!r}")
    return message


def pack(thing: Any) -> str:
    """An objective as text; functions of ``__main__`` and of notebooks travel by value."""
    return base64.b64encode(cloudpickle.dumps(thing)).decode()


def unpack(text: str) -> Any:
    """The inverse of :func:`pack`, for text that came from this process's own driver."""
    return cloudpickle.loads(base64.b64decode(text))
