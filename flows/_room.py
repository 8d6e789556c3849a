"""Room on the disk while a study runs: checkpoints that nobody can need go, and a full disk is foretold."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from hpo_core import Study
from tracking import Removable, beyond_quota, delete_checkpoint, disk_warning, removable_checkpoints


class Room:
    """Keeps the study's ``folder`` tidy, its checkpoints within ``quota`` bytes; ``tell`` gets warnings."""

    def __init__(
        self, study: Study, folder: Path, tell: Callable[[str], None], quota: int | None = None
    ) -> None:
        self._study = study
        self._folder = folder
        self._tell = tell
        self._quota = quota
        self._warned = self._gave_up = self._stuck = False
        self.taken = False  # something was saved since the last time

    async def tidy(self, now: Callable[[], float]) -> None:
        """Delete checkpoints that nothing can need any more; warn before the disk is full."""
        self.taken = False
        await self._drop(removable_checkpoints(self._study), now)
        if self._quota is not None and (surplus := beyond_quota(self._study, self._quota)):
            if not self._gave_up:
                self._gave_up = True
                self._tell(
                    "the checkpoints have reached their quota: those of paused trials that are the least "
                    "likely to go on are given up, and should one go on, it begins anew"
                )
            await self._drop(surplus, now)
        free = shutil.disk_usage(self._folder).free
        warning = disk_warning(self._study, free, quota=self._quota)
        if warning is not None and not self._warned:
            self._warned = True
            self._tell(warning)

    async def _drop(self, items: Iterable[Removable], now: Callable[[], float]) -> None:
        listed = [(item, self._study.trials[item.trial].state) for item in items]
        for item, state in listed:
            if self._study.trials[item.trial].state is not state:
                # It went on while others were deleted, perhaps from this very one: for the next time to say.
                self.taken = True
                continue
            # Journaled first: a crash in between leaves a folder too many, never a promise too much.
            self._study.execution.dropped_checkpoint(item.trial, item.step, now=now())
            try:
                await asyncio.to_thread(delete_checkpoint, self._folder, item.uri)
            except OSError as error:  # a file system that keeps it is no reason to end the study
                if not self._stuck:
                    self._stuck = True
                    self._tell(f"checkpoints that nobody needs stay on the disk: {error}")
