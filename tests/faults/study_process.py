"""Run one study, as a user's script would; the argument is the JSON of :func:`flows.tune`'s arguments."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from flows import tune
from tests.faults.objectives import SPACE, work


def _set_clock(file: Path) -> None:
    right = time.time

    def shown() -> float:
        return right() + (float(file.read_text()) if file.exists() else 0.0)

    time.time = shown


def main(arguments: list[str]) -> None:
    """Run, or resume, and print the counts as the last line.

    ``HPO_TEST_CLOCK`` names a file that, once there, says by how many seconds the clock has been set.
    """
    if "HPO_TEST_CLOCK" in os.environ:
        _set_clock(Path(os.environ["HPO_TEST_CLOCK"]))
    result = tune(
        work, space=SPACE, tell=lambda line: print(line, file=sys.stderr), **json.loads(arguments[0])
    )
    print(json.dumps({"ended": result.ended, **result.summary["counts"]}))


if __name__ == "__main__":
    main(sys.argv[1:])
