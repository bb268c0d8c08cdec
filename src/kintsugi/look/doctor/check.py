"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class CheckUp:
    """One thing looked at: `seen` with its numbers, `fix` where it is not well, `detail` for those who want to see."""

    name: str
    state: State
    seen: str
    fix: str = ""
    detail: str = ""


def graded(share: float, warn: float, fail: float) -> State:
    """The state of a share of which little is good."""
    return "fail" if share > fail else "warn" if share > warn else "ok"
