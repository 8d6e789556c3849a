"""An in-memory ``trial`` with checkpoints, pauses and stops, for testing objectives without a study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cloudpickle


@dataclass(frozen=True)
class FakeCheckpoint:
    """What ``trial.checkpoint`` is after a resume."""

    step: int
    content: bytes
    pickled: bool = False
    path: None = None

    def load(self) -> Any:
        """What was saved, as it was then."""
        return cloudpickle.loads(self.content) if self.pickled else self.content


@dataclass
class FakeTrial:
    """One segment of a trial.

    ``target``: the step at which the segment pauses (``None``: runs to the end).
    ``stop_after``: a stop is decided at this step; 0 is before the first.
    """

    params: dict[str, Any]
    seed: int = 1
    number: int = 0
    checkpoint: FakeCheckpoint | None = None
    target: int | None = None
    stop_after: int | None = None
    reports: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    saved: FakeCheckpoint | None = None
    saves: int = 0

    def steps(self, n: int) -> Iterator[int]:
        """Steps after the checkpoint, to the target or the end."""
        first = self.checkpoint.step + 1 if self.checkpoint else 1
        for step in range(first, min(n, self.target or n) + 1):
            if self.stop_after is not None and step > self.stop_after:
                return
            yield step

    def budgets(self, n: int) -> Iterator[int]:
        """The target or the end."""
        if self.stop_after is None:
            yield min(n, self.target or n)

    def report(self, step: int, **metrics: float) -> None:
        """Keep the report; steps must grow and values must be numbers."""
        assert not self.reports or step > self.reports[-1][0], "steps must grow"
        assert all(type(v) is float for v in metrics.values()), metrics
        self.reports.append((step, metrics))

    def save(self, step: int, content: Any) -> None:
        """Keep the newest checkpoint."""
        pickled = not isinstance(content, bytes)
        self.saved = FakeCheckpoint(step, cloudpickle.dumps(content) if pickled else content, pickled)
        self.saves += 1

    def log_curve(self, name: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """Keep a curve."""
        assert len(steps) == len(values)
        self.curves.setdefault(name, []).extend(zip(steps, values, strict=True))

    def resumed(self, target: int | None = None, **changes: Any) -> FakeTrial:
        """The next segment, from the saved checkpoint; reports go on in the same list."""
        assert self.saved is not None, "nothing was saved"
        given = {
            "params": self.params, "seed": self.seed, "number": self.number, "target": target,
            "checkpoint": self.saved,
            "reports": [r for r in self.reports if r[0] <= self.saved.step],
        }  # fmt: skip
        return FakeTrial(**{**given, **changes})

    def metric(self, name: str) -> list[float]:
        """Every reported value of one metric."""
        return [metrics[name] for _, metrics in self.reports if name in metrics]
