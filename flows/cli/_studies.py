"""Commands on studies that exist: list, show, why, resume, extend, retry, cancel, and cleaning up."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
