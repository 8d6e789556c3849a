"""The command line ``hpo``."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; never lets a traceback out for the user's mistakes."""
    try:
        from flows.cli._main import main as run
    except KeyboardInterrupt:  # as soon as the command was typed, while modules are still being imported
        return 130
    return run(argv)
