"""Schedulers: how far each trial runs, which are stopped, paused and promoted."""

from __future__ import annotations

from hpo_core.schedulers._full import Full as Full

__all__ = ["Full"]
