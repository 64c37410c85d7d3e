"""Somebody who labels by the JSON interface, as another tool's bridge would."""

from __future__ import annotations

import time
from typing import Any

import httpx


class HttpRater:
    """Prefers the shorter text; ties if they are of one length.

    Args:
        link: A secret link.
    """

    def __init__(self, link: str) -> None:
        base, _, token = link.partition("/#")
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=base, headers=headers, timeout=30.0)
        self.answered: list[int] = []

    def post(self, path: str, **body: Any) -> httpx.Response:
        """Sends a request, and again while nobody serves."""
        for _ in range(600):
            try:
                return self._client.post(f"/api/{path}", json=body)
            except httpx.TransportError:
                time.sleep(0.1)
        raise TimeoutError(f"nobody serves {self._client.base_url}")

    def progress(self) -> dict[str, Any]:
        """How the rater and the run stand."""
        return self._client.get("/api/progress").json()

    def label(self, number: int) -> None:
        """Answers so many questions, each when it comes."""
        while number:
            for shown in self.post("next", count=1).json()[:number]:
                left, right = len(shown["left"]), len(shown["right"])
                choice = "left" if left < right else "right" if right < left else "tie"
                kept = self.post("answer", question=shown["id"], choice=choice, seconds=0.5)
                assert kept.json()["status"] == "kept", kept.text
                self.answered.append(shown["id"])
                number -= 1
            time.sleep(0.02)
