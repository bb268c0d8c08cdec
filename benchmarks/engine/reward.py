"""The trivial reward of the fixed-length steps: every second completion passes, so each row gets a gradient."""

from __future__ import annotations

from typing import Any


def alternate(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float(i % 2) for i in range(len(completions))]
