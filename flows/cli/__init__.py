"""The command line ``hpo``."""

from __future__ import annotations

from flows.cli._main import main as main

__all__ = ["main"]
