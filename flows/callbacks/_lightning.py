"""PyTorch Lightning: a step is one epoch of the trainer."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

from flows._saving import Saving
from flows.callbacks._trial import Trial, report_and_save
from hpo_core import InputError

__all__ = ["lightning_callback", "lightning_checkpoint"]

_FILE = "trainer.ckpt"


def lightning_checkpoint(trial: Trial) -> str | None:
    """The ``ckpt_path`` for ``trainer.fit``: where the trial goes on from, ``None`` at its start."""
    return None if trial.checkpoint is None else str(trial.checkpoint.load())


def lightning_callback(trial: Trial) -> Any:
    """A callback for ``Trainer(callbacks=[...])``: reports every metric that the module logged for an epoch.

    Works with ``lightning`` and ``pytorch_lightning``. Raises :class:`InputError` where neither is
    installed.
    """

    class Report(_callback_class()):  # type: ignore[misc]  # of whichever Lightning is there
        def __init__(self) -> None:
            super().__init__()
            self._folder = tempfile.TemporaryDirectory(prefix="hpo-lightning-")
            self._trainer: Any = None
            self._saving = Saving(trial, self._content)

        def _content(self) -> Path:
            path = Path(self._folder.name) / _FILE
            self._trainer.save_checkpoint(path)
            return path

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            del pl_module
            self._trainer = trainer
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            if not metrics:
                raise InputError(
                    "the module logged no metric in this epoch; call self.log('val_loss', ...) in it"
                )
            step = trainer.current_epoch + 1
            self._saving.passed(step, trainer.max_epochs)
            report_and_save(trial, step, metrics, self._content)

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            # A pause is one, after which Lightning tears nothing down.
            del trainer, pl_module, exception
            self._folder.cleanup()

        def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
            del trainer, pl_module, stage
            self._folder.cleanup()

    return Report()


def _callback_class() -> Any:
    for package in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return importlib.import_module(package).Callback
        except ModuleNotFoundError as error:
            if error.name != package.partition(".")[0]:
                raise
    raise InputError("lightning_callback needs Lightning; install it with: pip install lightning")
