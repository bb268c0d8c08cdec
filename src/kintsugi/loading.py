"""Loads what a recipe names by file: `my_task.py:MyTask`, `rewards.py:score`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from kintsugi.records import KintsugiError


def is_file_spec(name: str) -> bool:
    """Whether a spec names an object in a file rather than something built in."""
    return ".py:" in name


def load_object(name: str, what: str) -> Any:
    """The object that `path/to/file.py:Name` names; KintsugiError says which part is wrong."""
    path_text, _, attribute = name.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise KintsugiError(f"{what} {name!r}: no such file {path_text!r}")
    spec = importlib.util.spec_from_file_location(f"kintsugi_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise KintsugiError(f"{what} {name!r}: {path_text!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise KintsugiError(
            f"{what} {name!r}: importing it raised {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        raise KintsugiError(f"{what} {name!r}: {path_text!r} defines no {attribute!r}")
    return getattr(module, attribute)
