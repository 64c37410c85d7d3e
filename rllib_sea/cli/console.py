"""Where commands print: text as it is, on any terminal, whether or not anybody still reads."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console


class TextConsole(Console):
    """A console that prints what it is given: brackets and colons in names are no markup.

    A reader that goes away, such as ``| head``, ends no run: labels may have been paid for.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def say(self, text: str = "") -> None:
        """Prints a line as it is: paths stay whole, they are there to be copied."""
        self.print(text, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_what_can_be_printed() -> None:
    """Has characters that the terminal's encoding lacks be written by their numbers."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
