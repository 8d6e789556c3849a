"""The one-line callbacks: an interrupted training run is the unbroken one, and a stop ends it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows import _saving
from flows._execute import execute
from flows._trial import Signals
from flows.callbacks import (
    epochs,
    lightgbm_arguments,
    lightning_callback,
    lightning_checkpoint,
    partial_fits,
    xgboost_arguments,
)
from flows.runners._messages import PAUSED, RAISED, RETURNED, STOPPED, Job, Outcome
from flows.runners._port import Message, Report, Saved
from hpo_core import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 5))
Y = (X[:, 0] + 0.5 * X[:, 1] ** 2 + 0.3 * RNG.normal(size=240) > 0.4).astype(int)
TRAIN, VALID = slice(0, 160), slice(160, 240)


@dataclass
class Line:
    """The worker's end of the line; ``stop_at``: the step whose report makes the driver stop the trial."""

    signals: Signals
    stop_at: int | None = None
    reports: dict[int, dict[str, float]] = field(default_factory=dict)
    saved: list[tuple[int, str]] = field(default_factory=list)

    def send(self, message: Message) -> None:
        match message:
            case Report(step, metrics):
                assert step not in self.reports, "no step twice"
                self.reports[step] = metrics
                if step == self.stop_at:
                    self.signals.stop.set()
            case Saved(step, uri):
                self.saved.append((step, uri))

    def ask_run_id(self) -> str:
        raise AssertionError("nothing is logged to MLflow")


def run(
    objective: Callable[[Any], Any],
    folder: Path,
    *targets: int | None,
    stop_at: int | None = None,
    params: list[dict[str, Any]] | None = None,
) -> tuple[Line, list[Outcome]]:
    """One segment for each target, each from the checkpoint of the one before, as a worker runs them."""
    signals = Signals()
    line, outcomes = Line(signals, stop_at), []
    for attempt, target in enumerate(targets):
        step, uri = line.saved[-1] if line.saved else (0, "")
        job = Job(
            trial=0,
            attempt=attempt,
            params=params[attempt] if params else {},
            seed=1,
            target=target,
            from_step=step,
            known_step=max(line.reports, default=0),
            checkpoint=uri,
            folder=str(folder),
        )
        outcomes.append(execute(objective, job, line, signals))
    return line, outcomes


def with_lightgbm(trial: Any) -> float:
    import lightgbm

    train = lightgbm.Dataset(X[TRAIN], Y[TRAIN], free_raw_data=False)
    valid = lightgbm.Dataset(X[VALID], Y[VALID], reference=train, free_raw_data=False)
    params = {"objective": "binary", "verbosity": -1, "num_threads": 1, "metric": ["auc", "binary_logloss"]}
    booster = lightgbm.train(
        params, train, valid_sets=[train, valid], valid_names=["training", "valid"],
        **lightgbm_arguments(trial, rounds=45, every=10),
    )  # fmt: skip
    return float(booster.current_iteration())


def with_xgboost(trial: Any) -> float:
    import xgboost

    train, valid = xgboost.DMatrix(X[TRAIN], Y[TRAIN]), xgboost.DMatrix(X[VALID], Y[VALID])
    params = {"objective": "binary:logistic", "nthread": 1, "eval_metric": ["auc", "logloss"]}
    booster = xgboost.train(
        params, train, evals=[(train, "training"), (valid, "valid")], verbose_eval=False,
        **xgboost_arguments(trial, rounds=45, every=10),
    )  # fmt: skip
    return float(booster.num_boosted_rounds())


def with_torch(trial: Any) -> float:
    import torch

    torch.manual_seed(trial.seed)
    x, y = torch.tensor(X[TRAIN], dtype=torch.float32), torch.tensor(Y[TRAIN], dtype=torch.float32)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.params.get("lr", 0.05))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    loss = torch.tensor(0.0)
    for epoch in epochs(trial, 5, model=model, optimizer=optimizer, scheduler=scheduler):
        for batch in torch.randperm(len(x)).split(40):
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x[batch])[:, 0], y[batch])
            loss.backward()
            optimizer.step()
        trial.report(epoch, loss=loss.item(), lr=optimizer.param_groups[0]["lr"])
        scheduler.step()
    return loss.item()


def with_partial_fit(trial: Any) -> float:
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(random_state=0, alpha=trial.params.get("alpha", 1e-3))
    score = 0.0
    for step, fitted in partial_fits(trial, 5, model, X[TRAIN], Y[TRAIN]):
        score = fitted.score(X[VALID], Y[VALID])
        trial.report(step, accuracy=score, alpha=fitted.alpha, size=float(np.abs(fitted.coef_).sum()))
    return score


def with_perceptron(trial: Any) -> None:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((4,), random_state=0, learning_rate_init=trial.params["rate"])
    for step, fitted in partial_fits(trial, 5, model, X[TRAIN], Y[TRAIN]):
        trial.report(step, loss=float(fitted.loss_))


def with_lightning(trial: Any) -> float:
    import pytorch_lightning as lightning
    import torch

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(5, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            del index
            x, y = batch
            loss = torch.nn.functional.binary_cross_entropy_with_logits(self.net(x)[:, 0], y)
            self.log("loss", loss, on_epoch=True, on_step=False)
            self.log("lr", self.optimizers().param_groups[0]["lr"], on_epoch=True, on_step=False)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=trial.params.get("lr", 0.05))
            decay = trial.params.get("decay", 0.9)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)]

    for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(
        torch.tensor(X[TRAIN], dtype=torch.float32), torch.tensor(Y[TRAIN], dtype=torch.float32)
    )
    trainer = lightning.Trainer(
        max_epochs=5, callbacks=[lightning_callback(trial)], accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(data, 40), ckpt_path=lightning_checkpoint(trial))
    return float(trainer.current_epoch)


LIBRARIES = [
    pytest.param(with_lightgbm, "lightgbm", id="lightgbm"),
    pytest.param(with_xgboost, "xgboost", id="xgboost"),
    pytest.param(with_torch, "torch", id="torch"),
    pytest.param(with_partial_fit, "sklearn", id="partial_fit"),
    pytest.param(
        with_lightning,
        "pytorch_lightning",
        id="lightning",
        marks=pytest.mark.filterwarnings(
            "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
        ),
    ),
]


@pytest.mark.parametrize(("objective", "library"), LIBRARIES)
def test_an_interrupted_run_is_the_unbroken_one(objective: Any, library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    whole, ended = run(objective, tmp_path / "whole", None)
    assert [o.kind for o in ended] == [RETURNED], ended[0].traceback
    assert sorted(whole.reports) == [1, 2, 3, 4, 5]
    assert whole.saved == [], "a short trial that runs to its end does not touch the disk"
    parts, outcomes = run(objective, tmp_path / "parts", 2, 3, None)
    assert [o.kind for o in outcomes] == [PAUSED, PAUSED, RETURNED], outcomes[-1].traceback
    assert [step for step, _ in parts.saved] == [2, 3]
    assert not any(o.note for o in outcomes), "the checkpoint was loaded"
    assert sorted(parts.reports) == [1, 2, 3, 4, 5]
    for step, metrics in whole.reports.items():
        assert parts.reports[step] == pytest.approx(metrics, rel=1e-5), step
    assert outcomes[-1].values == pytest.approx(ended[0].values, rel=1e-5)


@pytest.mark.parametrize(("objective", "library"), LIBRARIES)
def test_a_stop_ends_training(objective: Any, library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    line, (outcome,) = run(objective, tmp_path, None, stop_at=2)
    assert (outcome.kind, sorted(line.reports)) == (STOPPED, [1, 2])


@pytest.mark.parametrize(("objective", "library"), LIBRARIES)
def test_long_trials_save_on_the_way(
    objective: Any, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(library)
    monkeypatch.setattr(_saving, "_SAVE_SECONDS", -1.0)
    line, _ = run(objective, tmp_path, None)
    assert [step for step, _ in line.saved][:4] == [1, 2, 3, 4]


@pytest.mark.parametrize(("objective", "library"), LIBRARIES)
def test_an_attempt_that_was_lost_after_its_last_step_has_its_result_again(
    objective: Any, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LightGBM refused to train no rounds, and a loop over no steps returned what it had begun with: 0.0."""
    pytest.importorskip(library)
    monkeypatch.setattr(_saving, "_SAVE_SECONDS", -1.0)
    _, (first, again) = run(objective, tmp_path, None, None)
    assert [first.kind, again.kind] == [RETURNED, RETURNED], again.traceback
    assert again.values == pytest.approx(first.values, rel=1e-5)


@pytest.mark.parametrize(
    ("objective", "library", "loss"),
    [(with_lightgbm, "lightgbm", "binary_logloss"), (with_xgboost, "xgboost", "logloss")],
)
def test_metrics_of_the_last_data_set_go_by_their_own_names(
    objective: Any, library: str, loss: str, tmp_path: Path
) -> None:
    pytest.importorskip(library)
    line, _ = run(objective, tmp_path, 1)
    assert set(line.reports[1]) == {"auc", loss, "training_auc", f"training_{loss}"}


def odd_lightning(trial: Any) -> float:
    """Rows in random order, units dropped at random, and a validation every other epoch."""
    import pytorch_lightning as lightning
    import torch

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Sequential(
                torch.nn.Linear(5, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1)
            )

        def _loss(self, batch: Any) -> Any:
            return torch.nn.functional.binary_cross_entropy_with_logits(self.net(batch[0])[:, 0], batch[1])

        def training_step(self, batch: Any, index: int) -> Any:
            del index
            loss = self._loss(batch)
            if not trial.params.get("quiet"):
                self.log("loss", loss, on_epoch=True, on_step=False)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            del index
            self.log("val_loss", self._loss(batch))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.05)

    def rows(chosen: Any, *, shuffle: bool) -> Any:
        x, y = (torch.tensor(values[chosen], dtype=torch.float32) for values in (X, Y))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 40, shuffle=shuffle)

    for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.manual_seed(0)
    trainer = lightning.Trainer(
        max_epochs=5, callbacks=[lightning_callback(trial)], accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        check_val_every_n_epoch=2,
    )  # fmt: skip
    model = Module()
    path = lightning_checkpoint(trial)
    trainer.fit(model, rows(TRAIN, shuffle=True), rows(VALID, shuffle=False), ckpt_path=path)
    return float(sum(weight.detach().abs().sum() for weight in model.parameters()))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_lightning_goes_on_with_its_random_numbers_and_reports_what_is_new(tmp_path: Path) -> None:
    """Other rows came first after a pause, and a validation loss stood for the epoch after it, too."""
    pytest.importorskip("pytorch_lightning")
    whole, (ended,) = run(odd_lightning, tmp_path / "whole", None)
    assert ended.kind == RETURNED, ended.traceback
    both = {"loss", "val_loss"}
    assert [set(whole.reports[step]) for step in (1, 2, 3, 4, 5)] == [
        {"loss"},
        both,
        {"loss"},
        both,
        {"loss"},
    ]
    parts, outcomes = run(odd_lightning, tmp_path / "parts", 2, 3, None)
    assert [o.kind for o in outcomes] == [PAUSED, PAUSED, RETURNED], outcomes[-1].traceback
    for step, metrics in whole.reports.items():
        assert parts.reports[step] == pytest.approx(metrics, rel=1e-5), step
    assert outcomes[-1].values == pytest.approx(ended.values, rel=1e-5)
    quiet, (ended,) = run(odd_lightning, tmp_path / "quiet", None, params=[{"quiet": True}])
    assert ended.kind == RETURNED, ended.traceback
    assert {step: set(said) for step, said in quiet.reports.items()} == {2: {"val_loss"}, 4: {"val_loss"}}


@pytest.mark.torch
def test_a_fork_trains_on_with_its_own_settings(tmp_path: Path) -> None:
    line, _ = run(with_torch, tmp_path / "torch", 2, None, params=[{"lr": 0.05}, {"lr": 0.2}])
    # Its own rate, as far down its schedule as its source's was.
    assert [line.reports[s]["lr"] for s in (1, 2, 3, 4)] == pytest.approx([0.05, 0.045, 0.162, 0.1458])
    line, _ = run(with_partial_fit, tmp_path / "sklearn", 2, None, params=[{"alpha": 1e-3}, {"alpha": 0.5}])
    assert [line.reports[s]["alpha"] for s in (2, 3, 5)] == [1e-3, 0.5, 0.5]
    assert line.reports[5]["size"] < line.reports[2]["size"] / 2, "strongly regularised from there on"
    # A perceptron had the optimiser of its source, with the rate of that.
    line, _ = run(with_perceptron, tmp_path / "mlp", 2, None, params=[{"rate": 0.01}, {"rate": 1e-12}])
    assert line.reports[5]["loss"] == pytest.approx(line.reports[3]["loss"], rel=1e-6)
    line, _ = run(with_perceptron, tmp_path / "same", 2, None, params=[{"rate": 0.01}, {"rate": 0.01}])
    assert line.reports[5]["loss"] < 0.99 * line.reports[3]["loss"]


def test_a_fork_that_asks_for_another_shape_fails(tmp_path: Path) -> None:
    """It trained its source's, and was noted with its own."""
    from sklearn.neural_network import MLPClassifier

    def objective(trial: Any) -> float:
        model = MLPClassifier([trial.params["width"]], random_state=0)
        for step, fitted in partial_fits(trial, 5, model, X[TRAIN], Y[TRAIN]):
            trial.report(step, loss=float(fitted.loss_))
        return 0.0

    _, outcomes = run(objective, tmp_path / "fork", 2, None, params=[{"width": 4}, {"width": 8}])
    assert [outcome.kind for outcome in outcomes] == [PAUSED, RAISED]
    assert "hidden_layer_sizes=[4] cannot go on with [8]" in outcomes[-1].reason
    _, outcomes = run(objective, tmp_path / "same", 2, None, params=[{"width": 4}, {"width": 4}])
    assert [outcome.kind for outcome in outcomes] == [PAUSED, RETURNED]


def scheduled(kind: str) -> Callable[[Any], float]:
    """An objective that only reports its rates; parameters: ``lr``, and ``decay`` of what decays."""

    def objective(trial: Any) -> float:
        import torch
        from torch.optim import lr_scheduler as schedulers

        model = torch.nn.Linear(2, 1)
        rate, decay = trial.params["lr"], trial.params.get("decay", 0.9)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        scheduler: Any = {
            "exponential": lambda: schedulers.ExponentialLR(optimizer, decay),
            "milestones": lambda: schedulers.MultiStepLR(optimizer, [1, 4], decay),
            "function": lambda: schedulers.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
            "warm-up": lambda: schedulers.LinearLR(optimizer, 0.1, total_iters=2),
            "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, 10),
            "one cycle": lambda: schedulers.OneCycleLR(optimizer, rate, total_steps=10),
            "cycles": lambda: schedulers.CyclicLR(optimizer, rate / 10, rate, 4, cycle_momentum=False),
            "two": lambda: schedulers.SequentialLR(
                optimizer,
                [
                    schedulers.LinearLR(optimizer, 0.1, total_iters=2),
                    schedulers.ExponentialLR(optimizer, decay),
                ],
                [2],
            ),
        }[kind]()
        for epoch in epochs(trial, 5, scheduler=scheduler, model=model, optimizer=optimizer):
            said = scheduler.get_last_lr()[0]
            trial.report(epoch, lr=optimizer.param_groups[0]["lr"], said=said)
            optimizer.step()
            scheduler.step()
        return 0.0

    return objective


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning")  # of schedulers in schedulers
@pytest.mark.parametrize(
    "kind",
    ["exponential", "milestones", "function", "warm-up", "cosine", "one cycle", "cycles", "two"],
)
def test_a_fork_has_the_rates_that_its_own_would_have_come_to(kind: str, tmp_path: Path) -> None:
    """Schedulers loaded their source's rate with their state, and went on with it from the second epoch."""
    own, _ = run(scheduled(kind), tmp_path / "own", None, params=[{"lr": 0.2}])
    fork, _ = run(scheduled(kind), tmp_path / "fork", 3, None, params=[{"lr": 0.05}, {"lr": 0.2}])
    assert fork.reports[3]["lr"] == pytest.approx(own.reports[3]["lr"] / 4)
    for step in (4, 5):
        assert fork.reports[step]["lr"] == pytest.approx(own.reports[step]["lr"])
        assert fork.reports[step]["said"] == fork.reports[step]["lr"]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["exponential", "milestones", "two"])
def test_a_fork_decays_by_its_own_schedule(kind: str, tmp_path: Path) -> None:
    """It had its source's to the end."""
    line, _ = run(
        scheduled(kind), tmp_path, 3, None, params=[{"lr": 0.1, "decay": 0.9}, {"lr": 0.1, "decay": 0.5}]
    )
    before = {"exponential": 0.1 * 0.9**3, "milestones": 0.09, "two": 0.09}[kind]
    assert line.reports[4]["lr"] == pytest.approx(before), "what training had come to"
    assert line.reports[5]["lr"] == pytest.approx(before / 2)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_fork_of_lightning_trains_on_with_its_own_settings(tmp_path: Path) -> None:
    """Its trainer loaded its source's rate along with the optimizer."""
    pytest.importorskip("pytorch_lightning")
    line, _ = run(with_lightning, tmp_path / "fork", 2, None, params=[{"lr": 0.05}, {"lr": 0.2}])
    assert [line.reports[s]["lr"] for s in (1, 2, 3, 4)] == pytest.approx([0.05, 0.045, 0.162, 0.1458])
    line, _ = run(with_lightning, tmp_path / "decay", 2, None, params=[{"decay": 0.9}, {"decay": 0.5}])
    assert [line.reports[s]["lr"] for s in (2, 3, 4)] == pytest.approx([0.045, 0.0405, 0.02025])
    line, _ = run(with_lightning, tmp_path / "pause", 2, None, params=[{"lr": 0.05}, {"lr": 0.05}])
    assert [line.reports[s]["lr"] for s in (3, 4)] == pytest.approx([0.05 * 0.9**2, 0.05 * 0.9**3])


def test_training_without_validation_data_is_an_error(tmp_path: Path) -> None:
    import lightgbm

    def objective(trial: Any) -> None:
        train = lightgbm.Dataset(X, Y)
        lightgbm.train({"verbosity": -1}, train, **lightgbm_arguments(trial, rounds=10))

    _, (outcome,) = run(objective, tmp_path, None)
    assert outcome.kind == RAISED
    assert "give the library validation data" in outcome.reason


@pytest.mark.torch
def test_what_cannot_learn_in_steps_is_refused() -> None:
    from sklearn.svm import SVC

    with pytest.raises(InputError, match="SVC has no partial_fit"):
        next(partial_fits(None, 3, SVC(), X, Y))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="model=int has none"):
        next(epochs(None, 3, model=3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rounds must be a whole number of at least 1, got 0"):
        lightgbm_arguments(None, rounds=0)  # type: ignore[arg-type]


def test_importing_the_callbacks_imports_no_library() -> None:
    code = (
        "import sys, flows.callbacks\n"
        "heavy = {'lightgbm', 'xgboost', 'sklearn', 'torch', 'lightning', 'mlflow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
