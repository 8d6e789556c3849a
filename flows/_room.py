"""Room on the disk while a study runs: checkpoints that nobody can need go, and a full disk is foretold."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from hpo_core import Study
from tracking import delete_checkpoint, disk_warning, removable_checkpoints


class Room:
    """Keeps the study's ``folder`` tidy; ``tell`` gets the warning, once."""

    def __init__(self, study: Study, folder: Path, tell: Callable[[str], None]) -> None:
        self._study = study
        self._folder = folder
        self._tell = tell
        self._warned = False
        self.taken = False  # something was saved since the last time

    async def tidy(self, now: Callable[[], float]) -> None:
        """Delete checkpoints that nothing can need any more; warn before the disk is full."""
        self.taken = False
        for item in removable_checkpoints(self._study):
            # Journaled first: a crash in between leaves a folder too many, never a promise too much.
            self._study.dropped_checkpoint(item.trial, item.step, now=now())
            await asyncio.to_thread(delete_checkpoint, self._folder, item.uri)
        warning = disk_warning(self._study, shutil.disk_usage(self._folder).free)
        if warning is not None and not self._warned:
            self._warned = True
            self._tell(warning)
