"""Stand-ins, among the tests, for objects and exceptions that stayed in the program."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from .program import BINARY, ORDER, UNARY
from .wire import MUTABLE

if TYPE_CHECKING:
    from .tests import Tests

PREDICATES = {
    name for kind in (str, set, float) for name in dir(kind) if name.startswith("is") or name.endswith("with")
}
"""Methods that are told what is expected and say whether it holds: no object of the program may answer them."""
TOLD = {"__name__", "__qualname__", "__doc__", "__dict__", "__annotations__", "__members__"}
"""Special attributes that are the program's. What copy, pickle and others look for must be the proxy's own."""
FREE = ("add", "mul", "pow", "matmul")
"""Arithmetic with a plain value that says nothing of how near an object is to it, as a difference or a ratio would."""
STRANGER = "nothing that a program knows"


class Proxy:
    """Something that stayed in the program. Calls, attributes, items, iteration, str, len and bool ask it.

    It equals no plain value, contains none but by iteration, and has no order, difference or ratio with one: what
    a test expects is not sent to where the program would be the judge of it. With another of the program's
    objects, it is as the program has it.
    """

    def __init__(self, tests: Tests, number: int, content: Any = None) -> None:
        object.__setattr__(self, "_kintsugi", (tests, number, content))

    def __call__(self, *values: Any, **named: Any) -> Any:
        return ask(self, "call", *values, **named)

    def __getattribute__(self, name: str) -> Any:
        if special(name) and name not in TOLD:
            return object.__getattribute__(self, name)
        if name in PREDICATES:
            return getattr(content(self), name)
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
        return self is other or (isinstance(other, Proxy) and equal(self, other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __enter__(self) -> Any:
        return ask(self, "enter")

    def __exit__(self, *raised: object) -> None:
        ask(self, "leave")

    def __instancecheck__(self, value: object) -> bool:
        return number_of(value) is not None and ask(self, "isinstance", value, first=False) is True

    def __subclasscheck__(self, value: object) -> bool:
        return number_of(value) is not None and ask(self, "issubclass", value, first=False) is True


def special(name: str) -> bool:
    return name[:2] == name[-2:] == "__" or name == "_kintsugi"


def number_of(value: Any) -> int | None:
    """The number of the program's object that `value` stands for, None for what is the tests' own."""
    if isinstance(value, Proxy):
        return int(object.__getattribute__(value, "_kintsugi")[1])
    if isinstance(value, BaseException | Mirror):
        link = vars(value).get("_kintsugi")
        return None if link is None else int(link[1])
    return None


def ask(proxy: Any, request: str, *values: Any, first: bool = True, **named: Any) -> Any:
    """The program's answer about its object. The object comes first among the values, or last."""
    tests = object.__getattribute__(proxy, "_kintsugi")[0]
    return tests.ask(request, *((proxy, *values) if first else (*values, proxy)), **named)


def equal(one: Proxy, other: Proxy) -> bool:
    """Equality of two of the program's objects, as the program has it, but for what equals anything."""
    if ask(one, "eq", other) is not True:
        return False
    try:
        return ask(one, "eq", STRANGER) is not True
    except Exception:  # a comparison that looks for attributes, which a stranger lacks
        return True


def type_of(value: Any) -> Any:
    """`type(value)`, which for one of the program's objects is one of its classes."""
    return ask(value, "type") if isinstance(value, Proxy) else type(value)


def between_objects(name: str) -> Callable[[Proxy, Any], Any]:
    def method(self: Proxy, other: Any) -> Any:
        return ask(self, name, other) if isinstance(other, Proxy) or name in FREE else NotImplemented

    return method


def from_the_right(name: str) -> Callable[[Proxy, Any], Any]:
    return lambda self, other: ask(self, name, other, first=False)


def alone(name: str) -> Callable[..., Any]:
    return lambda self, *values: ask(self, name, *values)


for operation in (*BINARY, *ORDER):
    setattr(Proxy, f"__{operation}__", between_objects(operation))
for operation in FREE:
    setattr(Proxy, f"__r{operation}__", from_the_right(operation))
for operation in UNARY:
    setattr(Proxy, f"__{operation}__", alone(operation))


class Plain(Proxy):
    """An object of a subclass of a plain type. With plain values it is compared and computed here, by what it holds."""

    def __eq__(self, other: object) -> bool:
        return Proxy.__eq__(self, other) if isinstance(other, Proxy) else content(self) == other

    def __hash__(self) -> int:
        return hash(content(self))


def content(proxy: Proxy) -> Any:
    """The plain value that an object of the program holds; asked for where it may have changed."""
    if not isinstance(proxy, Plain):
        raise AttributeError("an object of the program has no such method that could be trusted")
    found = object.__getattribute__(proxy, "_kintsugi")[2]
    return ask(proxy, "plain") if found is None else found


def known(value: Any) -> Any:
    """The content of `value`, where that is known here, else `value` itself; None for the program's other objects."""
    return object.__getattribute__(value, "_kintsugi")[2] if isinstance(value, Proxy) else value


def with_plain(name: str) -> Callable[[Proxy, Any], Any]:
    compute = getattr(operator, f"__{name}__")

    def method(self: Proxy, other: Any) -> Any:
        return ask(self, name, other) if isinstance(other, Proxy) else compute(content(self), other)

    return method


def reflected(name: str) -> Callable[[Proxy, Any], Any]:
    compute = getattr(operator, f"__{name}__")
    return lambda self, other: compute(other, content(self))


for operation in (*BINARY, *ORDER):
    setattr(Plain, f"__{operation}__", with_plain(operation))
for operation in BINARY:
    setattr(Plain, f"__r{operation}__", reflected(operation))


@cache
def plain_class(base: Any) -> type:
    """The class of proxies of objects that derive from `base`, which are instances of it for isinstance.

    An immutable one is an instance in fact, so that all of Python takes it for one.
    """
    if base in MUTABLE:
        return type(
            base.__name__, (Plain,), {"__class__": property(lambda self: base), "__hash__": Proxy.__hash__}
        )
    return type(base.__name__, (Plain, base), {})


def plain_proxy(tests: Tests, number: int, base: Any, value: Any) -> Any:
    kind: Any = plain_class(base)
    proxy = kind.__new__(kind) if base in MUTABLE else base.__new__(kind, value)
    Proxy.__init__(proxy, tests, number, None if base in MUTABLE else value)
    return proxy


class Mirror(type):
    """The class of the exceptions' classes that a program defines: here too they can be raised and caught."""

    def __call__(cls, *values: Any, **named: Any) -> Any:
        if "_kintsugi" not in vars(cls):  # derived from one, by the tests
            return super().__call__(*values, **named)
        return vars(cls)["_kintsugi"][0].ask("call", cls, *values, **named)

    def __getattr__(cls, name: str) -> Any:
        if special(name) or "_kintsugi" not in vars(cls):
            raise AttributeError(name)
        return vars(cls)["_kintsugi"][0].ask("getattr", cls, name)


def attribute(error: BaseException, name: str) -> Any:
    if special(name) or "_kintsugi" not in vars(error):
        raise AttributeError(name)
    return vars(error)["_kintsugi"][0].ask("getattr", error, name)


def text(error: BaseException) -> str:
    return str(vars(error)["_kintsugi"][2]) if "_kintsugi" in vars(error) else BaseException.__str__(error)


def mirrored(tests: Tests, number: int, module: str, name: str, bases: Sequence[Any]) -> Any:
    """The class that stands for one of a program's classes of exceptions: Python's own, where it is one of them."""
    found: Any = None if module.startswith("unittest") else sys.modules.get(module)
    if module in sys.stdlib_module_names or module.partition(".")[0] in sys.stdlib_module_names:
        for part in name.split("."):
            found = None if part.startswith("_") else getattr(found, part, None)
        if isinstance(found, type) and issubclass(found, Exception):
            return found
    body = {"_kintsugi": (tests, number), "__getattr__": attribute, "__str__": text, "__module__": "solution"}
    return Mirror(name.rpartition(".")[2], tuple(bases) or (Exception,), body)


def raised(
    tests: Tests, number: int, kind: Any, values: Sequence[Any], attributes: Any, said: str, cause: Any
) -> Any:
    """The exception of class `kind` that stands for one of the program's."""
    try:
        error = type.__call__(kind, *values)
    except TypeError:  # a class of Python's that is made of other things than its `args`
        made = Mirror(kind.__name__, (kind,), {"__init__": lambda self, *_: None, "__str__": text})
        error = type.__call__(made, *values)
    vars(error).update(attributes, _kintsugi=(tests, number, said))
    error.__cause__ = cause if isinstance(cause, BaseException) else None
    return error
