"""Starts drivers quickly: imports everything once, then forks a process for each.

A driver spends seconds of processor time on importing MLflow and Prefect. This process does that once and
forks; what it forks is a driver like any other, with a process id and a session of its own. It reads
one JSON order a line and answers with the process id; exit codes are left in the file ``exit``.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from flows._prefect import QUIET

_PRELOAD: tuple[str, ...] = ("flows._flow", "flows.cli._main", "flows.cli._go_on")
_PRELOAD += ("tests.faults.study_process", "flows._report", "tracking._projector")
_PRELOAD += ("mlflow.store.tracking.sqlalchemy_store",)
_PRELOAD += ("scipy.stats.qmc", "matplotlib.backends.backend_agg", "tracking._report_plots", "rich.live")
_exits: dict[int, str] = {}


def _reap(*_: object) -> None:
    while _exits:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        where = Path(_exits.pop(pid))
        where.with_suffix(".new").write_text(str(os.waitstatus_to_exitcode(status)))
        where.with_suffix(".new").replace(where)


def _become(order: dict[str, Any]) -> int:
    """Be the process that was ordered; returns its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    os.setsid()
    for descriptor, name in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    from prefect.settings import PREFECT_API_URL, temporary_settings

    module, _, name = order["call"].partition(":")
    # Prefect has read its settings already, so its part of the environment is given to it by hand.
    with temporary_settings({PREFECT_API_URL: order["environment"].get("PREFECT_API_URL")}):
        try:
            return int(getattr(importlib.import_module(module), name)(order["arguments"]) or 0)
        except SystemExit as leaving:
            return int(leaving.code or 0)
        except BaseException:  # noqa: BLE001 - what Python itself does with it at the top
            traceback.print_exc()
            return 1


def main() -> None:
    """Serve orders until standard input is closed."""
    os.environ.update(QUIET)
    for name in _PRELOAD:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, _reap)
    print("ready", flush=True)
    while line := sys.stdin.readline():
        order = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        pid = os.fork()
        if pid == 0:
            sys.exit(_become(order))
        _exits[pid] = order["exit"]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        print(pid, flush=True)


if __name__ == "__main__":
    main()
