"""Run one study, as a user's script would; the argument is the JSON of :func:`flows.tune`'s arguments."""

from __future__ import annotations

import json
import sys

from flows import tune
from tests.faults.objectives import SPACE, work


def main(arguments: list[str]) -> None:
    """Run, or resume, and print the counts as the last line."""
    result = tune(
        work, space=SPACE, tell=lambda line: print(line, file=sys.stderr), **json.loads(arguments[0])
    )
    print(json.dumps({"ended": result.ended, **result.summary["counts"]}))


if __name__ == "__main__":
    main(sys.argv[1:])
