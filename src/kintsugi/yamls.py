"""YAML as a recipe and its overrides have it: a key stands once, and `3e-5` is a number."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from kintsugi.files import sought_in
from kintsugi.records import KintsugiError

MERGE = "tag:yaml.org,2002:merge"


class Twice(yaml.constructor.ConstructorError):
    """A key stands twice in a mapping."""


class Loader(yaml.SafeLoader):
    """YAML as it is, but a key that stands twice in a mapping is an error: YAML would take the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise Twice(
                    "while reading a mapping",
                    node.start_mark,
                    f"the key {key!r} stands twice",
                    key_node.start_mark,
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """The value of a YAML text; yaml.YAMLError where it says nothing that can be read."""
    loader = Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; KintsugiError when there is none."""
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KintsugiError(f"{path}: no such recipe file{sought_in(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KintsugiError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise KintsugiError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise KintsugiError(f"{path}: expected a mapping of recipe keys, found {type(data).__name__}")
    return data


def parse_value(text: str) -> Any:
    """YAML's reading of an override's value; `3e-5`, which YAML calls a string, is a number here."""
    try:
        value = load_yaml(text)
    except Twice as error:
        raise KintsugiError(f"override value {text!r}: {error.problem}") from None
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        return number if math.isfinite(number) else value  # nan and inf are names here
    return value
