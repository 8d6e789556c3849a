"""Ends what trial processes have started when the process that drives them is killed.

The kernel ends the trial processes of a killed driver at once. What these had started in sessions of its
own lives on, and nothing but its environment says any more where it comes from. So a runner marks its
children's environment, which everything below them inherits, and has a guard: a small process that hears
of the runner's death through a pipe and kills whatever carries the mark. Linux only; elsewhere, and of a
process that has overwritten its environment, what lives on has to be looked for by hand.

Run as a program, ``python _strays.py TOKEN``, this is the guard; it needs the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

MARK = "HPO_TRIALS_OF"
_DISMISSED = b"."
# What is about to be started while the others are killed is found by looking again.
_LOOKS, _BETWEEN_SECONDS = 20, 0.1


class Guard:
    """A runner's guard, from its construction until it is dismissed.

    ``marks``: what the environment of the runner's children needs. A trial that runs a study of its own
    marks that study's trials with both.
    """

    def __init__(self) -> None:
        token = uuid.uuid4().hex
        self.marks = {MARK: f"{os.environ.get(MARK, '')} {token}".strip()}
        self._process: subprocess.Popen[bytes] | None = None
        if sys.platform == "linux":
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, token],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # Ctrl-C, or a kill of the driver's group, is not for it
            )

    def dismiss(self) -> None:
        """The runner has ended its children itself. Calling it twice is harmless."""
        if self._process is None:
            return
        self._process.communicate(_DISMISSED)
        self._process = None


def watch(token: str) -> None:
    """Wait for the end of standard input; unless it was a dismissal, kill what carries the token."""
    if os.read(0, 1) == _DISMISSED:
        return
    for _ in range(_LOOKS):
        if not _killed(token.encode()):
            return
        time.sleep(_BETWEEN_SECONDS)


def _killed(token: bytes) -> int:
    count = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        # Other users' processes cannot be read; those that end meanwhile cannot be found.
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(int(folder.name))  # a number may be given to another process meanwhile
            try:
                if any(
                    value.startswith(MARK.encode() + b"=") and token in value
                    for value in (folder / "environ").read_bytes().split(b"\0")
                ):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    count += 1
            finally:
                os.close(handle)
    return count


if __name__ == "__main__":
    watch(sys.argv[1])
