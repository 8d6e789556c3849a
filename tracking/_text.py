"""Names and values as MLflow takes them: its limits, and what becomes of what exceeds them.

Nothing that a program needs is read back from a shortened text: the exact configuration is in the tag
``hpo.params`` or the artifact ``config.json``, next to its hash.
"""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Mapping
from typing import Any

# MLflow 3: mlflow/utils/validation.py. Longer values are cut there, silently.
MAX_KEY = 250
MAX_PARAM = 6000
MAX_TAG = 8000
# Of a registered version: its column in mlflow/store/model_registry, which PostgreSQL enforces.
MAX_DESCRIPTION = 5000

# A colon is legal, but not for a server on Windows.
_ILLEGAL = re.compile(r"[^\w./\- ]")
# The last @ counts, as urllib reads it: whoever does not quote one in a password has it shown in half. One
# with a slash makes no URL, and stands in the message that says so; what begins as a port does is a path.
_PASSWORD = re.compile(r"(://[^/@:\s]*):(?:[^/\s]*|(?!\d+/)[^\s'\"]*)@")
_QUERY_SECRET = re.compile(
    r"(?i)([?&;](?:password|passwd|pwd|token|access_token|secret|api_?key|sig|signature)=)[^&;#\s'\"]*"
)


def safe_key(name: str) -> str:
    """``name`` with everything replaced that MLflow refuses in a key; legal names stay as they are."""
    key = _ILLEGAL.sub("_", name)
    parts = ["_" if part.strip() in ("", ".", "..") else part for part in key.split("/")]
    key = "/".join(parts).replace("..", "__")
    if len(key) > MAX_KEY:
        key = f"{key[: MAX_KEY - 9]}-{_digest(name)}"
    return key if posixpath.normpath(key) == key else _ILLEGAL.sub("_", key).replace("/", "_")


class Names:
    """Safe keys for names, one to one: two names never share a key.

    The answer depends on the order of the questions, which is the order of the journal.
    """

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._taken: set[str] = set()

    def key(self, name: str) -> str:
        """The key of ``name``."""
        known = self._keys.get(name)
        if known is not None:
            return known
        key = safe_key(name)
        if key in self._taken:
            key = f"{key[: MAX_KEY - 9]}-{_digest(name)}"
        self._keys[name] = key
        self._taken.add(key)
        return key

    def renamed(self) -> dict[str, str]:
        """Key to original name, where they differ."""
        return {key: name for name, key in self._keys.items() if key != name}


def _digest(text: str) -> str:
    return sha256(text)[:8]


def preview(text: str, limit: int) -> str:
    """``text``, or its beginning and a remark on its length when it is longer than ``limit``."""
    if len(text) <= limit:
        return text
    remark = f"... [{len(text)} characters]"
    return text[: limit - len(remark)] + remark


def redacted(text: str) -> str:
    """``text`` with ``***`` for the passwords of the URLs in it: before an ``@``, or in the query."""
    return _QUERY_SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def param_text(value: Any) -> str:
    """The value as ``mlflow.log_param`` would write it, so that a user who logs it too agrees with us."""
    return preview(str(value), MAX_PARAM)


def config_json(params: Mapping[str, Any]) -> str:
    """The configuration as canonical JSON: sorted keys, no blanks."""
    return json.dumps(params, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def ordered_json(declared: Mapping[str, Any]) -> str:
    """What somebody has declared as JSON in their order: of several objectives the first one ranks."""
    return json.dumps(declared, separators=(",", ":"), ensure_ascii=False)


def config_sha256(params: Mapping[str, Any]) -> str:
    """The hash of :func:`config_json`, in hexadecimal: equal configurations, equal hashes."""
    return sha256(config_json(params))


def sha256(text: str) -> str:
    """The hash of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def finite(value: Any) -> Any:
    """The value with ``None`` for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
