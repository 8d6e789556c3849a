"""What loading skops costs a driver."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from tracking._skops import _ADAPTERS, skops_io
from sklearn.linear_model import LogisticRegression
io = skops_io()
model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
again = io.loads(io.dumps(model), trusted=[])
assert again.predict([[5.0]]) == [1]
assert io.get_untrusted_types(data=io.dumps(model)) == []
print(*(name for name in ("torch", "dask") if name in sys.modules))
assert not set(_ADAPTERS) & set(sys.modules)
import sklearn.externals.array_api_compat.torch
"""


def test_skops_is_loaded_without_torch_and_leaves_no_import_broken() -> None:
    """Else it took 3 s and 180 MiB, for a list of estimators that neither torch nor dask is in."""
    pytest.importorskip("skops")
    pytest.importorskip("torch")
    pytest.importorskip("dask")
    said = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (said.stdout.strip(), said.returncode) == ("", 0), said.stderr
