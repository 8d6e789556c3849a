"""Population based training of a real PyTorch network against random search with the same number of epochs.

python -m benchmarks.pbt_torch [--seeds 10] [--keep]

A network classifies scikit-learn's digits. The trials train for real, driven by the decisions of a study
on two workers. A fork of a member that is ahead skips what lies between, so how many epochs a population
trains comes out in the end; random search then gets as many complete trials as make no fewer epochs. The
score is the lowest validation loss that any member had at the end of its training; the test loss is that
of the same network on rows that nobody chose by.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch

from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, markdown, stamp
from hpo_core import Float, SearchSpace, Study, TrialState
from hpo_core.simulate import simulate

EPOCHS, ROWS, BATCH = 30, 300, 20
MEMBERS = 13
# What random search has in store for a population that copies little.
MOST = 16
STRATEGIES: dict[str, Any] = {
    "pbt": {"sampler": "random", "scheduler": {"name": "pbt", "interval": 3}},
    "pbt-pb2": {"sampler": "random", "scheduler": {"name": "pbt", "interval": 3, "explore": "model"}},
}
SPACE = SearchSpace(
    {
        "rate": Float(1e-3, 1.0, log=True),
        "momentum": Float(0.0, 0.98),
        "decay": Float(1e-6, 1e-1, log=True),
        "dropout": Float(0.0, 0.7),
    }
)


@cache
def _data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Training, validation and test rows."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    features, labels = torch.tensor(x, dtype=torch.float32)[order] / 8 - 1, torch.tensor(y)[order]
    cuts = (ROWS, 600, len(y) - ROWS - 600)
    return list(zip(features.split(cuts), labels.split(cuts), strict=True))


class Training:
    """A network in training: what the simulator calls a job."""

    def __init__(self, params: Mapping[str, Any], seed: int, state: Any) -> None:
        torch.manual_seed(seed)
        self._dropout = torch.nn.Dropout(params["dropout"])
        self._net = torch.nn.Sequential(
            torch.nn.Linear(64, 48), torch.nn.ReLU(), self._dropout, torch.nn.Linear(48, 10)
        )
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=params["rate"])
        self._generator = torch.Generator().manual_seed(seed)
        if state is not None:
            self._net.load_state_dict(state["net"])
            self._optimizer.load_state_dict(state["optimizer"])
        for group in self._optimizer.param_groups:
            group.update(lr=params["rate"], momentum=params["momentum"], weight_decay=params["decay"])

    def advance(self, step: int) -> tuple[float, Mapping[str, float]]:
        """One epoch."""
        del step
        x, y = _data()[0]
        self._net.train()
        for batch in torch.randperm(len(x), generator=self._generator).split(BATCH):
            self._optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self._net(x[batch]), y[batch]).backward()
            self._optimizer.step()
        return 1.0, {"loss": self._loss(1), "test_loss": self._loss(2)}

    def _loss(self, part: int) -> float:
        x, y = _data()[part]
        self._net.eval()
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(self._net(x), y))

    def save(self) -> Any:
        """What a member, or its fork, goes on from."""
        return copy.deepcopy({"net": self._net.state_dict(), "optimizer": self._optimizer.state_dict()})


class Network:
    """The workload."""

    def start(self, params: Mapping[str, Any], seed: int, state: Any) -> Training:
        """A new network, or one that goes on."""
        return Training(params, seed, state)


@dataclass(frozen=True)
class Score:
    """The losses of the best complete member, and the epochs that were trained for it."""

    loss: float
    test_loss: float
    epochs: int


def trained(strategy: Any, members: int, seed: int) -> tuple[Study, int]:
    """A finished study and the epochs that were trained in it."""
    study = Study(
        SPACE,
        strategy=strategy,
        seed=seed,
        limits={"trials": members},
        settings={"max_steps": EPOCHS, "workers": 2},
    )
    done = simulate(study, Network(), workers=2, steps=EPOCHS)
    return study, sum(r.to_step - r.from_step for r in done.runs)


def score(study: Study, epochs: int, among: int | None = None) -> Score:
    """``among``: only so many of the first trials count."""
    complete = [t for t in study.trials[:among] if t.state is TrialState.COMPLETE]
    best = min(complete, key=lambda t: t.values["loss"])
    row = study.history.reports_of(best.number)[-1]
    return Score(best.values["loss"], float(study.history.reports.metric("test_loss")[row]), epochs)


def measure(seed: int) -> list[dict[str, Any]]:
    """A row for each strategy, and one for random search with no fewer epochs beside it."""
    baseline, _ = trained("random", MOST, seed)
    rows = []
    for name, strategy in STRATEGIES.items():
        mine = score(*trained(strategy, MEMBERS, seed))
        trials = -(-mine.epochs // EPOCHS)
        if trials > MOST:
            raise SystemExit(f"{name} trained {mine.epochs} epochs, more than {MOST} trials of random search")
        theirs = score(baseline, trials * EPOCHS, among=trials)
        rows += [
            {"strategy": title, "seed": seed, **asdict(found)}
            for title, found in ((name, mine), (f"random beside {name}", theirs))
        ]
    return rows


def main() -> None:
    """Measure, print, and keep the rows on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for seed in range(options.seeds) for row in measure(seed)]
    lines = []
    for name in STRATEGIES:
        mine = [r for r in rows if r["strategy"] == name]
        base = [r for r in rows if r["strategy"] == f"random beside {name}"]
        wins = sum(a["loss"] < b["loss"] for a, b in zip(mine, base, strict=True))
        for title, group in ((name, mine), ("random", base)):
            means = [f"{statistics.mean(r[k] for r in group):.4f}" for k in ("loss", "test_loss")]
            epochs = f"{statistics.mean(r['epochs'] for r in group):.0f}"
            lines.append([title, *means, epochs, f"{wins} of {len(mine)}" if group is mine else ""])
    print(markdown(["strategy", "loss", "test loss", "epochs", "better than random"], lines))
    if options.keep:
        marks = stamp(("numpy", "torch", "scikit-learn"))
        for row in rows:
            append_row(RESULTS / "pbt-torch.csv", (*rows[0], *STAMP_COLUMNS), {**row, **marks})


if __name__ == "__main__":
    main()
