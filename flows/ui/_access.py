"""Who may see and change what: MLflow's own answer, asked for with the caller's credentials.

A request is put to MLflow's REST interface inside this process, so that whatever guards it (basic auth,
roles, a site's own function) decides here as well, and its internals need not be known.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response

_FORWARDED = ("authorization", "cookie", "x-mlflow-workspace")
_REMEMBER_SECONDS = 5.0
_MOST_REMEMBERED = 1000


class Access:
    """Asks ``app``; a server that is not ``protected`` lets everybody do everything.

    ``clock``: seconds from any moment, by which answers are forgotten.
    """

    def __init__(
        self, app: Any, prefix: str, *, protected: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._clock = clock
        self._api = f"{prefix}/api/2.0/mlflow"
        self.protected = protected
        self._remembered: dict[tuple[str, ...], tuple[float, int]] = {}

    async def refusal(self, request: Request) -> Response | None:
        """The answer to somebody who is not logged in; ``None`` for everybody else."""
        if not self.protected:
            return None
        answer = await self._ask(request, "POST", "/experiments/search", {"max_results": 1})
        if answer.status_code < 400:
            return None
        kept = {k: v for k, v in answer.headers.items() if k.lower() == "www-authenticate"}
        return Response(answer.content, answer.status_code, kept, "text/plain")

    async def may_read(self, request: Request, experiment_id: str) -> bool:
        """Whether the caller may see the experiment."""
        if not self.protected:
            return True
        who = tuple(request.headers.get(name, "") for name in _FORWARDED)
        key = (*who, experiment_id)
        at, status = self._remembered.get(key, (0.0, 0))
        if not status or self._clock() - at > _REMEMBER_SECONDS:
            asked = f"/experiments/get?experiment_id={experiment_id}"
            status = (await self._ask(request, "GET", asked, None)).status_code
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = (self._clock(), status)
        return status < 400

    async def may_change(self, request: Request, run_id: str, action: str) -> bool:
        """Whether the caller may change the run; leaves a tag that says what was asked of it."""
        if not self.protected:
            return True
        tag = {"run_id": run_id, "key": "hpo.requested", "value": action}
        return (await self._ask(request, "POST", "/runs/set-tag", tag)).status_code < 400

    async def _ask(self, request: Request, method: str, path: str, body: Any) -> httpx.Response:
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url=str(request.base_url)) as client:
            content = None if body is None else json.dumps(body)
            headers["content-type"] = "application/json"
            return await client.request(method, self._api + path, content=content, headers=headers)
