"""Run one study, as a user's script would: ``study_process.py NAME TRIALS WORKERS RUNNER``."""

from __future__ import annotations

import json
import sys

from flows import tune
from tests.faults.objectives import SPACE, work


def main() -> None:
    """Run, or resume, and print the counts as the last line."""
    name, trials, workers, runner = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    result = tune(
        work,
        space=SPACE,
        strategy="random",
        trials=trials,
        workers=workers,
        runner=runner,
        name=name,
        tell=lambda line: print(line, file=sys.stderr),
    )
    print(json.dumps({"ended": result.ended, **result.summary["counts"]}))


if __name__ == "__main__":
    main()
