"""The engine alone: ask for a configuration, tell what came of it. No server, no files.

A journal, when one is given, makes the study resumable: replay it and go on.
"""

from __future__ import annotations

from hpo_core import Categorical, Float, Int, SearchSpace, Study

space = SearchSpace(
    {
        "rate": Float(1e-5, 1e-1, log=True),
        "layers": Int(1, 5),
        "optimizer": Categorical(["sgd", "adam"]),
        "momentum": Float(0.0, 0.99).when("optimizer", "sgd"),
    }
)


def loss(params: dict[str, float]) -> float:
    """Stands for a training."""
    return abs(params["rate"] - 1e-3) * 10 + params["layers"] / 10 + (1 - params.get("momentum", 0.5)) / 10


if __name__ == "__main__":
    study = Study(space, objectives={"loss": "min"}, strategy="tpe", seed=0)
    for _ in range(40):
        trial = study.ask()
        study.tell(trial, loss(trial.params))
    print("best", study.best.values, "with", study.best.params)
