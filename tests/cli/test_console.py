"""Where commands print: any text, on any terminal, to readers that go away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rllib_sea.preference_log.log import LOG_FILE
from tests.helpers.preference_log_cases import fill

CLI = Path(__file__).parents[2] / "rllib_sea" / "cli"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        timeout=120,
    )


def test_commands_print_in_one_way() -> None:
    """Rich takes brackets for markup wherever somebody makes a console of its own."""
    made = [p.name for p in CLI.glob("*.py") if re.search(r"(?<!Text)Console\(", p.read_text())]
    assert made == []


def test_what_the_terminal_lacks_is_written_by_its_number(tmp_path: Path) -> None:
    fill(tmp_path / LOG_FILE)
    code = (
        "import sys; from rllib_sea.cli.rllib_sea import main; "
        f"sys.argv = ['rllib-sea', 'preferences', 'head', {str(tmp_path / LOG_FILE)!r}]; main()"
    )
    done = run(code, PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"prompt post-0: Summarise post 0 \\u2603 of 0/0" in done.stdout


def test_a_reader_that_goes_away_ends_no_run() -> None:
    code = (
        "import os, sys; from rllib_sea.cli.console import TextConsole\n"
        "read, write = os.pipe(); os.dup2(write, 1); os.close(read); os.close(write)\n"
        "console = TextConsole()\n"
        "for _ in range(3): console.say('x' * 100_000)\n"
        "print('the run goes on', file=sys.stderr)"
    )
    done = run(code)
    assert (done.returncode, done.stderr) == (0, b"the run goes on\n")
