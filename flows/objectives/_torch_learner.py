"""Training one network epoch by epoch, and its checkpoints. torch is imported on first use."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.objectives._base import Setting, fold_seed
from flows.objectives._data import Problem
from flows.objectives._metrics import Array, pinball_level
from flows.objectives._splits import Rows
from hpo_core import ObjectiveError

if TYPE_CHECKING:
    import torch


@dataclass
class Run:
    """A trial so far, without its networks."""

    step: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    best_value: float = math.nan

    def add(self, step: int, value: float, loss: float) -> None:
        """Note one epoch; ``loss`` is what early stopping watches, minimised."""
        self.step = step
        if loss < self.best_loss:
            self.best_step, self.best_loss, self.best_value = step, loss, value


class Learner:
    """A network, its optimiser and its training rows."""

    def __init__(
        self,
        problem: Problem,
        rows: Rows,
        params: Mapping[str, Any],
        seed_device: tuple[int, torch.device],
        loss: str,
    ) -> None:
        import torch

        from flows.objectives._mlp import Predictor, TabularNet, optimizer_for

        self._seed, self._device = seed_device
        self._problem, self._params, self._loss = problem, params, loss
        y = problem.y[rows]
        scale = None if problem.classes else (float(y.mean()), float(y.std()) or 1.0)
        levels = [len(problem.levels[c]) for c in problem.categories]
        outputs = len(problem.classes) if problem.task == "multiclass" else 1
        with self._random(0):
            net = TabularNet(problem.matrix[rows], levels, outputs, params)
        self.predictor = Predictor(net, scale).to(self._device)
        self.optimizer = optimizer_for(net, params)
        self._x = self.tensor(rows)
        target = torch.tensor(y if scale is None else (y - scale[0]) / scale[1], dtype=torch.float32)
        self._y = (target.long() if problem.task == "multiclass" else target[:, None]).to(self._device)
        self._weights = self._class_weights(y)

    def _random(self, step: int) -> Any:
        """A context in which torch draws from this epoch's own stream, and nobody else's draws change."""
        import contextlib

        import torch

        devices = [self._device] if self._device.type == "cuda" else []

        @contextlib.contextmanager
        def seeded() -> Any:
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(fold_seed(self._seed, step))
                yield

        return seeded()

    def _class_weights(self, y: Array) -> torch.Tensor | None:
        import torch

        if not self._problem.classes or self._params.get("class_weight", "none") != "balanced":
            return None
        counts = np.maximum(np.bincount(y.astype(np.int64), minlength=len(self._problem.classes)), 1)
        weights = counts.sum() / (len(counts) * counts)
        if self._problem.task == "binary":
            weights = weights[1:] / weights[:1]
        return torch.tensor(weights, dtype=torch.float32, device=self._device)

    def tensor(self, rows: Rows) -> torch.Tensor:
        """Rows of the matrix on the device."""
        import torch

        return torch.tensor(self._problem.matrix[rows], dtype=torch.float64, device=self._device)

    def predict(self, x: torch.Tensor) -> Array:
        """Probabilities or values, float64."""
        from flows.objectives._mlp import predictions

        return predictions(self.predictor, x)

    def epoch(self, step: int, of: int) -> float:
        """One pass over the training rows; the mean loss."""
        import torch

        rate = float(self._params.get("learning_rate", 1e-3))
        if self._params.get("schedule", "constant") == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * (step - 1) / of))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        clip = float(self._params.get("clip_norm", math.inf))
        size = int(self._params.get("batch_size", 64))
        self.predictor.train()
        total, seen = 0.0, 0
        with self._random(step):
            for batch in torch.randperm(len(self._x)).to(self._device).split(size):
                if len(batch) < 2 and seen:
                    # Batch normalisation cannot normalise a single row.
                    continue
                loss = self._loss_of(self.predictor.net(self._x[batch]), self._y[batch])
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if math.isfinite(clip):
                    torch.nn.utils.clip_grad_norm_(self.predictor.parameters(), clip)
                self.optimizer.step()
                total += float(loss.detach()) * len(batch)
                seen += len(batch)
        return total / max(seen, 1)

    def _loss_of(self, raw: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        task = self._problem.task
        if task == "multiclass":
            smoothing = float(self._params.get("label_smoothing", 0.0))
            return functional.cross_entropy(raw, y, weight=self._weights, label_smoothing=smoothing)
        if task == "binary":
            return functional.binary_cross_entropy_with_logits(raw, y, pos_weight=self._weights)
        if self._loss == "l1":
            return functional.l1_loss(raw, y)
        if self._loss != "l2":
            gap, level = y - raw, float(self._loss)
            return (level * gap).maximum((level - 1) * gap).mean()
        return functional.mse_loss(raw, y)


def loss_of(setting: Setting) -> str:
    """Regression's loss: ``l2``, ``l1``, or the level of a quantile."""
    level = pinball_level(setting.metric)
    if level is not None:
        return str(level)
    return "l1" if setting.metric.name in ("mae", "medae", "mape", "smape") else "l2"


def packed(run: Run, folds: list[Learner]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(
        {
            "run": vars(run),
            "nets": [f.predictor.net.state_dict() for f in folds],
            "optimizers": [f.optimizer.state_dict() for f in folds],
            "optimizer": type(folds[0].optimizer).__name__,
        },
        buffer,
    )
    return buffer.getvalue()


def restored(content: bytes, folds: list[Learner], device: torch.device) -> Run:
    """Weights and optimiser states back into ``folds``; the run so far."""
    import torch

    state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    for learner, net, optimizer in zip(folds, state["nets"], state["optimizers"], strict=True):
        try:
            learner.predictor.net.load_state_dict(net)
        except RuntimeError:
            raise ObjectiveError(
                "the checkpoint's network has another shape than these parameters ask for; a strategy that "
                "forks trials cannot change layers, width, norm or embedding_size: fix them in the space file"
            ) from None
        if type(learner.optimizer).__name__ == state["optimizer"]:
            # A fork keeps the moments but brings settings of its own.
            ours = [{k: v for k, v in g.items() if k != "params"} for g in learner.optimizer.param_groups]
            learner.optimizer.load_state_dict(optimizer)
            for group, settings in zip(learner.optimizer.param_groups, ours, strict=True):
                group.update(settings)
    return Run(**state["run"])
