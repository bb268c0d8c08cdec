"""A program with stdin and stdout of its own. Few imports: it is started once for each input."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType

UNREADABLE = 97
"""Exit code of a text that is no Python."""


def run_script(source: str, path: str) -> None:
    """Runs a program as `python program.py` would."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__dict__.update(__file__=path, __builtins__=builtins)
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(UNREADABLE)
    exec(code, module.__dict__)
