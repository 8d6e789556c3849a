"""The routes below ``/hpo``: one page that draws itself, its files, what it asks for, and what it can do."""

from __future__ import annotations

import asyncio
import bisect
import functools
import gzip
import hashlib
import html
import json
import os
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from flows.ui import _actions
from flows.ui._access import Access
from hpo_core import InputError
from tracking import Board, BoardStudy, BoardTrial
from tracking import _board_views as views
from tracking.tags import PARAMS

_STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_MOST_COMPARED = 8
_MOST_BODY = 10_000
_COMPRESS = 2_000
# A page asks for its study every two seconds.
_RECENT_SECONDS = 3.0
_GUARD = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_Handler = Callable[["Pages", Request], Awaitable[Response]]


def add_pages(app: Any, *, protected: bool) -> Any:
    """Put the pages before MLflow's catch-all route; returns the application."""
    from mlflow.server.handlers import STATIC_PREFIX_ENV_VAR

    prefix = os.environ.get(STATIC_PREFIX_ENV_VAR, "").rstrip("/")
    pages = Pages(Access(app, prefix, protected=protected), prefix)
    app.router.routes[:0] = pages.routes()
    return app


def _answers(handler: _Handler) -> Callable[[Pages, Request], Awaitable[Response]]:
    """Mistakes become one line of JSON; nobody who is not logged in comes through."""

    @functools.wraps(handler)
    async def guarded(self: Pages, request: Request) -> Response:
        refused = await self.access.refusal(request)
        if refused is not None:
            return refused
        try:
            return await handler(self, request)
        except InputError as error:
            return _problem(400, str(error))
        except LookupError:
            return _problem(404, "there is no such study, or trial, that you may see")

    return guarded


class Pages:
    """The endpoints; they share the board."""

    def __init__(
        self, access: Access, prefix: str, open_board: Callable[[], Board] = Board.of_server
    ) -> None:
        self.access = access
        self._prefix = prefix
        self._open_board = open_board

    def routes(self) -> list[Route]:
        """The routes, the most specific first."""
        base = f"{self._prefix}/hpo"
        one = f"{base}/api/studies/{{run_id}}"
        page = self.page
        return [
            Route(f"{base}/api/studies", self.studies),
            Route(one, self.study),
            Route(f"{one}/trials", self.trials),
            Route(f"{one}/trials/{{number:int}}", self.trial),
            Route(f"{one}/blocks", self.blocks),
            Route(f"{one}/compare", self.compare),
            Route(f"{one}/actions/{{action}}", self.act, methods=["POST"]),
            Route(f"{base}/static/{{name}}", self.static),
            *(Route(base + path, page) for path in ("", "/studies/{run_id}", "/studies/{run_id}/compare")),
            Route(f"{base}/studies/{{run_id}}/trials/{{number:int}}", page),
            Route(f"{base}/", lambda request: RedirectResponse(base)),
        ]

    @functools.cached_property
    def _board(self) -> Board:
        return self._open_board()

    # -- the page and its files ----------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """The page is the same everywhere; the address says what it draws."""
        refused = await self.access.refusal(request)
        if refused is not None:
            return refused
        text = (_STATIC / "page.html").read_text(encoding="utf-8")
        return Response(text.replace("{{prefix}}", html.escape(self._prefix)), 200, _GUARD, "text/html")

    async def static(self, request: Request) -> Response:
        """A script or a style sheet."""
        path = _STATIC / request.path_params["name"]
        if path.parent != _STATIC or not path.is_file():
            return _problem(404, "there is no such file")
        return _cached(request, path.read_bytes(), _TYPES[path.suffix])

    # -- what is shown -------------------------------------------------------------------------

    @_answers
    async def studies(self, request: Request) -> Response:
        """The list of studies."""
        found = await asyncio.to_thread(lambda: self._board.studies())
        allowed = {
            e: await self.access.may_read(request, e) for e in {study.experiment_id for study in found}
        }
        return _json(request, [views.listed(s) for s in found if allowed[s.experiment_id]])

    @_answers
    async def study(self, request: Request) -> Response:
        """A study but for its table."""
        study = await self._study(request)
        shown = await asyncio.to_thread(views.summary_text, study)
        actions = await asyncio.to_thread(_actions.available, study, views.summary(study)["counts"])
        more = {"actions": actions, "confirmation": await self._confirmation(request, study)}
        return _text(request, f"{shown[:-1]},{views.dumped(more)[1:]}")

    @_answers
    async def trials(self, request: Request) -> Response:
        """One page of the table."""
        study = await self._study(request)
        query = dict(request.query_params)
        return _json(request, await asyncio.to_thread(views.table, study, query, _now()))

    @_answers
    async def blocks(self, request: Request) -> Response:
        """Trials as the page keeps them: the blocks of these numbers, or all."""
        study = await self._study(request)
        named = request.query_params.get("of")
        numbers = None if named is None else [views.whole({"of": n}, "of", 0) for n in named.split(",") if n]
        made = await asyncio.to_thread(views.blocks_text, study, numbers, _now())
        return await asyncio.to_thread(_text, request, made)  # ten thousand trials take a while to compress

    @_answers
    async def trial(self, request: Request) -> Response:
        """One trial, with its curves and tags; the page beside it asks for the study as of now."""
        number = request.path_params["number"]
        study = await self._study(request, _RECENT_SECONDS)
        if number not in study.trials:
            study = await self._study(request)
        return _json(request, await asyncio.to_thread(self._trial, study, number))

    @_answers
    async def compare(self, request: Request) -> Response:
        """Several trials side by side."""
        study = await self._study(request)
        numbers = request.query_params.get("trials", "").split(",")[:_MOST_COMPARED]
        chosen = dict.fromkeys(views.whole({"trials": n}, "trials", 0) for n in numbers if n)
        if not chosen:
            raise InputError("the address names no trials to compare; they are chosen in the study's table")
        made = [await asyncio.to_thread(self._trial, study, number) for number in chosen]
        for one in made:  # a trial that was stopped at its first step has a point where others have a curve
            others = {name for other in made for name in other["curves"]} - one["curves"].keys()
            if others:
                alone = await asyncio.to_thread(self._curves, study.trials[one["trial"]], one["tags"])
                one["curves"] |= views.curves(alone, others)
        return _json(request, {"study": views.listed(study), "params": views.names(study), "trials": made})

    def _trial(self, study: BoardStudy, number: int) -> dict[str, Any]:
        trial = study.trials[number]
        ranking = views.ranked(study)
        numbers = list(study.trials)
        at = bisect.bisect_left(numbers, number)
        tags = self._board.tags(trial.run_id)
        raw = self._curves(trial, tags)
        best = ranking[0] if ranking else None
        return {
            **views.row(trial, _now(), views.places(study).get(number)),
            "of": len(ranking),
            "study": {**views.listed(study), "params": views.names(study)},
            "start": trial.start,
            "end": trial.end,
            "curves": views.curves(raw),
            "metrics": {key: points[-1][1] for key, points in raw.items()},
            "tags": {k: v for k, v in tags.items() if k.startswith("hpo.") and k != PARAMS},
            "best": None if best is None else {"trial": best.number, "params": best.params},
            "before": numbers[at - 1] if at else None,
            "after": numbers[at + 1] if at + 1 < len(numbers) else None,
        }

    def _curves(self, trial: BoardTrial, tags: Mapping[str, str]) -> views.Curves:
        return views.by_name(self._board.curves(trial.run_id), tags, trial.params)

    async def _confirmation(self, request: Request, study: BoardStudy) -> dict[str, Any] | None:
        """As in the views; ``run_id``: the page of the other study, where the caller may see it."""
        found = views.confirmation(study)
        if found is None:
            return None
        run = await asyncio.to_thread(self._board.run_of, found["study_id"])
        seen = run is not None and await self.access.may_read(request, run[1])
        return {**found, "run_id": run[0] if run and seen else None}

    async def _study(self, request: Request, within: float = 0.0) -> BoardStudy:
        """The study of the address. Raises ``LookupError`` for one that the caller may not see."""
        study = await asyncio.to_thread(lambda: self._board.study(request.path_params["run_id"], within))
        if not await self.access.may_read(request, study.experiment_id):
            raise LookupError(study.run_id)
        return study

    # -- what can be done ----------------------------------------------------------------------

    @_answers
    async def act(self, request: Request) -> Response:
        """Cancel, resume, extend, retry or promote."""
        if not _from_our_page(request):
            return _problem(403, "actions are taken from the study pages themselves, as JSON")
        study = await self._study(request)
        action = request.path_params["action"]
        arguments = _actions.command(study, action, await _body(request))
        counts = (await asyncio.to_thread(views.summary, study))["counts"]
        reason = (await asyncio.to_thread(_actions.available, study, counts))[action]
        if reason:
            return _problem(409, reason)
        if not await self.access.may_change(request, study.run_id, action):
            return _problem(403, "you may not change this experiment")
        authorization = request.headers.get("authorization") if self.access.protected else None
        done = await _actions.perform(study, arguments, authorization)
        status = 200 if done.succeeded else 409
        return JSONResponse({"message": done.message}, status, _GUARD)


def _from_our_page(request: Request) -> bool:
    """JSON, and not from another site's page, which cannot send it without asking first."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    origin = request.headers.get("origin")
    ours = origin is None or urllib.parse.urlsplit(origin).netloc == request.headers.get("host")
    site = request.headers.get("sec-fetch-site", "same-origin")
    return kind == "application/json" and ours and site in ("same-origin", "none")


async def _body(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > _MOST_BODY:
            raise InputError("the request is too long")
    try:
        body = json.loads(bytes(content) or b"{}")
    except (ValueError, RecursionError):
        raise InputError("the request is no JSON") from None
    if not isinstance(body, dict):
        raise InputError(f"expected a JSON object, got {body!r}")
    return body


def _json(request: Request, payload: Any) -> Response:
    return _text(request, views.dumped(payload))


def _text(request: Request, text: str) -> Response:
    return _cached(request, text.encode(), "application/json")


def _cached(request: Request, content: bytes, media_type: str) -> Response:
    """The content, or 304 for whoever has it already; the tag is the same in every worker process."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    headers = {**_GUARD, "ETag": tag, "Vary": "Authorization, Cookie, Accept-Encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if len(content) > _COMPRESS and "gzip" in request.headers.get("accept-encoding", ""):
        content = gzip.compress(content, 1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(content, 200, headers, media_type)


def _problem(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status, _GUARD)


def _now() -> int:
    return int(time.time() * 1000)
