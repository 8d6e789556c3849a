"""A torch objective's final model, as it is where MLflow has loaded it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from flows.objectives import FinalModel

if TYPE_CHECKING:
    from flows.objectives._table_network import TableNetwork


def served(final: FinalModel) -> TableNetwork:
    """From the files that are logged, without MLflow."""
    import torch

    from flows.objectives._table_network import TableNetwork

    files = final.model.files
    network = torch.export.load(io.BytesIO(files["network.pt2"])).module()
    return TableNetwork.of(network, json.loads(files["contract.json"]))
