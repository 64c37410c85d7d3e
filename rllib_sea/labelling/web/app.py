"""The JSON interface of the page, and the page's files."""

# No `from __future__ import annotations`: FastAPI reads the types of what is defined inside.

import asyncio
import html
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from rllib_sea.labelling.web.desk import Desk
from rllib_sea.labelling.web.desk_records import (
    Answer,
    Kept,
    Progress,
    RefusedError,
    ShownQuestion,
)
from rllib_sea.labelling.web.markdown import markdown_tree
from rllib_sea.labelling.web.raters import Raters
from rllib_sea.labelling.web.safety import Guard, Limit
from rllib_sea.preference_log.records import PreferenceLogError
from text_duel.conversations import check_characters

PAGE = Path(__file__).parent / "page"
FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "outbox.js": "text/javascript",
    "server.js": "text/javascript",
    "texts.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
# Questions that somebody may have ahead.
MAX_AHEAD = 20
MAX_REASON = 2000
# Pages of one rater that listen at once.
MAX_LISTENERS = 12
# Between two events of one page: many raters answer at once.
EVENT_S = 0.25
# What a form of another site cannot send.
CSRF_HEADER = "X-Rllib-Sea"


Choice = Literal["left", "right", "tie", "both_bad", "skip"]
QuestionId = Annotated[int, Field(ge=1, le=2**63 - 1, description="A question's id.")]


def _written(value: str) -> str:
    check_characters(value)
    return value


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SessionBody(_Body):
    """What a link holds."""

    token: Annotated[str, Field(min_length=1, max_length=200)]


class NextBody(_Body):
    """How many questions a rater wants to have ahead."""

    count: Annotated[int, Field(ge=1, le=MAX_AHEAD)] = 4


class AnswerBody(_Body):
    """What a rater says about a question as it was shown."""

    question: QuestionId
    choice: Choice
    correction: Annotated[
        bool, Field(description="Whether it takes the place of an earlier answer.")
    ] = False
    strength: Annotated[
        float | None, Field(gt=0, le=100, description="How clearly: 1 a little, 2 clearly.")
    ] = None
    reason: Annotated[
        Annotated[str, Field(max_length=MAX_REASON), AfterValidator(_written)] | None,
        Field(description="Why it is skipped, or a remark."),
    ] = None
    seconds: Annotated[
        float | None, Field(ge=0, le=1e6, description="How long it was looked at.")
    ] = None


class UndoBody(_Body):
    """Which answer is taken back."""

    question: Annotated[
        QuestionId | None, Field(description="null: the last one that still can be.")
    ] = None


class MarkdownBody(_Body):
    """Whose texts are read as Markdown."""

    question: QuestionId


class Message(BaseModel):
    """What is wrong, in words."""

    message: str


class Rubric(BaseModel):
    """The team's rules, as a tree of elements: texts, and `{name, href, children}`."""

    tree: list[Any]


class MarkdownTexts(BaseModel):
    """A question's texts as trees like the rules'; links are their texts."""

    prompt: Annotated[list[list[Any]], Field(description="A tree per turn.")]
    left: list[Any]
    right: list[Any]


_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Message, "description": "No link of a rater, or no header against forgery."},
    404: {"model": Message, "description": "There is no such question, or answer."},
    409: {"model": Message, "description": "It is not taken; the message says why."},
    413: {"model": Message, "description": "Too long."},
    422: {"model": Message, "description": "It cannot be read; the message says what."},
    429: {"model": Message, "description": "Too many requests."},
    503: {"model": Message, "description": "The log cannot be written; nothing was. Try again."},
}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _REFUSALS[status] for status in (401, *statuses, 413, 422, 429, 503)}


def make_app(
    desk: Desk, raters: Raters, *, title: str, rubric: str, per_second: float = 50.0
) -> ASGIApp:
    """The application: everything under `/api/` needs a rater's token.

    Args:
        desk: Hands questions out, and takes answers in.
        raters: Who may.
        title: What is labelled, for the page.
        rubric: The team's rules in Markdown; empty if there are none.
        per_second: Requests that each rater may make.
    """
    app = FastAPI(
        title="rllib-sea labelling",
        version=version("rllib-sea"),
        description="What the page uses, and all that it uses. Send a rater's token as "
        f"`Authorization: Bearer <token>`; or `POST /api/session` once, and with each later "
        f"request the cookie and the header `{CSRF_HEADER}: 1`.",
        docs_url=None,
        redoc_url=None,
    )
    of_raters, of_strangers = Limit(per_second, int(4 * per_second)), Limit(5.0, 40)
    listeners: Counter[str] = Counter()
    tree = markdown_tree(rubric, links=True)

    def known(token: str | None, request: Request) -> str:
        """The rater of a token."""
        rater = raters.rater_of(token) if token else None
        if rater is None:
            address = request.client.host if request.client else "?"
            if not of_strangers.take(address):
                raise RefusedError("too many attempts: wait a few seconds", 429)
            raise RefusedError(
                "this is no rater's link, or no longer: ask whoever runs the training for yours",
                401,
            )
        if not of_raters.take(rater):
            raise RefusedError("too many requests: wait a second", 429)
        return rater

    def cookie_name(request: Request) -> str:
        """Cookies know no ports: two runs on one machine have two names."""
        return f"rllib_sea_{request.url.port or 80}"

    def current_rater(
        request: Request,
        authorization: Annotated[str | None, Header()] = None,
        x_rllib_sea: Annotated[str | None, Header()] = None,
    ) -> str:
        """Who sent a request."""
        if authorization is not None:
            kind, _, token = authorization.partition(" ")
            return known(token if kind.lower() == "bearer" else None, request)
        if request.method != "GET" and x_rllib_sea is None:
            raise RefusedError(f"a request with a cookie needs the header {CSRF_HEADER}", 401)
        return known(request.cookies.get(cookie_name(request)), request)

    Rater = Annotated[str, Depends(current_rater)]

    @app.post("/api/session", responses=_refusals())
    async def enter(body: SessionBody, request: Request, response: Response) -> Progress:
        """Exchanges a link's token for a cookie."""
        rater = known(body.token, request)
        response.set_cookie(
            cookie_name(request),
            body.token,
            max_age=400 * 24 * 3600,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return desk.progress(rater)

    @app.get("/api/progress", responses=_refusals())
    async def progress(rater: Rater) -> Progress:
        """How the rater and the run stand."""
        return desk.progress(rater)

    @app.get("/api/rubric", responses=_refusals())
    async def read_rubric(rater: Rater) -> Rubric:
        """The team's rules."""
        return Rubric(tree=tree)

    @app.post("/api/next", responses=_refusals())
    async def next_questions(body: NextBody, rater: Rater) -> list[ShownQuestion]:
        """Leases questions: those that the rater has, and others up to `count`."""
        return desk.hand_out(rater, body.count)

    @app.post("/api/answer", responses=_refusals(404, 409))
    async def answer(body: AnswerBody, rater: Rater) -> Kept:
        """Writes an answer down; when it is acknowledged, it is on the disk.

        The same answer may be sent again: it counts once. Another one is refused, unless it is
        a correction.
        """
        return desk.answer(rater, Answer(**body.model_dump()))

    @app.post("/api/undo", responses=_refusals(404, 409))
    async def undo(body: UndoBody, rater: Rater) -> ShownQuestion:
        """Takes an answer back, to give another as a correction; until then it stands."""
        return desk.reopen(rater, body.question)

    @app.post("/api/markdown", responses=_refusals(404, 409))
    async def read_markdown(body: MarkdownBody, rater: Rater) -> MarkdownTexts:
        """Reads the texts of a question that the rater has as Markdown."""
        shown = desk.show(rater, body.question)

        def read() -> MarkdownTexts:
            return MarkdownTexts(
                prompt=[markdown_tree(turn.content, links=False) for turn in shown.prompt],
                left=markdown_tree(shown.left, links=False),
                right=markdown_tree(shown.right, links=False),
            )

        return await asyncio.to_thread(read)

    @app.get("/api/events", response_class=EventSourceResponse, responses=_refusals())
    async def events(rater: Rater) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events `progress`, whenever something has changed."""
        if listeners[rater] >= MAX_LISTENERS:
            return
        listeners[rater] += 1
        try:
            while True:
                change = desk.next_change()
                yield ServerSentEvent(event="progress", data=asdict(desk.progress(rater)))
                if desk.is_closed:
                    return
                await change.wait()
                await asyncio.sleep(EVENT_S)
        finally:
            listeners[rater] -= 1

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        text = (PAGE / "index.html").read_text(encoding="utf-8")
        return HTMLResponse(text.replace("{{ title }}", html.escape(title)))

    @app.get("/{name}", include_in_schema=False)
    async def file(name: str) -> FileResponse:
        if name not in FILES:
            raise HTTPException(404, "there is no such page")
        return FileResponse(PAGE / name, media_type=FILES[name])

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        headers = {"Retry-After": "1"} if error.status == 429 else None
        return JSONResponse({"message": str(error)}, error.status, headers)

    @app.exception_handler(PreferenceLogError)
    async def unwritten(_: Request, error: PreferenceLogError) -> JSONResponse:
        return JSONResponse({"message": str(error)}, 503, {"Retry-After": "2"})

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # FastAPI's, of bytes that are no text
            return JSONResponse({"message": "body: it is no JSON in UTF-8"}, 422)
        return JSONResponse({"message": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def unreadable(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return JSONResponse({"message": f"{where or 'body'}: {first['msg']}"}, 422)

    return Guard(app)
