"""A network that takes rows of a table as they are.

MLflow keeps this file in the model and runs it where the model is loaded: it needs nothing of this project.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch


class TableNetwork(mlflow.pyfunc.PythonModel):
    """Predicts labels, or values, for rows that have the columns of the table that it was trained on.

    ``network``: (n, f) float64, NaN for missing -> (n, K) probabilities, of two classes (n, 1), or (n, 1)
    values. ``contract``: its columns in order, the levels of its categories, which columns are dates, the
    labels of its classes.
    """

    network: Callable[[torch.Tensor], torch.Tensor]
    contract: Mapping[str, Any]

    @classmethod
    def of(cls, network: Callable[[torch.Tensor], torch.Tensor], contract: Mapping[str, Any]) -> TableNetwork:
        """From its two parts."""
        model = cls()
        model.network, model.contract = network, contract
        return model

    def load_context(self, context: Any) -> None:
        """Where MLflow loads it."""
        self.network = torch.export.load(context.artifacts["network.pt2"]).module()
        self.contract = json.loads(Path(context.artifacts["contract.json"]).read_text("utf-8"))

    @property
    def classes_(self) -> np.ndarray[Any, Any]:
        """Labels in the order of the probabilities; of regression none."""
        return np.asarray(self.contract["classes"])

    def encoded(self, rows: pd.DataFrame) -> np.ndarray[Any, Any]:
        """(n, f) float64: numbers, dates as days since 1970, codes of categories; NaN for what is missing,
        infinite, or a level that training did not have.
        """
        contract = self.contract
        out = np.full((len(rows), len(contract["columns"])), np.nan)
        for j, name in enumerate(contract["columns"]):
            column = rows[name]
            if name in contract["categories"]:
                # Flags and times are text in the table that it was trained on.
                text = column.astype(object).map(str, na_action="ignore").astype(object)
                codes = pd.Index(contract["categories"][name], dtype=object).get_indexer(text)
                out[:, j] = np.where(codes >= 0, codes, np.nan)
            elif name in contract["dates_as_days_since_1970"]:
                since = column.astype("datetime64[us]") - pd.Timestamp("1970-01-01").as_unit("us")
                out[:, j] = since / pd.Timedelta("1D")
            else:
                out[:, j] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isfinite(out), out, np.nan)

    def _raw(self, rows: pd.DataFrame) -> np.ndarray[Any, Any]:
        x = torch.from_numpy(self.encoded(rows))
        with torch.no_grad():
            return torch.cat([self.network(part) for part in x.split(65_536)]).numpy().astype(np.float64)

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray[Any, Any]:
        """(n, K), in the order of ``classes_``."""
        out = self._raw(rows)
        if out.shape[1] == 1:
            return np.concatenate([1.0 - out, out], axis=1)
        # Single precision leaves sums of 1 +- 1e-7.
        return out / out.sum(axis=1, keepdims=True)

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """(n,) the likeliest label, or the value."""
        del params
        if not self.contract["classes"]:
            return self._raw(model_input)[:, 0]
        return self.classes_[self.predict_proba(model_input).argmax(axis=1)]


mlflow.models.set_model(TableNetwork())
