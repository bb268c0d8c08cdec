"""The tests' side: it alone knows what is expected, and says what came of it."""

from __future__ import annotations

import builtins
import sys
import threading
from collections import deque
from typing import Any

from .proxies import Proxy, known, mirrored, number_of, plain_proxy, raised
from .wire import CONTAINERS, MUTABLE, SCALARS, Gone, Peer, ProgramError, base_of, names_of, plain

ENDS = (StopIteration, StopAsyncIteration, GeneratorExit)
"""Exceptions that would end a loop of the tests, as if it had seen all of its values."""
REMEMBERED = 1000
"""Containers and exceptions that are known to be the program's."""
FINITE = {int, str, bool, type(None)}
PLAIN_TYPES = {kind.__name__: kind for kind in (*SCALARS, *CONTAINERS, deque)}


class Tests(Peer):
    """Asks the program. `used` says whether any test did, `gone` whether the program ended before them.

    distrust   Why the tests' word is not taken though they pass, or "".
    finite     The tests are about finite numbers: a nan or an infinity from the program is distrusted.
    """

    used = gone = finite = False
    distrust = ""

    def __init__(self, receive: int, send: int) -> None:
        super().__init__(receive, send)
        self.lock = threading.RLock()
        self.proxies: dict[int, Any] = {}
        self.own: list[Any] = []
        self.own_numbers: dict[int, int] = {}
        self.given: deque[Any] = deque(maxlen=REMEMBERED)

    def ask(self, request: str, *values: Any, **named: Any) -> Any:
        """The program's answer, or the exception it raised. Changes that a call made are made in `values`."""
        self.used |= request not in ("compile", "load", "name")
        with self.lock:
            try:
                self.send([request, self.encode(list(values)), self.encode(named)])
                while (reply := self.receive())[0] == "function":
                    self.answer(*reply[1:])
            except Gone:
                self.gone = True
                raise
        if reply[0] == "raise":
            error = self.decode(reply[1])
            if isinstance(error, ENDS) and request != "next":
                error = ProgramError(type(error).__name__)
            self.given.append(error)
            raise error
        if reply[2] is not None:
            after = self.decode(reply[2])
            self.look_at(after)
            merged([list(values), named], after)
        result = self.decode(reply[1])
        self.look_at(result)
        return result

    def gave(self, value: Any) -> bool:
        """Tells whether a container, iterator or exception is the program's."""
        return isinstance(value, Proxy) or any(value is given for given in self.given)

    def look_at(self, value: Any) -> None:
        """Remembers the containers that came from the program, and looks for numbers that are not finite."""
        value = known(value)
        kind = type(value)
        if kind in (float, complex) or kind.__name__ == "Decimal":
            if self.finite and not (value.is_finite() if kind.__name__ == "Decimal" else value - value == 0):
                self.distrust = f"the program gave {value}, and no test speaks of nan or infinity"
        elif issubclass(kind, dict | list | tuple | set | frozenset | deque):
            for item in value.values() if issubclass(kind, dict) else value:
                if type(item) not in FINITE:
                    self.look_at(item)
            self.given.append(value)

    def answer(self, number: int, values: Any, named: Any) -> None:
        """Calls a function of the tests that was an argument to the program."""
        try:
            result = self.own[number](*self.decode(values), **self.decode(named))
            reply = ["returned", self.encode(result)]
        except Exception as error:
            reply = ["raised", self.handle(error)]
        self.send(reply)

    def handle(self, value: Any) -> Any:
        if (number := number_of(value)) is not None:
            return {"object": number}
        kind = type(value)
        if hasattr(kind, "_fields") and isinstance(value, tuple):
            return {"fields": [kind.__name__, list(kind._fields), self.encode(list(value))]}
        if base_of(kind) is not None:
            return self.encode(plain(value))
        if isinstance(value, BaseException):
            return {"error": [self.number(value), names_of(value), str(value)]}
        if not callable(value):
            raise TypeError(f"a {kind.__name__} of the tests cannot be handed to the program")
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
        if module in sys.stdlib_module_names and name and "<" not in name:
            return {"type": name} if getattr(builtins, name, None) is value else {"global": [module, name]}
        return {"function": self.number(value)}

    def number(self, value: Any) -> int:
        """The number of a function or exception of the tests, by which the program may hand it back."""
        found = self.own_numbers.setdefault(id(value), len(self.own))
        if found == len(self.own):
            self.own.append(value)
        return found

    def resolve(self, tag: str, inner: Any) -> Any:
        if tag == "type" and isinstance(found := getattr(builtins, inner, None), type):
            return found
        if tag == "function":
            return self.own[inner]
        if tag == "error":
            return self.own[inner[0]]
        if tag == "raised":
            return self.exception(*inner)
        number = inner if tag == "object" else inner[0]
        if type(number) is int and tag in ("object", "plain", "class"):
            if number not in self.proxies:
                self.proxies[number] = self.proxy(tag, number, inner)
            return self.proxies[number]
        raise ValueError(f"the program sent a value of no known kind: {tag}")

    def proxy(self, tag: str, number: int, inner: Any) -> Any:
        if tag == "object":
            return Proxy(self, number)
        if tag == "plain":
            base = PLAIN_TYPES[inner[1]]
            value = None if base in MUTABLE else plain(self.decode(inner[2]))
            return plain_proxy(self, number, base, value)
        bases = [self.decode(base) for base in inner[3]]
        return mirrored(self, number, inner[1], inner[2], [exception_class(base) for base in bases])

    def exception(self, number: int, kind: Any, values: Any, attributes: Any, said: str, cause: Any) -> Any:
        """The same exception each time, as long as its class is the same."""
        kind = exception_class(self.decode(kind))
        parts = [self.decode(part) for part in (values, attributes, said, cause)]
        found = raised(self, number, kind, *parts)
        before: Any = self.proxies.get(number)
        if type(before) is type(found):
            before.args, before.__cause__ = found.args, found.__cause__
            vars(before).update(vars(found))
            return before
        self.proxies[number] = found
        return found


def exception_class(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return kind
    raise ValueError("the program sent an exception of no class of exceptions")


def merged(old: Any, new: Any) -> Any:
    """`new`; where `old` is a list, dict, set or the like, that object itself with the content of `new`."""
    if isinstance(old, Proxy) or isinstance(new, Proxy) or base_of(type(old)) is not base_of(type(new)):
        return new
    if isinstance(old, dict):
        items = {key: merged(old.get(key), value) for key, value in new.items()}
        old.clear()
        old.update(items)
    elif isinstance(old, list | tuple):
        values = [merged(before, after) for before, after in zip(old, new, strict=False)]
        if isinstance(old, list):
            old[:] = [*values, *new[len(old) :]]
    elif isinstance(old, set | deque | bytearray):
        old.clear()
        (old.update if isinstance(old, set) else old.extend)(new)
    else:
        return new
    return old
