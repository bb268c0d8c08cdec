"""The program's side. Nothing here is trusted: a program that meddles with it changes its own answers."""

from __future__ import annotations

import builtins
import importlib
import operator
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

from .wire import Gone, Peer, exception, names_of

BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
ORDER = ("lt", "le", "gt", "ge")
REQUESTS: dict[str, Callable[..., Any]] = {
    "call": lambda function, *values, **named: function(*values, **named),
    "getattr": getattr,
    "setattr": setattr,
    "delattr": delattr,
    "isinstance": isinstance,
    "iter": iter,
    "next": next,
    "len": len,
    "str": str,
    "repr": repr,
    "bool": bool,
    "enter": lambda manager: manager.__enter__(),
    "leave": lambda manager: manager.__exit__(None, None, None),
    **{name: getattr(operator, name) for name in ("getitem", "setitem", "delitem", "eq", *ORDER)},
    **{name: getattr(operator, f"__{name}__") for name in BINARY},
}


class Program(Peer):
    """Loads a program and does what it is asked, until the line is closed."""

    def __init__(self, source: str, receive: int, send: int) -> None:
        super().__init__(receive, send)
        module = types.ModuleType("program")
        sys.modules["program"] = module  # where dataclasses and typing look for it
        self.code: Any = None
        self.objects: list[Any] = []
        self.handles: dict[int, Any] = {}
        self.requests: dict[str, Callable[..., Any]] = {
            **REQUESTS,
            "compile": lambda: setattr(self, "code", compile(source, "program.py", "exec")),
            "load": lambda: exec(self.code, module.__dict__),
            "name": lambda name: module.__dict__[name],
        }

    def serve(self) -> NoReturn:
        self.send("ready")
        while True:
            self.answer(*self.receive())

    def answer(self, request: str, values: Any, named: Any) -> None:
        """Does what is asked and sends ["value", result, arguments where the call changed them] or ["raise", ...]."""
        try:
            arguments = [self.decode(values), self.decode(named)]
            result = self.requests[request](*arguments[0], **arguments[1])
            after = self.encode(arguments) if request == "call" else None
            reply = ["value", self.encode(result), None if after == [values, named] else after]
        except Gone:
            raise
        except BaseException as error:
            reply = ["raise", names_of(error), self.encode_arguments(error)]
        self.send(reply)

    def encode_arguments(self, error: BaseException) -> Any:
        try:
            return self.encode(list(error.args))
        except Exception:
            return [str(error)]

    def handle(self, value: Any) -> Any:
        if isinstance(value, type) and value.__module__ == "builtins":
            return {"type": value.__name__}
        if id(value) not in self.handles:
            self.keep(value, {"object": len(self.objects)})
        return self.handles[id(value)]

    def keep(self, value: Any, handle: Any) -> None:
        self.handles[id(value)] = handle
        self.objects.append(value)  # which also keeps its id from being given to another

    def resolve(self, tag: str, inner: Any) -> Any:
        if tag == "object":
            return self.objects[inner]
        if tag == "global":
            found: Any = importlib.import_module(inner[0])
            for part in inner[1].split("."):
                found = getattr(found, part)
        elif tag == "type":
            return getattr(builtins, inner)
        else:
            found = self.function(inner)
        self.keep(found, {tag: inner})
        return found

    def function(self, number: int) -> Callable[..., Any]:
        """A function of the tests: calling it asks them, who may ask the program again before they answer."""

        def call(*values: Any, **named: Any) -> Any:
            self.send(["function", number, self.encode(list(values)), self.encode(named)])
            while True:
                message = self.receive()
                if message[0] == "returned":
                    return self.decode(message[1])
                if message[0] == "raised":
                    raise exception(message[1], message[2])
                self.answer(*message)

        return call
