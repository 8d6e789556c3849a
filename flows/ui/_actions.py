"""What the pages can do to a study: the commands of ``hpo``, run in processes of their own.

A process of its own keeps model fits and Prefect out of the web server, and makes the study outlive it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from flows._find import is_driven
from flows._request import TOTALS
from flows._workspace import study_folder
from hpo_core import InputError, JournalError
from hpo_core.inner import BAD, JOURNAL, is_number, nearest, read_created
from tracking import BoardStudy
from tracking.tags import LIMITS

ACTIONS = ("cancel", "resume", "extend", "retry", "promote")
# What a request may say besides the action; `hpo` checks the rest.
_TERMS = {
    "extend": tuple(TOTALS),
    "retry": ("trials",),
    "promote": ("trial", "model", "alias", "gate", "margin", "metric", "level", "dry_run"),
}
# Why a study that has ended cannot be resumed.
_OVER = {
    "finished": "the study is finished; extend it",
    "failed": "the study has failed; retry its trials, or extend it",
}
_LOG = "ui.log"
_START_SECONDS = 30.0
_END_SECONDS = 900.0
_LOOK_SECONDS = 0.2
READ_ONLY = "HPO_UI_READ_ONLY"


@dataclass(frozen=True, slots=True)
class Done:
    """How an action went, in words."""

    succeeded: bool
    message: str


def available(study: BoardStudy, counts: dict[str, int]) -> dict[str, str]:
    """For each action why it cannot be done now; ``""`` where it can."""
    reason = _absent(study)
    if reason:
        return dict.fromkeys(ACTIONS, reason)
    driven = is_driven(study.name)
    state = study.state
    ended = state in ("finished", "failed", "cancelled")
    limits = set(json.loads(study.tags.get(LIMITS, "{}")))
    doing = "still writing its report; wait a moment" if ended else "running; wait for it, or cancel it"
    busy = f"the study is {doing}" if driven else ""
    return {
        "cancel": f"the study is {state}" if ended and not driven else "",
        "resume": busy or _OVER.get(state, ""),
        "extend": busy or ("" if limits & set(TOTALS.values()) else "the study has no limit"),
        "retry": busy or ("" if any(counts.get(s.label) for s in BAD) else "no trial ended badly"),
        "promote": busy or ("" if counts.get("complete") else "no trial is complete"),
    }


def _absent(study: BoardStudy) -> str:
    """Why nothing can be done to the study from here, if so."""
    if os.environ.get(READ_ONLY):
        return f"this server only shows studies ({READ_ONLY} is set)"
    try:
        created = read_created(study_folder(study.name) / JOURNAL)
    except (InputError, JournalError, OSError) as error:
        return f"the study's folder cannot be read here: {error}"
    if created is None or created.study_id != study.study_id:
        return "the study's folder is not on this server; use the hpo command where it is"
    return ""


def command(study: BoardStudy, action: str, body: dict[str, Any]) -> list[str]:
    """The arguments of ``hpo``. Raises :class:`InputError` for a body that makes no sense."""
    if action not in ACTIONS:
        raise InputError(f"there is no action {action!r}{nearest(action, ACTIONS)}")
    for key in body:
        if key not in _TERMS.get(action, ()):
            raise InputError(f"{action} does not take {key!r}")
    arguments = [action, study.name]
    if action == "extend":
        if not body:
            raise InputError(f"extend takes a new total, one of {', '.join(TOTALS)}")
        arguments += [f"--{name.replace('_', '-')}={_total(name, value)}" for name, value in body.items()]
    elif action == "retry":
        chosen = body.get("trials")
        if chosen is not None and not isinstance(chosen, list):
            raise InputError(f"retry takes a list of trials, got {chosen!r}")
        arguments += [f"--trial={_whole(n, 'trials')}" for n in chosen or []] or ["--failed"]
    elif action == "promote":
        if body.get("trial") is not None:
            arguments.append(f"--trial={_whole(body['trial'], 'trial')}")
        for option in ("model", "alias", "gate", "metric"):
            if body.get(option):
                arguments.append(f"--{option}={body[option]}")
        for option in ("margin", "level"):
            if body.get(option) is not None:
                arguments.append(f"--{option}={_number(body[option], option)}")
        if body.get("dry_run"):
            arguments.append("--dry-run")
    return arguments


def _total(name: str, value: Any) -> float:
    return _number(value, name) if name in ("timeout", "max_cost") else _whole(value, name)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    raise InputError(f"{name} takes a whole number, got {value!r}")


def _number(value: Any, name: str) -> float:
    if is_number(value) and math.isfinite(value):
        return value
    raise InputError(f"{name} takes a number, got {value!r}")


async def perform(study: BoardStudy, arguments: list[str], authorization: str | None) -> Done:
    """Run the command; what goes on with the study is left to itself once it drives it."""
    start = "import sys; from flows.cli import main; sys.exit(main())"
    log = study_folder(study.name) / _LOG
    with log.open("ab") as sink:
        began = sink.tell()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", start, *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink,
            env=_environment(authorization), start_new_session=True,
        )  # fmt: skip
    goes_on = arguments[0] in ("resume", "extend", "retry")
    deadline = time.monotonic() + (_START_SECONDS if goes_on else _END_SECONDS)
    while time.monotonic() < deadline:
        try:
            code = await asyncio.wait_for(process.wait(), _LOOK_SECONDS)
        except TimeoutError:
            if goes_on and is_driven(study.name):
                return Done(True, f"{study.name} is running")
            continue
        with log.open("rb") as said:
            said.seek(began)
            lines = said.read(1 << 20).decode(errors="replace").strip().splitlines()
        return Done(code == 0, _last(lines, code))
    return Done(True, "it was started and goes on")


def _last(lines: list[str], code: int) -> str:
    """The line that says how it ended."""
    ours = [line.removeprefix("hpo: ") for line in lines if line.startswith("hpo: ")]
    if code and ours:
        return ours[-1]
    return lines[-1] if lines else ("done" if code == 0 else f"the command ended with code {code}")


def _environment(authorization: str | None) -> dict[str, str]:
    """This process's, without what the server is set up by, and with the caller's name and password."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("_MLFLOW", "MLFLOW_AUTH"))}
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
        kept.pop(name, None)
    kept["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    scheme, _, packed = (authorization or "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(packed, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return kept
        kept |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
    return kept
