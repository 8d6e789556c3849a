"""Asking a server whether it is there, without a client of its own."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request


def status_of(url: str, timeout: float) -> int | None:
    """The status of what a GET is answered with within ``timeout`` seconds; ``None`` where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:  # an answer, too, with a body that waits to be read
            return error.code
    except (OSError, ValueError, http.client.HTTPException):
        return None
