"""The JSON interface, in this process: who may do what, and what is refused in which words."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from rllib_sea.labelling.web.app import make_app
from rllib_sea.labelling.web.desk import Desk
from rllib_sea.labelling.web.markdown import MAX_CHARACTERS, markdown_tree
from rllib_sea.labelling.web.raters import Raters, raters_file
from rllib_sea.labelling.web.safety import MAX_BODY_BYTES
from rllib_sea.preference_log.log import LOG_FILE, PreferenceLog
from rllib_sea.preference_log.records import PreferenceLogError
from tests.helpers.preference_log_cases import RUN, question, response
from text_duel.errors import ConfigError

KEPT = 0
CSRF = {"X-Rllib-Sea": "1"}


@dataclass
class Served:
    """A log's application, and who may use it."""

    log: PreferenceLog
    raters: Raters
    app: Any
    desk: Desk

    def token(self, rater: str = "ann") -> str:
        return self.raters.links()[rater].partition("#")[2]

    def client(self, rater: str | None = "ann") -> httpx.AsyncClient:
        headers = {} if rater is None else {"Authorization": f"Bearer {self.token(rater)}"}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://127.0.0.1:8421",
            headers=headers,
        )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with PreferenceLog(tmp_path / LOG_FILE, RUN) as log:
        log.ask(0, [question(0, i) for i in range(6)])
        raters = Raters(log.path)
        raters.invite(["ann", "bob"])
        raters.served_at("127.0.0.1", 8421, {})
        desk = Desk(log, lease_s=100.0)
        app = make_app(desk, raters, title="<b>run</b>", rubric="", per_second=1000.0)
        yield Served(log, raters, app, desk)


def play(
    served: Served, script: Callable[[httpx.AsyncClient], Awaitable[None]], **who: Any
) -> None:
    async def run() -> None:
        async with served.client(**who) as client:
            await script(client)

    asyncio.run(run())


def written(log: PreferenceLog) -> tuple[int, ...]:
    """How many rows the log has that a request could add."""
    tables = ("verdicts", "labels", "leases", "withdrawals", "lessons")
    return tuple(next(log.query(f"SELECT count(*) FROM {table}"))[0] for table in tables)


PATHS = (
    ("GET", "/api/progress", None),
    ("GET", "/api/rubric", None),
    ("GET", "/api/events", None),
    ("POST", "/api/next", {}),
    ("POST", "/api/answer", {"question": 1, "choice": "left"}),
    ("POST", "/api/undo", {}),
    ("POST", "/api/markdown", {"question": 1}),
)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic"}])
def test_nobody_reads_or_writes_without_a_token(served: Served, headers: dict[str, str]) -> None:
    async def script(client: httpx.AsyncClient) -> None:
        for method, path, body in PATHS:
            response = await client.request(method, path, json=body, headers=headers | CSRF)
            assert response.status_code == 401
            assert "no rater's link" in response.json()["message"]
        response = await client.post("/api/session", json={"token": "x"})
        assert (response.status_code, client.cookies) == (401, httpx.Cookies())

    play(served, script, rater=None)
    assert written(served.log) == (0, 0, 0, 0, 0)


def test_a_link_becomes_a_cookie_and_forms_of_other_sites_are_refused(served: Served) -> None:
    async def script(client: httpx.AsyncClient) -> None:
        response = await client.post("/api/session", json={"token": served.token()})
        assert response.json()["rater"] == "ann"
        cookie = response.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert cookie.startswith("rllib_sea_8421=")
        assert (await client.get("/api/progress")).json()["rater"] == "ann"
        forged = await client.post("/api/next", json={})
        assert (forged.status_code, written(served.log)) == (401, (0, 0, 0, 0, 0))
        assert "needs the header X-Rllib-Sea" in forged.json()["message"]
        assert len((await client.post("/api/next", json={}, headers=CSRF)).json()) == 4

    play(served, script, rater=None)


def test_words_for_what_is_not_taken(served: Served) -> None:
    async def script(client: httpx.AsyncClient) -> None:
        await client.post("/api/next", json={"count": 2})

        async def refusal(body: Any, **options: Any) -> tuple[int, str]:
            sent = options or {"json": body}
            response = await client.post("/api/answer", **sent)
            return response.status_code, response.json()["message"]

        assert await refusal({"question": 99, "choice": "tie"}) == (404, "there is no question 99")
        assert await refusal({"question": 5, "choice": "tie"}) == (
            409,
            "question 5 was never put before ann",
        )
        status, message = await refusal({"question": 1, "choice": "A"})
        assert (status, message) == (
            422,
            "choice: Input should be 'left', 'right', 'tie', 'both_bad' or 'skip'",
        )
        for body, key in (
            ({"question": "1", "choice": "tie"}, "question"),
            ({"question": 2**63, "choice": "tie"}, "question"),
            ({"question": 1, "choice": "tie", "rater": "bob"}, "rater"),
            ({"question": 1, "choice": "skip", "reason": "x" * 2001}, "reason"),
            ({"question": 1, "choice": "tie", "seconds": -1.0}, "seconds"),
            ({"question": 1, "choice": "tie", "strength": 0.0}, "strength"),
        ):
            status, message = await refusal(body)
            assert (status, message.partition(":")[0]) == (422, key)
        headers = {"Content-Type": "application/json"}
        half = rb'{"question": 1, "choice": "skip", "reason": "\ud800"}'
        for content, expected in (
            (half, 422),
            (b'{"question": 1, "choice": "tie", "seconds": NaN}', 422),
            (b"{", 422),
            (b"\xff\xfe", 422),
            (b"x" * (MAX_BODY_BYTES + 1), 413),
        ):
            status, message = await refusal(None, content=content, headers=headers)
            assert (status, bool(message)) == (expected, True)
        assert written(served.log)[0] == 0
        emoji = {"question": 1, "choice": "skip", "reason": "\N{GRINNING FACE} \u0645\u0631"}
        assert (await client.post("/api/answer", json=emoji)).json()["status"] == "kept"
        (entry,) = served.log.entries([1])
        assert entry.verdicts[0].verdict.reason == emoji["reason"]

    play(served, script)


def test_a_full_disk_is_said_and_nothing_is_lost(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(client: httpx.AsyncClient) -> None:
        await client.post("/api/next", json={})
        with monkeypatch.context() as patch:

            def full(*arguments: Any, **options: Any) -> None:
                raise PreferenceLogError("preference log x: the disk is full: nothing was written")

            patch.setattr(PreferenceLog, "give", full)
            response = await client.post("/api/answer", json={"question": 1, "choice": "tie"})
            assert response.status_code == 503
            assert "the disk is full: nothing was written" in response.json()["message"]
        response = await client.post("/api/answer", json={"question": 1, "choice": "tie"})
        assert response.json()["status"] == "kept"

    play(served, script)


def test_limits(served: Served) -> None:
    app = make_app(served.desk, served.raters, title="", rubric="", per_second=1)
    limited = Served(served.log, served.raters, app, served.desk)

    async def script(client: httpx.AsyncClient) -> None:
        found = [(await client.get("/api/progress")).status_code for _ in range(8)]
        assert found[:4] == [200] * 4
        assert found[-1] == 429

    async def guess(client: httpx.AsyncClient) -> None:
        found = [
            (await client.post("/api/session", json={"token": str(i)})).status_code
            for i in range(60)
        ]
        assert (found[0], found[-1]) == (401, 429)

    play(limited, script)
    play(limited, script, rater="bob")
    play(limited, guess, rater=None)


def test_every_response_has_its_headers_and_the_page_its_title_as_text(served: Served) -> None:
    async def script(client: httpx.AsyncClient) -> None:
        for path in ("/", "/page.js", "/page.css", "/nothing", "/api/progress", "/openapi.json"):
            response = await client.get(path)
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["referrer-policy"] == "no-referrer"
        assert (await client.get("/nothing")).status_code == 404
        page = (await client.get("/")).text
        assert "&lt;b&gt;run&lt;/b&gt;" in page
        assert "<b>" not in page

    play(served, script, rater=None)


def test_tokens_are_their_owners_alone_and_others_are_invited_while_it_goes_on(
    served: Served,
) -> None:
    file = raters_file(served.log.path)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    elsewhere = Raters(served.log.path)  # another process
    elsewhere.invite(["ann", "carol"])
    links = elsewhere.links()
    assert links["ann"] == served.raters.links()["ann"]

    async def script(client: httpx.AsyncClient) -> None:
        token = links["carol"].partition("#")[2]
        found = await client.get("/api/progress", headers={"Authorization": f"Bearer {token}"})
        assert found.json()["rater"] == "carol"

    play(served, script, rater=None)
    file.write_text("{")
    with pytest.raises(ConfigError, match=r"raters\.json cannot be read"):
        Raters(served.log.path)


def test_a_rubric_is_elements_and_never_html() -> None:
    found = markdown_tree(
        "# Rules\n<script>x</script>\n\nA *b* [c](https://d.e) [f](javascript:g) ![h](i.png)\n\n"
        "- `j`\n",
        links=True,
    )
    assert found == [
        {"name": "h3", "children": ["Rules"]},
        {"name": "p", "children": ["<script>x</script>"]},
        {
            "name": "p",
            "children": [
                "A ",
                {"name": "em", "children": ["b"]},
                " ",
                {"name": "a", "href": "https://d.e", "children": ["c"]},
                " [f](javascript:g) ",
                "h",
            ],
        },
        {
            "name": "ul",
            "children": [
                {
                    "name": "li",
                    "children": [{"name": "p", "children": [{"name": "code", "children": ["j"]}]}],
                }
            ],
        },
    ]


def test_texts_are_markdown_for_those_who_have_them(served: Served) -> None:
    texts = ("**a** [b](https://c.d) <i>e</i>", "x" * (MAX_CHARACTERS + 1))
    served.log.ask(1, [question(1, 0, first=response(texts[0]), second=response(texts[1]))])
    served.desk.refresh()

    async def script(client: httpx.AsyncClient) -> None:
        for key, status in ((7, 409), (99, 404)):
            refused = await client.post("/api/markdown", json={"question": key})
            assert (refused.status_code, bool(refused.json()["message"])) == (status, True)
        (shown,) = [
            one
            for one in (await client.post("/api/next", json={"count": 7})).json()
            if one["id"] == 7
        ]
        found = (await client.post("/api/markdown", json={"question": 7})).json()
        by_text = {shown[side]: found[side] for side in ("left", "right")}
        strong = {"name": "strong", "children": ["a"]}
        assert by_text[texts[0]] == [
            {"name": "p", "children": ["", strong, " ", "b", " <i>e</i>"]},
        ]
        assert by_text[texts[1]] == [{"name": "p", "children": [texts[1]]}], "too long to be read"
        assert len(found["prompt"]) == len(shown["prompt"]) == 1

    play(served, script)


def test_malformed_requests_write_nothing(served: Served) -> None:
    """Made from the OpenAPI description, most of them against it: no 500, no row without a word.

    Some are an answer to a question that another of them has leased: those are kept.
    """
    description = asyncio.run(_description(served))
    del description["paths"]["/api/events"]  # a stream without end
    schema = schemathesis.openapi.from_dict(description)
    statuses: Counter[int] = Counter()

    async def send(calls: list[Any]) -> None:
        async with served.client() as client:
            for call in calls:
                call["headers"] = dict(client.headers) | {
                    name: value
                    for name, value in (call.get("headers") or {}).items()
                    if name.lower() in ("content-type", "x-rllib-sea")
                }
                response = await client.request(**call)
                assert response.status_code < 500, (call, response.text)
                path, method = response.request.url.path, response.request.method.lower()
                told = description["paths"][path][method]["responses"]
                assert str(response.status_code) in told, (call, response.text)
                statuses[response.status_code] += 1
                statuses[KEPT] += '"status":"kept"' in response.text

    for operation in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            asyncio.run(send(_drawn(operation.ok().as_strategy(generation_mode=mode), 30)))
    kept = statuses.pop(KEPT)
    assert statuses.total() > 200
    assert {200, 404, 409, 422} <= set(statuses), statuses
    verdicts, labels, _, withdrawals, lessons = written(served.log)
    assert (verdicts, labels, withdrawals, lessons) == (kept, kept, 0, 0)
    assert kept <= 6


async def _description(served: Served) -> dict[str, Any]:
    async with served.client() as client:
        return json.loads((await client.get("/openapi.json")).text)


def _drawn(strategy: Any, number: int) -> list[dict[str, Any]]:
    """Requests that a strategy of schemathesis makes, as httpx takes them."""
    found: list[dict[str, Any]] = []

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(case: Any) -> None:
        made = case.as_transport_kwargs(base_url="http://127.0.0.1:8421")
        found.append(made)

    with suppress(Unsatisfiable):  # nothing can be wrong with it
        draw()
    return found
