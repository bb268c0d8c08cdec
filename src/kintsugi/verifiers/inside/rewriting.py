"""The tests as they are run: with what a program could twist read in another way than Python's own."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Sequence, Sized
from typing import Any

from .proxies import Proxy, type_of
from .tests import Tests

TYPE_OF = "type of"
"""A name that no text can use."""
UNFINITE = re.compile(r"(?<![a-z])(is)?(nan|inf)(inity|inite|ty)?(?![a-z])|isfinite", re.IGNORECASE)
ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def rewritten(text: str, name: str) -> ast.Module:
    """A text of tests, to be compiled; SyntaxError for what is no Python.

    `type(x)` of one of the program's objects is its class there. An expected value that is computed from an
    argument, as in `assert f(a) == sorted(a)`, is computed before the program gets to change that argument.
    """
    tree = ast.parse(text, name)
    Rewriting().visit(tree)
    return tree


class Rewriting(ast.NodeTransformer):
    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            node.left, node.comparators = expected_first(node.left, node.comparators[0])
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="type"), args=[ast.expr()], keywords=[]):
                node.func = ast.copy_location(ast.Name(TYPE_OF, ast.Load()), node.func)
            case ast.Call(func=ast.Attribute(attr=name), args=[one, other, *rest]) if name.startswith(
                "assert"
            ) and name.endswith("Equal"):
                first, (second,) = expected_first(one, other)
                node.args = [first, second, *rest]
        return node


def expected_first(one: ast.expr, other: ast.expr) -> tuple[ast.expr, list[ast.expr]]:
    """The two sides of an equality, swapped where the right one is computed from an argument of the left one's call.

    Only what Python itself computes is moved, and no plain `len(a)`: what a call leaves of `a` may be what is meant.
    """
    arguments = {
        argument.id
        for call in calls(one)
        for argument in call.args
        if isinstance(argument, ast.Name) and not of_python(call)
    }
    read = {node.id for node in ast.walk(other) if isinstance(node, ast.Name)}
    computed = not isinstance(other, ast.Name | ast.Constant) and all(map(of_python, calls(other)))
    reads_objects = any(isinstance(node, ast.Attribute) for node in ast.walk(other))
    length = isinstance(other, ast.Call) and ast.unparse(other.func) == "len"
    swapped = computed and arguments & read and not reads_objects and not length
    return (other, [one]) if swapped else (one, [other])


def calls(node: ast.expr) -> list[ast.Call]:
    return [found for found in ast.walk(node) if isinstance(found, ast.Call)]


def of_python(call: ast.Call) -> bool:
    """Tells whether a call is one of a built-in function."""
    return isinstance(call.func, ast.Name) and hasattr(builtins, call.func.id)


def about_finite(trees: Sequence[ast.Module], texts: Sequence[str]) -> bool:
    """Tells whether tests measure by order, as against a tolerance, while no text speaks of nan or infinity."""
    orders = (
        any(isinstance(op, ORDERS) for op in node.ops)
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
    )
    return any(orders) and not any(UNFINITE.search(text) for text in texts)


def built_ins(tests: Tests) -> dict[str, Any]:
    """Python's own names that mean something else to the tests."""
    return {TYPE_OF: type_of, "zip": cut_short(builtins.zip, tests), "map": cut_short(builtins.map, tests)}


def cut_short(kind: Any, tests: Tests) -> Any:
    """`zip` or `map`, where what came from the program must not end before what it is compared with."""

    class Whole(kind):  # type: ignore[misc]
        def __init__(self, *values: Any, **named: Any) -> None:
            sides = values if kind is builtins.zip else values[1:]
            theirs = [side for side in sides if tests.gave(side)]
            ours = [len(side) for side in sides if isinstance(side, Sized) and not tests.gave(side)]
            self.expected = max(ours, default=0) if theirs else 0
            self.theirs = [
                len(side) for side in theirs if isinstance(side, Sized) and not isinstance(side, Proxy)
            ]
            self.unsized = len(theirs) > len(self.theirs)
            self.seen = 0

        def __next__(self) -> Any:
            try:
                found = super().__next__()
            except StopIteration:
                if self.seen < self.expected and (self.unsized or self.seen in self.theirs):
                    why = f"the program gave {self.seen} values to compare with {self.expected}"
                    tests.distrust = f"{kind.__name__}: {why}"
                raise
            self.seen += 1
            return found

    return Whole
