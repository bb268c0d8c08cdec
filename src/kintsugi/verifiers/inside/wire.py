"""The line between a program and its tests: values to JSON and back, one message a line."""

from __future__ import annotations

import builtins
import importlib
import json
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

LINE_LIMIT = 16 * 2**20
"""Bytes of one message."""
EXACT = 2**53
"""Integers up to here stay numbers in JSON; longer ones have no limit of digits in hexadecimal."""
BASES = (list, dict, tuple, set, frozenset, deque, bytes, bytearray)
SEQUENCES = {"tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}
BINARY: dict[str, Any] = {"bytes": bytes, "bytearray": bytearray}
WRITTEN = {
    "builtins.complex",
    "decimal.Decimal",
    "fractions.Fraction",
    "datetime.date",
    "datetime.datetime",
    "datetime.time",
}
"""Types whose values go as text."""


class Gone(BaseException):
    """The other side has ended. No Exception, so that no test's `except Exception` takes it for a result."""


class ProgramError(Exception):
    """What the other side raised, where that is no exception that Python itself defines."""


class Peer:
    """One end of the line. What has no form in JSON goes as a handle, which the two sides make differently."""

    def __init__(self, receive: int, send: int) -> None:
        self.incoming, self.outgoing = os.fdopen(receive, "rb"), os.fdopen(send, "wb")

    def send(self, message: Any) -> None:
        data = json.dumps(message).encode()
        if len(data) >= LINE_LIMIT:
            raise ValueError(f"a value of {len(data)} bytes is too long to be handed over")
        try:
            self.outgoing.write(data + b"\n")
            self.outgoing.flush()
        except OSError:
            raise Gone from None

    def receive(self) -> Any:
        line = self.incoming.readline(LINE_LIMIT)
        if not line.endswith(b"\n"):
            raise Gone
        return json.loads(line)

    def encode(self, value: Any) -> Any:
        """`value` for JSON: built-in types as they are or tagged, anything else as a handle."""
        kind = type(value)
        if value is None or kind in (bool, float, str):
            return value
        if kind is int:
            return value if abs(value) < EXACT else {"int": hex(value)}
        base = base_of(kind)
        if base is list:
            return [self.encode(item) for item in value]
        if base is dict:
            return {"dict": [[self.encode(key), self.encode(item)] for key, item in dict.items(value)]}
        if base in (bytes, bytearray):
            return {base.__name__: value.hex()}
        if base is not None:
            return {base.__name__: [self.encode(item) for item in value]}
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in WRITTEN:
            return {"written": [name, value.isoformat() if name.startswith("datetime") else str(value)]}
        return self.handle(value)

    def decode(self, data: Any) -> Any:
        """The value that `data` was made of: equal to it, or a handle's other end."""
        if isinstance(data, list):
            return [self.decode(item) for item in data]
        if not isinstance(data, dict):
            return data
        ((tag, inner),) = data.items()
        if tag == "int":
            return int(inner, 16)
        if tag == "dict":
            return {self.decode(key): self.decode(item) for key, item in inner}
        if tag in SEQUENCES:
            return SEQUENCES[tag](self.decode(item) for item in inner)
        if tag in BINARY:
            return BINARY[tag].fromhex(inner)
        if tag == "written" and inner[0] in WRITTEN:
            module, _, name = inner[0].rpartition(".")
            kind = getattr(importlib.import_module(module), name)
            return (kind.fromisoformat if module == "datetime" else kind)(inner[1])
        return self.resolve(tag, inner)

    def handle(self, value: Any) -> Any:
        """A handle for a value that stays here."""
        raise NotImplementedError

    def resolve(self, tag: str, inner: Any) -> Any:
        """What a handle stands for here."""
        raise NotImplementedError


def base_of(kind: type) -> Any:
    """The built-in type that values of `kind` are sent as, None if they stay where they are.

    Counters and their like go as dicts, named tuples as tuples. A subclass that the program defines stays:
    it may have methods that are tested.
    """
    if kind in BASES:
        return kind
    if kind.__module__ == "collections" or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
        return next((base for base in BASES if issubclass(kind, base)), None)
    return None


def names_of(error: BaseException) -> list[str]:
    """The error's class and those it derives from, by name: how an exception is told to the other side."""
    return [kind.__name__ for kind in type(error).__mro__]


def exception(names: Sequence[str], arguments: Sequence[Any]) -> Exception:
    """An exception of the first of these names that Python itself defines, else a ProgramError."""
    for name in names:
        kind = getattr(builtins, str(name), None)
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
            with suppress(TypeError):
                return kind(*arguments)
    return ProgramError(": ".join([str(names[0]), *map(str, arguments)]))
