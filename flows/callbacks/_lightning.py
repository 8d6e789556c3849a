"""PyTorch Lightning: a step is one epoch of the trainer."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

from flows._saving import Saving
from flows.callbacks._optimizers import keep_own, made_with
from flows.callbacks._trial import Trial, report_and_save
from hpo_core import InputError

__all__ = ["lightning_callback", "lightning_checkpoint"]

_FILE, _OPTIONS, _GENERATOR = "trainer.ckpt", "options", "generator"


def lightning_checkpoint(trial: Trial) -> str | None:
    """The ``ckpt_path`` for ``trainer.fit``: where the trial goes on from, ``None`` at its start."""
    return None if trial.checkpoint is None else str(trial.checkpoint.load())


def lightning_callback(trial: Trial) -> Any:
    """A callback for ``Trainer(callbacks=[...])``: reports every metric that the module logged for an epoch.

    What was not logged in an epoch, as validation losses where validation is seldom, is not reported for it.
    PyTorch's random numbers go on where the checkpoint was saved.

    Works with ``lightning`` and ``pytorch_lightning``. Where an optimizer or a scheduler was made with other
    settings than the checkpoint's was (a fork's learning rate), its own hold, as in :func:`epochs`. Raises
    :class:`InputError` where neither is installed.
    """

    class Report(_callback_class()):  # type: ignore[misc]  # of whichever Lightning is there
        def __init__(self) -> None:
            super().__init__()
            self._folder = tempfile.TemporaryDirectory(prefix="hpo-lightning-")
            self._trainer: Any = None
            self._kept = _Kept()
            # Metrics as they were before the epoch: Lightning keeps what it is not told anew.
            self._before: dict[str, Any] = {}
            self._saving = Saving(trial, self._content)

        def _content(self) -> Path:
            path = Path(self._folder.name) / _FILE
            self._trainer.save_checkpoint(path)
            return path

        def state_dict(self) -> dict[str, Any]:
            return self._kept.state()

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self._kept.load(state_dict)

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            del pl_module
            self._kept.begin(trainer)

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            del pl_module
            self._kept.go_on(trainer)

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            del pl_module
            self._before = dict(trainer.callback_metrics)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            del pl_module
            self._trainer = trainer
            metrics = _logged(trainer, self._before)
            step = trainer.current_epoch + 1
            self._saving.passed(step, trainer.max_epochs)
            if metrics:
                report_and_save(trial, step, metrics, self._content)

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            # A pause is one, after which Lightning tears nothing down.
            del trainer, pl_module, exception
            self._folder.cleanup()

        def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
            del trainer, pl_module, stage
            self._folder.cleanup()

    return Report()


class _Kept:
    """What a checkpoint of the trainer's lacks: what optimizers and schedulers were made with, and random
    numbers.
    """

    def __init__(self) -> None:
        # What they were made with, here and where the checkpoint was saved.
        self._own: list[Any] = []
        self._theirs: list[Any] = []
        self._generator: Any = None

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {_OPTIONS: self._own, _GENERATOR: importlib.import_module("torch").get_rng_state()}

    def load(self, state: dict[str, Any]) -> None:
        """Out of the checkpoint."""
        self._theirs, self._generator = state[_OPTIONS], state.get(_GENERATOR)

    def begin(self, trainer: Any) -> None:
        """They are made by now, and the checkpoint's states are loaded into them after this."""
        self._own = [made_with(thing) for thing in _tuned(trainer)]
        if self._generator is not None:
            # Before the loader of the first epoch is begun, which draws the order of its rows.
            importlib.import_module("torch").set_rng_state(self._generator.cpu())

    def go_on(self, trainer: Any) -> None:
        """The checkpoint's states are loaded."""
        keep_own(zip(_tuned(trainer), self._own, self._theirs, strict=False))


def _logged(trainer: Any, before: dict[str, Any]) -> dict[str, float]:
    """What the module has logged in this epoch."""
    metrics = trainer.callback_metrics
    if not metrics and trainer.check_val_every_n_epoch in (None, 1):
        raise InputError("the module logged no metric in this epoch; call self.log('val_loss', ...) in it")
    return {name: float(value) for name, value in metrics.items() if value is not before.get(name)}


def _tuned(trainer: Any) -> list[Any]:
    """What a fork may have made with settings of its own."""
    return [*trainer.optimizers, *(config.scheduler for config in trainer.lr_scheduler_configs)]


def _callback_class() -> Any:
    for package in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return importlib.import_module(package).Callback
        except ModuleNotFoundError as error:
            if error.name != package.partition(".")[0]:
                raise
    raise InputError("lightning_callback needs Lightning; install it with: pip install lightning")
