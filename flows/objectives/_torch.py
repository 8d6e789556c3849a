"""The torch objective: a multilayer perceptron for tables, epoch by epoch, all folds at once.

One step is one epoch in every fold; the report is the mean over the folds. The value is the best point
of that mean curve, and the final model trains for as many epochs.

A trial can be paused after any epoch and goes on exactly: a checkpoint holds weights and optimiser
state, and all randomness of an epoch (order of rows, dropout) is drawn from a seed of its own, a function
of (trial, fold, epoch). On the CPU an interrupted trial has the same losses bit for bit.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows._data import Problem
from flows._metrics import Array, pinball_level
from flows._splits import Rows
from flows.objectives._base import (
    EXAMPLE_ROWS,
    FinalModel,
    Prepared,
    Rerun,
    Setting,
    TableConfig,
    Trial,
    TrialInfo,
    all_needs,
    contract,
    final_scores,
    fold_seed,
    load_setting,
    mean,
    permutation_importance,
    prepared,
    requirements,
)
from flows.objectives._space_file import build_space
from hpo_core import (
    Categorical,
    Constant,
    Float,
    InputError,
    Int,
    ObjectiveError,
    Parameter,
    SearchSpace,
    TrialPruned,
)
from hpo_core._errors import nearest

if TYPE_CHECKING:
    import torch

# Seconds of work that a lost worker may cost.
_SAVE_SECONDS = 20.0
DEVICES = ("auto", "cpu", "cuda")

# What each parameter may be: a range of numbers, or names.
_DOMAINS: dict[str, tuple[float, float] | tuple[Any, ...]] = {
    "layers": (1, 20),
    "width": (1, 8192),
    "embedding_size": (1, 1024),
    "batch_size": (2, 65_536),
    "learning_rate": (1e-12, 100.0),
    "weight_decay": (0.0, 10.0),
    "momentum": (0.0, 0.9999),
    "dropout": (0.0, 0.95),
    "label_smoothing": (0.0, 0.9),
    "clip_norm": (1e-6, 1e6),
    "optimizer": ("adamw", "adam", "sgd"),
    "activation": ("relu", "gelu", "silu"),
    "norm": ("none", "batch", "layer"),
    "schedule": ("constant", "cosine"),
    "class_weight": ("none", "balanced"),
    "squash": (False, True),
}
_WHOLE = ("layers", "width", "embedding_size", "batch_size")
_NAMED = ("optimizer", "activation", "norm", "schedule", "class_weight", "squash")


@dataclass(frozen=True, kw_only=True)
class TorchMLP:
    """Tune a multilayer perceptron on a table.

    ``max_epochs``  length of the budget axis
    ``patience``    epochs without a better value before training stops
    ``device``      ``auto`` takes CUDA when it is there

    Raises :class:`InputError` for values out of range.
    """

    name: ClassVar[str] = "torch"

    table: TableConfig
    max_epochs: int = 100
    patience: int = 15
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("max_epochs", "patience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a whole number from 1, got {value!r}")
        if self.device not in DEVICES:
            raise InputError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")

    def prepare(self) -> Prepared:
        """Check data, metric, space file, and that torch and the device are there."""
        setting = load_setting(self.table)
        self._device()
        default = _default_space(setting.problem, len(setting.split.train))
        space = build_space(
            default,
            self.table.space,
            resolve=_resolve,
            check=_check_domain,
            check_space=lambda space: _check_together(space, setting.problem),
        )
        question = {"max_epochs": self.max_epochs, "patience": self.patience}
        return prepared(self, setting, space, steps=(self.max_epochs, "epoch"), question=question)

    def _device(self) -> torch.device:
        try:
            import torch
        except ModuleNotFoundError:
            raise InputError(
                "the torch objective needs PyTorch; install it with: pip install 'mlflow-hpo[torch]'"
            ) from None
        there = torch.cuda.is_available()
        if self.device == "cuda" and not there:
            raise InputError("device='cuda' was asked for and PyTorch sees no CUDA device; use device='auto'")
        return torch.device("cuda" if there and self.device != "cpu" else "cpu")

    # -- trials ----------------------------------------------------------------------------------

    def __call__(self, trial: Trial) -> float:
        """The cross-validated metric of ``trial.params``."""
        setting, device = load_setting(self.table), self._device()
        self._limit_threads()
        metric = setting.metric
        watch = metric.watch(setting.problem.task)
        folds = [
            _Learner(setting.problem, train, trial.params, (fold_seed(trial.seed, i), device), _loss(setting))
            for i, (train, _) in enumerate(setting.split.folds)
        ]
        valid = [folds[i].tensor(rows) for i, (_, rows) in enumerate(setting.split.folds)]
        run = _Run()
        if trial.checkpoint is not None:
            run = _restored(trial.checkpoint.load(), folds, device)
        saved, saved_at = run.step, time.monotonic()
        for step in trial.steps(self.max_epochs):
            losses, values, watched = [], [], []
            for learner, x, (_, rows) in zip(folds, valid, setting.split.folds, strict=True):
                losses.append(learner.epoch(step, self.max_epochs))
                p, y = learner.predict(x), setting.problem.y[rows]
                values.append(metric(y, p))
                watched.append(values[-1] if watch is metric else watch(y, p))
            value = mean(values)
            run.add(step, value, watch.sign * mean(watched))
            if time.monotonic() - saved_at > _SAVE_SECONDS:
                trial.save(step, _packed(run, folds))
                saved, saved_at = step, time.monotonic()
            trial.report(
                step,
                **{
                    metric.name: value,
                    f"{metric.name}_best": run.best_value,
                    "train_loss": mean(losses),
                    "epochs": float(run.best_step),
                },
            )
            if step - run.best_step >= self.patience or not math.isfinite(value):
                return run.best_value if math.isfinite(value) else value
        if saved < run.step < self.max_epochs:
            trial.save(run.step, _packed(run, folds))
        if not run.step:
            raise TrialPruned("stopped before the first epoch was finished")
        return run.best_value

    def _limit_threads(self) -> None:
        import torch

        if torch.get_num_threads() != self.table.threads:
            torch.set_num_threads(self.table.threads)

    # -- final model -----------------------------------------------------------------------------

    def finalise(self, params: Mapping[str, Any], info: TrialInfo) -> FinalModel:
        """Refit for the number of epochs that cross-validation found.

        The model takes the encoded matrix, not the table: numbers, dates as days since 1970, category
        codes as listed in ``contract``, NaN for missing.
        """
        import torch

        from flows.objectives._mlp import predictions

        setting = load_setting(self.table)
        problem, split = setting.problem, setting.split
        epochs = info.metrics.get("epochs")
        if not epochs:
            again = Rerun(params, info.seed)
            self(again)
            epochs = again.last["epochs"]
        self._limit_threads()
        learner = _Learner(problem, split.train, params, (info.seed, self._device()), _loss(setting))
        for step in range(1, round(epochs) + 1):
            learner.epoch(step, self.max_epochs)
        model = learner.predictor.cpu().eval()
        test = problem.matrix[split.test].astype(np.float32)

        def predict(rows: Any) -> Array:
            return predictions(model, torch.from_numpy(np.ascontiguousarray(rows)))

        scores = final_scores(setting, all_needs(predict(test), problem.task))
        example = test[:EXAMPLE_ROWS]
        with torch.no_grad():
            example_output = model(torch.from_numpy(example)).numpy()
        return FinalModel(
            model=model,
            flavor="pytorch",
            # The traced graph loads without this project; a pickled module would not.
            log_options={"serialization_format": "pt2"},
            example=example,
            example_output=example_output,
            requirements=requirements("torch", "numpy", "pandas"),
            metric=setting.metric.name,
            score=scores.get(setting.metric.name, math.nan),
            scores=scores,
            importance=permutation_importance(setting, test, predict, info.seed),
            params={**params, "epochs": round(epochs)},
            contract=contract(problem),
        )


# -- learning ------------------------------------------------------------------------------------


@dataclass
class _Run:
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


class _Learner:
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

        return torch.tensor(self._problem.matrix[rows], dtype=torch.float32, device=self._device)

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


def _loss(setting: Setting) -> str:
    """Regression's loss: ``l2``, ``l1``, or the level of a quantile."""
    level = pinball_level(setting.metric)
    if level is not None:
        return str(level)
    return "l1" if setting.metric.name in ("mae", "medae", "mape", "smape") else "l2"


def _packed(run: _Run, folds: list[_Learner]) -> bytes:
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


def _restored(content: bytes, folds: list[_Learner], device: torch.device) -> _Run:
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
    return _Run(**state["run"])


# -- space ---------------------------------------------------------------------------------------


def _default_space(problem: Problem, n_train: int) -> dict[str, Parameter]:
    largest = int(min(512, max(16, n_train // 4)))
    space: dict[str, Parameter] = {
        "learning_rate": Float(1e-4, 3e-2, log=True, default=2e-3),
        "weight_decay": Float(1e-6, 0.3, log=True, default=1e-3),
        "batch_size": Int(16, largest, log=True, default=min(64, largest)),
        "layers": Int(1, 4, default=2),
        "width": Int(16, 256, log=True, default=64),
        "dropout": Float(0.0, 0.5, default=0.1),
        "norm": Categorical(["none", "batch", "layer"], default="none"),
        "activation": Categorical(["relu", "gelu", "silu"], default="relu"),
        "optimizer": Categorical(["adamw", "adam", "sgd"], default="adamw"),
        "momentum": Float(0.5, 0.99, default=0.9).when("optimizer", "sgd"),
        "schedule": Categorical(["constant", "cosine"], default="cosine"),
        "squash": Categorical([False, True], default=False),
    }
    if problem.categories:
        space["embedding_size"] = Int(2, 32, log=True, default=8)
    if problem.classes:
        counts = np.bincount(problem.y.astype(np.int64))
        if counts.max() > 2 * counts.min():
            space["class_weight"] = Categorical(["none", "balanced"], default="none")
    return space


def _resolve(name: str) -> str:
    plain = {"lr": "learning_rate", "epochs": "max_epochs", "hidden": "width"}.get(name, name)
    if plain == "max_epochs":
        raise InputError(f"parameter {name!r} is the budget axis; set max_epochs")
    if plain not in _DOMAINS:
        raise InputError(
            f"unknown parameter {name!r} of the torch objective{nearest(plain, _DOMAINS)} (one of "
            f"{', '.join(sorted(_DOMAINS))})"
        )
    return plain


def _check_domain(name: str, parameter: Parameter) -> None:
    if isinstance(parameter, Categorical):
        values: tuple[Any, ...] = parameter.choices
    elif isinstance(parameter, Constant):
        values = (parameter.value,)
    else:
        ends = (getattr(parameter, "low", None), getattr(parameter, "high", None))
        values = tuple(v for v in ends if v is not None)
        if name in _NAMED:
            raise InputError(f"parameter {name!r} needs choices out of {list(_DOMAINS[name])!r}, got a range")
        if name in _WHOLE and not isinstance(parameter, Int):
            raise InputError(f"parameter {name!r} is a whole number; give it type: int")
    for value in values:
        _check_value(name, value)


def _check_value(name: str, value: Any) -> None:
    allowed = _DOMAINS[name]
    if name in _NAMED:
        if not any(value is a or (isinstance(value, str) and value == a) for a in allowed):
            raise InputError(f"parameter {name!r}: {value!r} is not one of {list(allowed)!r}")
        return
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not isinstance(value, int | float) or (name in _WHOLE and not whole):
        raise InputError(
            f"parameter {name!r} must be a {'whole ' if name in _WHOLE else ''}number, got {value!r}"
        )
    if not allowed[0] <= value <= allowed[1]:
        raise InputError(f"parameter {name!r}: {value!r} is outside {allowed[0]:g} to {allowed[1]:g}")


def _check_together(space: SearchSpace, problem: Problem) -> None:
    """What each parameter allows by itself but not for this table."""
    for name, fits, what in (
        ("class_weight", bool(problem.classes), "classes"),
        ("label_smoothing", problem.task == "multiclass", "more than two classes"),
        ("embedding_size", bool(problem.categories), "categorical columns"),
    ):
        if name in space.parameters and not fits:
            raise InputError(f"parameter {name!r} needs {what}, which this table does not have; remove it")
