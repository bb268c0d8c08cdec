"""The program's side. Nothing here is trusted: a program that meddles with it changes its own answers."""

from __future__ import annotations

import copy
import importlib
import operator
import sys
import types
from collections import namedtuple
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from .wire import MUTABLE, Gone, Peer, base_of, exception, plain

BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
ORDER = ("lt", "le", "gt", "ge")
UNARY: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "copy": copy.copy,
    "deepcopy": lambda value, memo: copy.deepcopy(value),
    "float": float,
    "hash": hash,
    "int": int,
    "invert": operator.invert,
    "neg": operator.neg,
    "pos": operator.pos,
    "round": round,
}
REQUESTS: dict[str, Callable[..., Any]] = {
    "call": lambda function, *values, **named: function(*values, **named),
    "getattr": getattr,
    "setattr": setattr,
    "delattr": delattr,
    "isinstance": isinstance,
    "issubclass": issubclass,
    "type": type,
    "iter": iter,
    "next": next,
    "len": len,
    "str": str,
    "repr": repr,
    "bool": bool,
    "plain": plain,
    "enter": lambda manager: manager.__enter__(),
    "leave": lambda manager: manager.__exit__(None, None, None),
    **UNARY,
    **{name: getattr(operator, name) for name in ("getitem", "setitem", "delitem", "eq", *ORDER)},
    **{name: getattr(operator, f"__{name}__") for name in BINARY},
}


class Program(Peer):
    """Loads a program and does what it is asked, until the line is closed."""

    def __init__(self, source: str, receive: int, send: int, path: str = "program.py") -> None:
        super().__init__(receive, send)
        self.source, self.path = source, path
        self.module = types.ModuleType("program")
        self.module.__file__ = path
        sys.modules["program"] = self.module  # where dataclasses and typing look for it
        self.code: Any = None
        self.objects: list[Any] = []
        self.handles: dict[int, Any] = {}
        self.requests: dict[str, Callable[..., Any]] = {
            **REQUESTS,
            "compile": self.compile,
            "load": self.load,
            "name": lambda name: self.module.__dict__[name],
        }

    def compile(self) -> None:
        self.code = compile(self.source, self.path, "exec", dont_inherit=True)

    def load(self) -> None:
        """Runs the program, once. One that ends itself, as by `exit()`, has defined what it has."""
        try:
            exec(self.code, self.module.__dict__)
        except SystemExit as error:
            if error.code:
                raise

    def serve(self) -> NoReturn:
        self.send("ready")
        while True:
            self.answer(*self.receive())

    def answer(self, request: str, values: Any, named: Any) -> None:
        """Does what is asked and sends ["value", result, arguments where the call changed them] or ["raise", error]."""
        try:
            arguments = [self.decode(values), self.decode(named)]
            result = self.requests[request](*arguments[0], **arguments[1])
            after = self.encode(arguments) if request == "call" else None
            reply = ["value", self.encode(result), None if after == [values, named] else after]
        except Gone:
            raise
        except BaseException as error:
            reply = ["raise", self.handle(error)]
        self.send(reply)

    def handle(self, value: Any) -> Any:
        if isinstance(value, type) and value.__module__ == "builtins":
            return {"type": value.__name__}
        known = self.handles.get(id(value))
        if known is None or "raised" in known:  # an exception may have changed since it was sent
            number = known["raised"][0] if known else len(self.objects)
            self.keep(value, {"object": number})  # what stands for it within itself
            known = self.handles[id(value)] = self.described(value, number)
        return known

    def described(self, value: Any, number: int) -> Any:
        """The handle of one of the program's objects, with what the tests' side must know of it."""
        kind = type(value)
        if isinstance(value, BaseException):
            return {"raised": [number, self.handle(kind), *self.told(value)]}
        if isinstance(value, type) and issubclass(value, BaseException):
            bases = [self.handle(base) for base in value.__bases__ if issubclass(base, BaseException)]
            return {"class": [number, str(value.__module__), str(value.__qualname__), bases]}
        base = base_of(kind)
        if base is None:
            return {"object": number}
        return {"plain": [number, base.__name__, None if base in MUTABLE else self.encode(plain(value))]}

    def told(self, error: BaseException) -> list[Any]:
        """An exception's arguments, attributes, text and cause."""
        arguments: Any = []
        attributes: Any = {"dict": []}
        text = ""
        with suppress(Exception):
            text = str(error)
            arguments = [text]
            arguments = self.encode(list(error.args))
            attributes = self.encode({k: v for k, v in vars(error).items() if v is not error})
        return [arguments, attributes, text, self.encode(error.__cause__)]

    def keep(self, value: Any, handle: Any) -> None:
        self.handles[id(value)] = handle
        self.objects.append(value)  # which also keeps its id from being given to another

    def resolve(self, tag: str, inner: Any) -> Any:
        if tag == "object":
            return self.objects[inner]
        if tag == "fields":
            return namedtuple(inner[0], inner[1])(*self.decode(inner[2]))
        if tag in ("global", "type"):
            found: Any = importlib.import_module(inner[0] if tag == "global" else "builtins")
            for part in (inner[1] if tag == "global" else inner).split("."):
                found = getattr(found, part)
        elif tag == "error":
            found = exception(inner[1], [inner[2]])
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
                    raise self.decode(message[1])
                self.answer(*message)

        return call
