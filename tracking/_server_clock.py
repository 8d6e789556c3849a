"""The tracking server's clock, by which drivers on different machines can agree how long a lease still runs.

Their own may differ by minutes or hours: a study whose driver lives would be taken from it, and one whose
driver is dead would be held.
"""

from __future__ import annotations

import email.utils
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

from tracking._connection import is_over_http

_SECONDS = 5.0


class ServerClock:
    """Seconds since the epoch by the clock of the server at ``uri``; of this machine, where it tells none."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._ahead = 0.0

    def now(self) -> float:
        """Asks the server; while it does not answer, it is taken to be as far ahead as it was."""
        told = _told_by(self._uri)
        here = time.time()
        if told is not None:
            self._ahead = told - here
        return here + self._ahead


def _told_by(uri: str) -> float | None:
    try:
        if is_over_http(uri):
            return _of_answer(uri)
        # A database in a file is on this machine, and others are asked in words that not all understand.
        return _of_postgres(uri) if uri.startswith("postgres") else None
    except Exception:  # noqa: BLE001 - of the many ways not to tell, each is as good as the others
        return None


def _of_answer(uri: str) -> float | None:
    """What any answer is dated with, that to somebody who is not logged in as well."""
    parts = urllib.parse.urlsplit(uri)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    request = urllib.request.Request(f"{plain}/health", headers={"Cache-Control": "no-cache"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=_context()) as answer:
            date = answer.headers["Date"]
    except urllib.error.HTTPError as error:
        with error:
            date = error.headers["Date"]
    return None if date is None else email.utils.parsedate_to_datetime(date).timestamp()


def _context() -> ssl.SSLContext:
    """As MLflow trusts it. What is believed here is a date, and nothing secret is sent."""
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _of_postgres(uri: str) -> float:
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        query = sqlalchemy.text("SELECT extract(epoch FROM clock_timestamp())")
        return float(connection.execute(query).scalar_one())
