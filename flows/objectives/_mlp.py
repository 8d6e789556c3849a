"""The network of the torch objective. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flows.objectives._metrics import Array

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class TabularNet(nn.Module):
    """A multilayer perceptron on a table's matrix ``(n, f)``: numbers first, then category codes.

    Numbers are standardised with the training rows' mean and deviation; a missing one becomes the mean,
    and columns that have missing values get a second column that says so. Each category has an embedding;
    its row 0 stands for missing and unseen levels. Levels that no training row has are embedded as zeros,
    which say nothing. Returns ``(n, outputs)`` raw scores.
    """

    mean: Tensor
    std: Tensor
    flagged: Tensor

    def __init__(
        self, features: Array, levels: Sequence[int], outputs: int, params: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.n_numbers = features.shape[1] - len(levels)
        numbers = features[:, : self.n_numbers]
        missing = np.isnan(numbers)
        counts = np.maximum((~missing).sum(axis=0), 1)
        filled = np.where(missing, 0.0, numbers)
        mean = (filled / counts).sum(axis=0)
        away = np.where(missing, 0.0, numbers - mean)
        # Squares of 1e-300 are 0, and those of 1e200 infinite.
        far = np.abs(away).max(axis=0)
        spread = far * np.sqrt(((away / np.where(far > 0, far, 1.0)) ** 2).sum(axis=0) / counts)
        # That of equal numbers is not 0 but what their sum was rounded by, and other rows have other numbers.
        alike = np.where(missing, np.inf, numbers).min(axis=0) >= np.where(missing, -np.inf, numbers).max(
            axis=0
        )
        # Of a time in seconds since 1970 single precision knows two minutes, and of 1e-50 nothing.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("std", torch.tensor(np.where(alike, 1.0, spread), dtype=torch.float64))
        self.register_buffer("flagged", torch.tensor(np.flatnonzero(missing.any(axis=0))))
        self.squash = bool(params.get("squash", False))
        width = int(params.get("embedding_size", 8))
        self.embeddings = nn.ModuleList(nn.Embedding(n + 1, min(width, (n + 1) // 2 + 1)) for n in levels)
        for embedding, codes in zip(self.embeddings, features[:, self.n_numbers :].T, strict=True):
            _silence_unseen(embedding, codes)
        size = self.n_numbers + len(self.flagged) + sum(int(e.embedding_dim) for e in self.embeddings)
        layers: list[nn.Module] = []
        for _ in range(int(params.get("layers", 2))):
            hidden = int(params.get("width", 64))
            layers += [nn.Linear(size, hidden), *_normalised(str(params.get("norm", "none")), hidden)]
            layers += [
                _ACTIVATIONS[str(params.get("activation", "relu"))](),
                nn.Dropout(float(params.get("dropout", 0.0))),
            ]
            size = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(size, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, f) float64 with NaN for missing -> (n, outputs) float32."""
        numbers = x[:, : self.n_numbers]
        missing = torch.isnan(numbers)
        z = torch.where(missing, torch.zeros_like(numbers), (numbers - self.mean) / self.std).float()
        if self.squash:
            z = torch.sign(z) * torch.log1p(torch.abs(z))
        parts = [z, missing.index_select(1, self.flagged).to(z.dtype)]
        for j, embedding in enumerate(self.embeddings):
            code = x[:, self.n_numbers + j]
            # A comparison with NaN is false, so missing goes to row 0 along with what is out of range.
            known = (code >= 0) & (code < int(embedding.num_embeddings) - 1)
            parts.append(embedding(torch.where(known, code + 1, torch.zeros_like(code)).long()))
        return self.layers(torch.cat(parts, dim=1))


def _silence_unseen(embedding: nn.Module, codes: Array) -> None:
    """Zeros for the rows that training never touches, and that would stay as they were drawn."""
    weight = embedding.get_parameter("weight")
    seen = np.unique(np.where(np.isnan(codes), 0, codes + 1)).astype(np.int64)
    unseen = np.setdiff1d(np.arange(len(weight)), seen)
    with torch.no_grad():
        weight[torch.tensor(unseen)] = 0.0


def _normalised(kind: str, width: int) -> list[nn.Module]:
    if kind == "batch":
        return [nn.BatchNorm1d(width)]
    return [nn.LayerNorm(width)] if kind == "layer" else []


class Predictor(nn.Module):
    """A network with its last step: probabilities ``(n, K)`` (two classes: ``(n, 1)``), or values ``(n, 1)``.

    ``scale``: mean and deviation of the target for regression, else ``None``.
    """

    def __init__(self, net: TabularNet, scale: tuple[float, float] | None) -> None:
        super().__init__()
        self.net = net
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(n, f) float64 with NaN for missing."""
        raw = self.net(x)
        if self.scale is not None:
            return raw * self.scale[1] + self.scale[0]
        return torch.sigmoid(raw) if raw.shape[1] == 1 else torch.softmax(raw, dim=1)


def predictions(model: Predictor, x: Tensor) -> Array:
    """(n,) or (n, K) float64 on the CPU, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        out = torch.cat([model(part) for part in x.split(65_536)]).cpu().numpy().astype(np.float64)
    if out.shape[1] == 1:
        return np.ascontiguousarray(out[:, 0])
    # Single precision leaves sums of 1 +- 1e-7.
    return out / out.sum(axis=1, keepdims=True)


def optimizer_for(net: nn.Module, params: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser that the parameters name."""
    rate, decay = float(params.get("learning_rate", 1e-3)), float(params.get("weight_decay", 0.0))
    name = params.get("optimizer", "adamw")
    if name == "sgd":
        momentum = float(params.get("momentum", 0.9))
        return torch.optim.SGD(net.parameters(), lr=rate, weight_decay=decay, momentum=momentum)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(net.parameters(), lr=rate, weight_decay=decay)
