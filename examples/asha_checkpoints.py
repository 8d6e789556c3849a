"""ASHA on a torch network: most trials pause early, the promising ones go on from their checkpoints.

Three lines make an objective resumable: look at ``trial.checkpoint``, loop over ``trial.steps``, save
before you report. The same lines survive a kill of the worker, of the driver, and of the machine.

    hpo tune examples/asha_checkpoints.py:loss --strategy asha --max-steps 27 --trials 12 --dry-run
"""

from __future__ import annotations

from typing import Any

from flows import tune
from hpo_core import Float, Int

SPACE = {"rate": Float(1e-3, 1.0, log=True), "width": Int(4, 64, log=True)}
EPOCHS = 27


def loss(trial: Any) -> None:
    """Fit a noisy sine with a small network; one step is one epoch, and the last report counts."""
    import torch

    torch.manual_seed(trial.seed)
    x = torch.linspace(-3, 3, 256).unsqueeze(1)
    y = torch.sin(x) + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    width = trial.params["width"]
    model = torch.nn.Sequential(torch.nn.Linear(1, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))
    optimiser = torch.optim.SGD(model.parameters(), lr=trial.params["rate"])
    if trial.checkpoint is not None:
        state = trial.checkpoint.load()
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    for epoch in trial.steps(EPOCHS):
        for _ in range(10):
            optimiser.zero_grad()
            error = torch.nn.functional.mse_loss(model(x), y)
            error.backward()
            optimiser.step()
        trial.save(epoch, {"model": model.state_dict(), "optimiser": optimiser.state_dict()})
        trial.report(epoch, loss=error.item())


loss.space = SPACE  # type: ignore[attr-defined]  # for the command line, which sees only the function

if __name__ == "__main__":
    result = tune(
        loss,
        space=SPACE,
        strategy="asha",
        settings={"max_steps": EPOCHS},
        trials=12,
        workers=2,
        name="asha-checkpoints",
    )
    steps = [trial.step for trial in result.study.trials]
    print(f"{sum(steps)} epochs instead of {EPOCHS * len(steps)}; best {result.best.values}")
