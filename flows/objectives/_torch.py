"""The torch objective: a multilayer perceptron for tables, epoch by epoch, all folds at once.

One step is one epoch in every fold; the report is the mean over the folds. The value is the best point
of that mean curve, and the final model trains for as many epochs.

A trial can be paused after any epoch and goes on exactly: a checkpoint holds weights and optimiser
state, and all randomness of an epoch (order of rows, dropout) is drawn from a seed of its own, a function
of (trial, fold, epoch). On the CPU an interrupted trial has the same losses bit for bit.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from flows.objectives._base import (
    FinalModel,
    Prepared,
    Rerun,
    Saving,
    TableConfig,
    Trial,
    TrialInfo,
    all_needs,
    contract,
    example_of,
    final_scores,
    fold_seed,
    load_setting,
    mean,
    permutation_importance,
    prepared,
    requirements,
    useful_threads,
)
from flows.objectives._fitted import outputs_of
from flows.objectives._metrics import Array
from flows.objectives._space_file import build_space
from flows.objectives._torch_learner import Learner, Run, loss_of, packed, restored
from flows.objectives._torch_space import SETTLED, check_domain, check_together, default_space, resolve
from hpo_core import (
    InputError,
    TrialPruned,
)
from hpo_core.inner import check_whole

if TYPE_CHECKING:
    import torch
    from torch import nn

    from flows.objectives._base import Setting, Stretch

DEVICES = ("auto", "cpu", "cuda")


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
            check_whole(name, getattr(self, name))
        if self.device not in DEVICES:
            raise InputError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")

    def prepare(self) -> Prepared:
        """Check data, metric, space file, and that torch and the device are there."""
        setting = load_setting(self.table)
        self._device()
        default = default_space(setting.problem, len(setting.split.train))
        space = build_space(
            default,
            self.table.space,
            resolve=resolve,
            check=check_domain,
            check_space=lambda space: check_together(space, setting.problem),
        )
        question = {"max_epochs": self.max_epochs, "patience": self.patience}
        return prepared(
            self, setting, space, steps=(self.max_epochs, "epoch"), question=question, settled=SETTLED
        )

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

    def over_training(self) -> TorchMLP:
        """Itself: a step is an epoch."""
        return self

    def warm_up(self) -> None:
        """Load all that trials need; called in each worker process before its first trial."""
        importlib.import_module("torch")
        load_setting(self.table)

    def __call__(self, trial: Trial) -> float:
        """The cross-validated metric of ``trial.params``."""
        setting, device = load_setting(self.table), self._device()
        self._limit_threads(trial.params)
        metric = setting.metric
        watch = metric.watch
        folds = [
            Learner(
                setting.problem, train, trial.params, (fold_seed(trial.seed, i), device), loss_of(setting)
            )
            for i, (train, _) in enumerate(setting.split.folds)
        ]
        valid = [folds[i].tensor(rows) for i, (_, rows) in enumerate(setting.split.folds)]
        run = Run()
        if trial.checkpoint is not None:
            run = restored(trial.checkpoint.load(), folds, device)
        saving = Saving(trial, lambda: packed(run, folds))
        for step in trial.steps(self.max_epochs):
            losses, values, watched = [], [], []
            for learner, x, (_, rows) in zip(folds, valid, setting.split.folds, strict=True):
                losses.append(learner.epoch(step, self.max_epochs))
                p, y = learner.predict(x), setting.problem.y[rows]
                values.append(metric(y, p))
                watched.append(values[-1] if watch is metric else watch(y, p))
            value = mean(values)
            run.add(step, value, watch.sign * mean(watched))
            over = step - run.best_step >= self.patience or not math.isfinite(value)
            if not over:  # else the next attempt would try one more epoch
                saving.passed(step)
            trial.report(
                step,
                **{
                    metric.name: value,
                    f"{metric.name}_best": run.best_value,
                    "train_loss": mean(losses),
                    "epochs": float(run.best_step),
                },
            )
            if over:
                return run.best_value if math.isfinite(value) else value
        saving.ended(run.step, self.max_epochs)
        if not run.step:
            raise TrialPruned("stopped before the first epoch was finished")
        return run.best_value

    def _limit_threads(self, params: Mapping[str, Any]) -> None:
        import torch

        # A region is one layer's product for one batch.
        cells = int(params.get("batch_size", 64)) * int(params.get("width", 64))
        threads = useful_threads(self.table.threads, cells)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    def on_folds(self, params: Mapping[str, Any], seed: int) -> dict[int, float]:
        """Nothing: all folds are trained at once."""
        del params, seed
        return {}

    # -- final model -----------------------------------------------------------------------------

    def finalise(self, params: Mapping[str, Any], info: TrialInfo) -> FinalModel:
        """Refit for the number of epochs that cross-validation found.

        The model takes the table's rows as they are, see :class:`TableNetwork`.
        """
        from flows.objectives._table_network import TableNetwork
        from tracking import CodeModel

        setting = load_setting(self.table)
        problem, split = setting.problem, setting.split
        epochs = info.metrics.get("epochs")
        if not epochs:
            again = Rerun(params, info.seed)
            self(again)
            epochs = again.last["epochs"]
        model = self._trained(setting, info.stretches(params, round(epochs)), info.seed)
        test = problem.frame.iloc[split.test]
        knows = contract(problem)
        served = TableNetwork.of(model, knows)

        def predict(rows: Any) -> Array:
            return outputs_of(served, rows, problem, "probability", problem.classes)

        scores = final_scores(setting, all_needs(predict(test), problem.task))
        example = example_of(test)
        return FinalModel(
            model=CodeModel(
                code=Path(inspect.getfile(TableNetwork)),
                files={
                    "network.pt2": _exported(model, len(problem.columns)),
                    "contract.json": json.dumps(knows).encode(),
                },
            ),
            flavor="pyfunc",
            log_options={},
            example=example,
            example_output=served.predict(example),
            requirements=requirements("torch", "numpy", "pandas"),
            metric=setting.metric.name,
            score=scores.get(setting.metric.name, math.nan),
            scores=scores,
            importance=permutation_importance(setting, test, predict, info.seed),
            params={**params, "epochs": round(epochs)},
            contract=knows,
        )

    def _trained(self, setting: Setting, stretches: Sequence[Stretch], seed: int) -> nn.Module:
        """A network trained on all training rows, as a chain of forks trains it: weights and moments go on
        under the next configuration.
        """
        device, state, done = self._device(), b"", 0
        for params, last in stretches:
            self._limit_threads(params)
            learner = Learner(setting.problem, setting.split.train, params, (seed, device), loss_of(setting))
            if state:
                restored(state, [learner], device)
            for step in range(done + 1, last + 1):
                learner.epoch(step, self.max_epochs)
            state, done = packed(Run(), [learner]), last
        return learner.predictor.cpu().eval()


def _exported(model: nn.Module, columns: int) -> bytes:
    """The network as a program that torch runs without this project, for any number of rows."""
    import torch

    buffer = io.BytesIO()
    # Of a single row, torch takes the number for a constant.
    program = torch.export.export(
        model,
        (torch.zeros(2, columns, dtype=torch.float64),),
        dynamic_shapes=({0: torch.export.Dim("rows")},),
    )
    torch.export.save(program, buffer)
    return buffer.getvalue()
