"""Right and wrong programs for every form of tests: (program, columns of the problem, state of the verdict)."""

from __future__ import annotations

from typing import Any

ADDS = "def add(a, b):\n    return a + b\n"
ADD = {"tests": "assert add(1, 2) == 3"}
CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate([1], [2]) == [1, 2]\n"
UNITTEST = (
    "import unittest\nclass T(unittest.TestCase):\n    def test_sum(self): self.assertEqual(add(1, 2), 3)\n"
)
PYTEST = "from solution import add\ndef test_sum():\n    assert add(1, 2) == 3\n"
RUNS = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}
THREE = {"input_output": {"inputs": [""], "outputs": ["3"]}}

ASSERTIONS: list[tuple[str, dict[str, Any], str]] = [
    (ADDS, {"tests": ["assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'"]}, "pass"),
    (
        ADDS,
        {"test_list": ["assert add(1, 2) == 3", "assert add(1, 2) == 4"]},
        "fail",
    ),  # one of two pays nothing
    (ADDS, {"tests": "assert add(1, 2) == 3\nassert add(2, 2) == 4"}, "pass"),
    (ADDS, {"tests": '["assert add(1, 2) == 3"]'}, "pass"),  # a list, as JSON
    (ADDS, {"test": CHECK, "entry_point": "add"}, "pass"),
    ("def add(a, b): return 3", {"test": CHECK, "entry_point": "add"}, "fail"),
    ("def plus(a, b): return a + b", {"test": CHECK, "entry_point": "add"}, "fail"),
    ("class S:\n    def add(self, a, b): return a + b", {"test": CHECK, "entry_point": "S().add"}, "pass"),
    (ADDS, {"test": CHECK}, "error"),  # without an entry point, nothing would be tested
    (ADDS, {"tests": "assert 1 + 2 == 3"}, "error"),  # and here neither
    (ADDS, {"tests": "assert add(1, 2 == 3"}, "error"),
    (ADDS, {"tests": UNITTEST}, "pass"),
    (ADDS, {"tests": UNITTEST.replace("3)", "4)")}, "fail"),
    (ADDS, {"tests": PYTEST}, "pass"),
    (ADDS, {"tests": PYTEST.replace("== 3", "== 4")}, "fail"),
    (
        ADDS,
        {"tests": "assert isclose(add(.1, .2), .3)", "test_imports": ["from math import isclose"]},
        "pass",
    ),
    (ADDS, {"tests": "assert math.isclose(add(.1, .2), .3)"}, "pass"),  # imported where the tests are
    (ADDS, {"tests": "assert add(x, 2) == 3", "test_setup_code": "x = 1"}, "pass"),
    (ADDS + "print('hello')\nraise ValueError", {"tests": "assert add(1, 2) == 3"}, "fail"),
    ("def add(a, b:", {"tests": "assert add(1, 2) == 3"}, "fail"),
    ("add = None", {"tests": "assert add(1, 2) == 3"}, "fail"),
    ("import argparse\nargparse.ArgumentParser().parse_args()\n" + ADDS + "exit()", ADD, "pass"),
    ("import inspect\n" + ADDS + "assert 'return a + b' in inspect.getsource(add)", ADD, "pass"),
    ("def add(a, b): raise ValueError('\\ud800')", ADD, "fail"),
    ("class Bad\ud800(Exception): pass", ADD, "fail"),
    (ADDS, {"tests": "import nothing\nassert add(1, 2) == 3"}, "error"),
]
HANDED_OVER: list[tuple[str, str, str]] = [
    (ADDS, "assert add(2**200, 1) == 2**200 + 1 and add(1j, float('inf')) == 1j + float('inf')", "pass"),
    (ADDS, "from fractions import Fraction as F\nassert add(F(1, 3), F(2, 3)) == 1", "pass"),
    (ADDS, "assert add(b'a', b'\\xff') == b'a\\xff' and add('\\ud800', '') == '\\ud800'", "pass"),
    (
        "def add(a, b): raise KeyError(a)",
        "try: add('k', 1)\nexcept KeyError as e: assert e.args == ('k',)",
        "pass",
    ),
    (
        "def add(a, b): a.sort(); b['k'] = [a]",
        "x, y = [2, 1], {}\nadd(x, y)\nassert (x, y) == ([1, 2], {'k': [[1, 2]]})",
        "pass",
    ),
    ("def add(a, b): a.clear(); b.clear()", "a, b = (1,), [2]\nassert add([*a], b) == [1, 2]", "fail"),
    ("def add(a, b): yield a; yield b", "assert list(add(1, 2)) == [1, 2]", "pass"),
    ("def add(a, b): return b(a)", "assert add(3, lambda x: x + 1) == 4 and add([1], len) == 1", "pass"),
    (
        "def add(a, b): return b(b, a)",
        "assert add(3, lambda f, x: f if x > 9 else add(10, f)) is not None",
        "pass",
    ),
    (
        "from collections import *\ndef add(a, b): return Counter(a), deque([b]), {(1,): {b}}",
        "from collections import deque\nassert add('aa', 2) == ({'a': 2}, deque([2]), {(1,): {2}})",
        "pass",
    ),
    (
        "class Node:\n    def __init__(self, v): self.v = v\ndef add(a, b): a.next = b; return a",
        "a, b = Node(1), Node(2)\nc = add(a, b)\nassert c is a and c.next.v == 2 and isinstance(b, Node)",
        "pass",
    ),
    (
        "from dataclasses import dataclass\n@dataclass\nclass V:\n    x: int\n"
        "    def __add__(self, other): return V(self.x + other.x)",
        "assert V(1) + V(2) == V(3) != V(4) and str(V(1)) == 'V(x=1)'",
        "pass",
    ),
    (
        "class Stack(list):\n    push = list.append",
        "s = Stack()\ns.push(1)\ns.push(2)\nassert s.pop() == 2 and len(s) == 1 and s[0] == 1 and list(s) == [1]",
        "pass",
    ),
]
OWN_FILE = """
import pickle, sys
class A: pass
def f(x: int): pass
assert callable(help) and copyright and credits and license and __builtins__.sum is sum
assert sys.argv == ["program.py"] and "class A: pass" in open("program.py").read() == open(__file__).read()
assert f.__annotations__ == {"x": int} and type(pickle.loads(pickle.dumps(A()))) is A
open("beside.py", "w").write("x = 3")
import beside
if __name__ == "__main__": print(beside.x)
"""
ON_STDIN: list[tuple[str, dict[str, Any], str]] = [
    ("a, b = map(int, input().split())\nprint(a + b)", {"input_output": RUNS}, "pass"),
    ("print(3)", {"input_output": RUNS}, "fail"),
    ("print(", {"input_output": RUNS}, "fail"),
    ("print(' 3 ', end='\\n\\n')", {"input_output": '{"inputs": ["1 2"], "outputs": ["3"]}'}, "pass"),
    ("print(3, 3)", {"input_output": {"inputs": [["1", "2"]], "outputs": [["3", "3"]]}}, "fail"),
    (
        "print(*open(0), sep='', end='')",
        {"input_output": {"inputs": [["1", "2"]], "outputs": [["1", "2"]]}},
        "pass",
    ),
    (
        "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\ndef run():\n"
        "    print(sum(map(int, open(0).read().split())))\nt = threading.Thread(target=run)\nt.start()\nt.join()",
        {"input_output": RUNS},
        "pass",
    ),
    (
        "import sys\nif __name__ == '__main__':\n    print(sum(map(int, sys.stdin.buffer.read().split())))\n"
        "    sys.exit()",
        {"input_output": RUNS},
        "pass",
    ),
    ("open('f', 'w').write('3')\nprint(open('/tmp/f').read())", THREE, "pass"),
    ("import asyncio\nasync def main(): print(3)\nasyncio.run(main())", THREE, "pass"),
    ("import sys\nsys.stdout.write('3')", THREE, "pass"),
    ("print(3)\nexit()\nprint(4)", THREE, "pass"),
    ("print(3)\nquit('no')", THREE, "fail"),
    (OWN_FILE, THREE, "pass"),
    ("def f(n): return n and 1 + f(n - 1)\nprint(f(990) - 987)", THREE, "pass"),
    ("print('\\ud800')", THREE, "fail"),
    ("print('é' * 3, len(set('éé')))", {"input_output": {"inputs": [""], "outputs": ["ééé 1"]}}, "pass"),
]
PROGRAMS = [
    *ASSERTIONS,
    *((program, {"tests": test}, state) for program, test, state in HANDED_OVER),
    *ON_STDIN,
]
