"""A program with stdin and stdout of its own. Few imports: it is started once for each input."""

from __future__ import annotations

import sys
from types import ModuleType

UNREADABLE = 97
"""Exit code of a text that is no Python."""


def run_script(source: str) -> None:
    """Runs a program as `python program.py` would."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    try:
        code = compile(source, "program.py", "exec")
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(UNREADABLE)
    exec(code, module.__dict__)
