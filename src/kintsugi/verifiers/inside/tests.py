"""The tests' side: it alone knows what is expected, and says what came of it."""

from __future__ import annotations

import builtins
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .program import BINARY, ORDER
from .wire import Gone, Peer, ProgramError, base_of, exception, names_of

PREDICATES = {
    name for kind in (str, set, float) for name in dir(kind) if name.startswith("is") or name.endswith("with")
}
"""Methods that are told what is expected and say whether it holds: no object of the program may answer them."""


class Proxy:
    """Something that stayed in the program. Calls, attributes, items, iteration, str, len and bool ask it.

    It equals no plain value, contains none but by iteration, and has no order or arithmetic with one: what a
    test expects is not sent to where the program would be the judge of it. With another of the program's
    objects, it is as the program has it.
    """

    def __init__(self, tests: Tests, number: int) -> None:
        object.__setattr__(self, "_kintsugi", (tests, number))

    def __call__(self, *values: Any, **named: Any) -> Any:
        return ask(self, "call", *values, **named)

    def __getattr__(self, name: str) -> Any:
        # What copy, pickle and others look for under such names must be the proxy's own.
        if name[:2] == name[-2:] == "__" and name not in ("__name__", "__qualname__"):
            raise AttributeError(name)
        if name in PREDICATES:
            raise AttributeError(f"an object of the program has no {name} that could be trusted")
        return ask(self, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        ask(self, "setattr", name, value)

    def __delattr__(self, name: str) -> None:
        ask(self, "delattr", name)

    def __getitem__(self, key: Any) -> Any:
        return ask(self, "getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        ask(self, "setitem", key, value)

    def __delitem__(self, key: Any) -> None:
        ask(self, "delitem", key)

    def __iter__(self) -> Any:
        return ask(self, "iter")

    def __next__(self) -> Any:
        return ask(self, "next")

    def __len__(self) -> int:
        return int(ask(self, "len"))

    def __str__(self) -> str:
        return str(ask(self, "str"))

    def __repr__(self) -> str:
        return str(ask(self, "repr"))

    def __bool__(self) -> bool:
        return bool(ask(self, "bool"))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Proxy) and ask(self, "eq", other) is True)

    def __hash__(self) -> int:
        return hash(number_of(self))

    def __enter__(self) -> Any:
        return ask(self, "enter")

    def __exit__(self, *raised: object) -> None:
        ask(self, "leave")

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, Proxy) and ask(value, "isinstance", self) is True


def number_of(proxy: Proxy) -> int:
    return int(object.__getattribute__(proxy, "_kintsugi")[1])


def ask(proxy: Proxy, request: str, *values: Any, **named: Any) -> Any:
    return object.__getattribute__(proxy, "_kintsugi")[0].ask(request, proxy, *values, **named)


def between_objects(name: str) -> Callable[[Proxy, Any], Any]:
    def method(self: Proxy, other: Any) -> Any:
        return ask(self, name, other) if isinstance(other, Proxy) else NotImplemented

    return method


for operation in (*BINARY, *ORDER):
    setattr(Proxy, f"__{operation}__", between_objects(operation))


class Tests(Peer):
    """Asks the program. `used` says whether any test did, `gone` whether the program ended before them."""

    used = gone = False

    def __init__(self, receive: int, send: int) -> None:
        super().__init__(receive, send)
        self.lock = threading.RLock()
        self.proxies: dict[int, Proxy] = {}
        self.functions: list[Callable[..., Any]] = []

    def ask(self, request: str, *values: Any, **named: Any) -> Any:
        """The program's answer, or the exception it raised. What a call changed is changed in `values`."""
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
            error = exception(reply[1], self.decode(reply[2]))
            if isinstance(error, StopIteration) and request != "next":
                # It would end a loop over map(function, ...) as if that had seen all of its arguments.
                raise ProgramError("StopIteration")
            raise error
        if reply[2] is not None:
            merged([list(values), named], self.decode(reply[2]))
        return self.decode(reply[1])

    def answer(self, number: int, values: Any, named: Any) -> None:
        """Calls a function of the tests that was an argument to the program."""
        try:
            result = self.functions[number](*self.decode(values), **self.decode(named))
            reply = ["returned", self.encode(result)]
        except Exception as error:
            reply = ["raised", names_of(error), [str(error)]]
        self.send(reply)

    def handle(self, value: Any) -> Any:
        if type(value) is Proxy:
            return {"object": number_of(value)}
        if not callable(value):
            raise TypeError(f"a {type(value).__name__} of the tests cannot be handed to the program")
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
        if module in sys.stdlib_module_names and name and "<" not in name:
            return {"type": name} if getattr(builtins, name, None) is value else {"global": [module, name]}
        if value not in self.functions:
            self.functions.append(value)
        return {"function": self.functions.index(value)}

    def resolve(self, tag: str, inner: Any) -> Any:
        if tag == "type" and isinstance(found := getattr(builtins, inner, None), type):
            return found
        if tag == "function":
            return self.functions[inner]
        if tag == "object" and type(inner) is int:
            return self.proxies.setdefault(inner, Proxy(self, inner))
        raise ValueError(f"the program sent a value of no known kind: {tag}")


def merged(old: Any, new: Any) -> Any:
    """`new`; where `old` is a list, dict, set or the like, that object itself with the content of `new`."""
    if base_of(type(old)) is not type(new):
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
