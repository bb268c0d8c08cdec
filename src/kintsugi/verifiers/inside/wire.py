"""The line between a program and its tests: values to JSON and back, one message a line."""

from __future__ import annotations

import builtins
import importlib
import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

LINE_LIMIT = 16 * 2**20
"""Bytes of one message."""
EXACT = 2**53
"""Integers up to here stay numbers in JSON; longer ones have no limit of digits in hexadecimal."""
CONTAINERS = (list, dict, tuple, set, frozenset, bytes, bytearray)
SCALARS = (int, float, complex, str)
MUTABLE = (list, dict, set, deque, bytearray)
SEQUENCES = {"tuple": tuple, "set": set, "frozenset": frozenset}
BINARY: dict[str, Any] = {"bytes": bytes, "bytearray": bytearray}
STANDARD: dict[str, Callable[[Any], Sequence[Any]]] = {
    "array.array": lambda v: (v.typecode, v.tolist()),
    "builtins.complex": lambda v: (v.real, v.imag),
    "builtins.range": lambda v: (v.start, v.stop, v.step),
    "builtins.slice": lambda v: (v.start, v.stop, v.step),
    "collections.Counter": lambda v: (dict(v),),
    "collections.OrderedDict": lambda v: (list(v.items()),),
    "collections.defaultdict": lambda v: (v.default_factory, dict(v)),
    "collections.deque": lambda v: (list(v), v.maxlen),
    "decimal.Decimal": lambda v: (str(v),),
    "fractions.Fraction": lambda v: (v.numerator, v.denominator),
    "datetime.date": lambda v: (v.year, v.month, v.day),
    "datetime.time": lambda v: (v.hour, v.minute, v.second, v.microsecond, v.tzinfo),
    "datetime.datetime": lambda v: (*v.timetuple()[:6], v.microsecond, v.tzinfo),
    "datetime.timedelta": lambda v: (v.days, v.seconds, v.microseconds),
    "datetime.timezone": lambda v: v.__getinitargs__(),
    "pathlib.PosixPath": lambda v: (str(v),),
    "pathlib.PurePosixPath": lambda v: (str(v),),
    "uuid.UUID": lambda v: (v.hex,),
}
"""Values of the standard library, and the arguments that make an equal one."""
VIEWS: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "dict_keys": dict.keys,
    "dict_values": dict.values,
    "dict_items": dict.items,
}


class Gone(BaseException):
    """The other side has ended. No Exception, so that no test's `except Exception` takes it for a result."""


class ProgramError(Exception):
    """An exception of the other side that has no class on this one."""


class Peer:
    """One end of the line. A value without a form in JSON goes as a handle, which the two sides make differently."""

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
        if kind is list:
            return [self.encode(item) for item in value]
        if kind is dict:
            return {"dict": [[self.encode(key), self.encode(item)] for key, item in value.items()]}
        if kind in (bytes, bytearray):
            return {kind.__name__: value.hex()}
        if kind in CONTAINERS:
            return {kind.__name__: [self.encode(item) for item in value]}
        name = f"{kind.__module__.removesuffix('._local')}.{kind.__qualname__}"
        if name in STANDARD:
            return {"made": [name, self.encode(list(STANDARD[name](value)))]}
        if kind.__name__ in VIEWS and kind.__module__ == "builtins":
            return {"view": [kind.__name__, self.encode(held(value))]}
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
        if tag == "made" and inner[0] in STANDARD:
            module, _, name = inner[0].rpartition(".")
            return getattr(importlib.import_module(module), name)(*self.decode(inner[1]))
        if tag == "view" and inner[0] in VIEWS:
            return VIEWS[inner[0]](self.decode(inner[1]))
        return self.resolve(tag, inner)

    def handle(self, value: Any) -> Any:
        """A handle for a value that stays here."""
        raise NotImplementedError

    def resolve(self, tag: str, inner: Any) -> Any:
        """The value that a handle stands for here."""
        raise NotImplementedError


def held(view: Any) -> dict[Any, Any]:
    """A dict that has such a view."""
    name = type(view).__name__
    if name == "dict_keys":
        return dict.fromkeys(view)
    return dict(view if name == "dict_items" else enumerate(view))


def base_of(kind: type) -> Any:
    """The plain type that a class derives from, or None."""
    bases = (*SCALARS, *CONTAINERS, deque)
    return next((base for base in kind.__mro__ if base in bases), None)


def plain(value: Any) -> Any:
    """The value of an object of a subclass of a plain type, as that plain type, whatever the subclass overrides."""
    base = base_of(type(value))
    if base is dict:
        return dict(dict.items(value))
    if base in (int, float, complex, str, bytes):
        return getattr(base, f"__{base.__name__}__")(value)
    return base(base.__iter__(value))


def names_of(error: BaseException) -> list[str]:
    """The error's class and those it derives from, by name."""
    return [kind.__name__ for kind in type(error).__mro__]


def exception(names: Sequence[str], arguments: Sequence[Any]) -> Exception:
    """An exception of the first of these names that Python itself defines, else a ProgramError."""
    for name in names:
        kind = getattr(builtins, str(name), None)
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
            with suppress(TypeError):
                return kind(*arguments)
    return ProgramError(": ".join([str(names[0]), *map(str, arguments)]))
