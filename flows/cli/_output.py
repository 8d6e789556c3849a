"""What commands share in what they print."""

from __future__ import annotations

import contextlib
import sys

import typer

__all__ = ["complain", "only_json"]


def complain(line: str) -> None:
    """Say what is wrong without ending the command."""
    typer.echo(f"hpo: {line}", err=True)


def only_json(wanted: bool) -> contextlib.AbstractContextManager[object]:
    """Keep standard output for the one JSON object, whatever an objective's module prints."""
    return contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext()
