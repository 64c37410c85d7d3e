"""How times are said."""

from __future__ import annotations


def duration_text(seconds: float) -> str:
    """``"12 s"``, ``"9 min 12 s"`` or ``"3 h 9 min"``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min {seconds % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"
