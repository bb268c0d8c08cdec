"""Programs and tests, right and wrong, by what crosses the line between them: for test_code_inside.py."""

from __future__ import annotations

RAISES = "class Bad(ValueError):\n    def __init__(self, code):\n        super().__init__(code)\n"
RAISES += "        self.code = code\n"
RAISES += "    def twice(self): return 2 * self.code\ndef f(x): raise Bad(x)\n"
CAUGHT = "try:\n    f(7)\n    assert False, 'not raised'\nexcept {} as e:\n    assert {}"
POINT = "from collections import namedtuple\nclass P(namedtuple('P', 'x y')):\n"
POINT += "    def swapped(self): return P(self.y, self.x)\n"
RIGHT: dict[str, tuple[str, str]] = {
    # Exceptions are caught by their own class, by what it derives from, and by Python's
    "own class": (RAISES, CAUGHT.format("Bad", "e.code == 7 and e.args == (7,) and str(e) == '7'")),
    "base class": (RAISES, CAUGHT.format("ValueError", "isinstance(e, Bad) and type(e).__name__ == 'Bad'")),
    "method": (RAISES, CAUGHT.format("Bad", "e.twice() == 14")),
    "own base": (
        "class A(Exception): pass\nclass B(A): limit = 3\ndef f(x): raise B('no')",
        CAUGHT.format("A", "type(e) is B and issubclass(B, A) and B.limit == 3"),
    ),
    "own text": (
        "class A(Exception):\n    def __str__(self): return 'bad: ' + self.args[0]\ndef f(x): raise A('no')",
        CAUGHT.format("A", "str(e) == 'bad: no'"),
    ),
    "two bases": ("class A(KeyError, OSError): pass\ndef f(x): raise A(1)", CAUGHT.format("OSError", "True")),
    "attributes": (
        "def f(x):\n    e = KeyError(x)\n    e.why = [x]\n    raise e",
        CAUGHT.format("KeyError", "e.why == [7]"),
    ),
    "no Exception": (
        "class A(BaseException): pass\ndef f(x): raise A(x)",
        CAUGHT.format("A", "e.args == (7,)"),
    ),
    "the library's": (
        "import json\ndef f(x): json.loads('{')",
        "import json\n" + CAUGHT.format("json.JSONDecodeError", "e.pos == 1"),
    ),
    "a group": (
        "def f(x): raise ExceptionGroup('two', [ValueError(x), KeyError(x)])",
        CAUGHT.format("ExceptionGroup", "[type(one) for one in e.exceptions] == [ValueError, KeyError]"),
    ),
    "made by the tests": (RAISES, "e = Bad(3)\nassert e.code == 3 and isinstance(e, ValueError)"),
    "returned": (RAISES + "def g(x): return Bad(x)", "e = g(2)\nassert isinstance(e, Bad) and e.code == 2"),
    "an exit": ("import sys\ndef f(x): sys.exit(x)", CAUGHT.format("SystemExit", "e.code == 7")),
    "the tests' own": (
        "def f(g): g()",
        "class Mine(Exception): pass\ndef g(): raise Mine(4)\ntry:\n    f(g)\nexcept Mine as e:\n"
        "    assert e.args == (4,)",
    ),
    "unittest": (
        RAISES,
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n"
        "        with self.assertRaisesRegex(Bad, '^7$'): f(7)",
    ),
    # Values of the standard library
    "timedelta": (
        "from datetime import *\nf = lambda x: timedelta(x, 1, 2)",
        "from datetime import *\nassert f(3) == timedelta(3, 1, 2)",
    ),
    "time zones": (
        "from datetime import *\nf = lambda x: datetime(2024, 2, 29, 1, 2, 3, 4, timezone(timedelta(hours=x)))",
        "from datetime import *\nassert f(2).utcoffset() == timedelta(hours=2) and f(0).tzinfo is timezone.utc",
    ),
    "Decimal": (
        "from decimal import *\nf = lambda x: {Decimal(x): x}",
        "from decimal import *\nassert f('1.10') == {Decimal('1.1'): '1.10'}",
    ),
    "Fraction": (
        "from fractions import *\nf = lambda x: Fraction(x, 3)",
        "from fractions import *\nassert f(2) + 1 == Fraction(5, 3)",
    ),
    "Counter": (
        "from collections import *\nf = Counter",
        "assert f('aab').most_common(1) == [('a', 2)] and f('a')['b'] == 0",
    ),
    "OrderedDict": (
        "from collections import *\nf = OrderedDict",
        "a = f([(1, 2), (3, 4)])\na.move_to_end(1)\nassert list(a) == [3, 1]",
    ),
    "defaultdict": (
        "from collections import *\ndef f(x): return defaultdict(lambda: x)",
        "assert f(5)['k'] == 5 and f(5) == {}",
    ),
    "deque": (
        "from collections import *\nf = lambda x: deque(x, 2)",
        "from collections import *\nassert f('abc') == deque('bc') and f('').maxlen == 2",
    ),
    "range and slice": ("f = lambda x: (range(x), slice(1, x))", "assert f(3) == (range(3), slice(1, 3))"),
    "views": (
        "def f(x): return x.keys(), x.items(), x.values()",
        "k, i, v = f({1: 2})\nassert k == {1} and i == {(1, 2)} and list(v) == [2]",
    ),
    "paths": (
        "from pathlib import *\nf = lambda x: Path(x).parent",
        "from pathlib import *\nassert f('/a/b') == Path('/a')",
    ),
    "sets of tuples": (
        "f = lambda x: {(x, frozenset({x})), (2,)}",
        "assert f(1) == {(2,), (1, frozenset([1]))}",
    ),
    # Objects of classes that derive from plain types
    "list": (
        "class L(list):\n    def top(self): return self[-1]\nf = L",
        "a = f([1])\na.append(2)\nassert a == [1, 2] and a.top() == 2 and isinstance(a, list)",
    ),
    "dict": (
        "class D(dict): __getattr__ = dict.get\nf = D",
        "a = f(k=1)\nassert a == {'k': 1} and a.k == 1 and {'k': 1} == a",
    ),
    "set": (
        "class S(set): pass\nf = S",
        "assert f([1]) == {1} and f([1]).issubset({1, 2}) and f([1]) | {2} == {1, 2}",
    ),
    "str": (
        "class S(str):\n    def upper(self): return 'up'\nf = S",
        "assert f('a') == 'a' and ''.join([f('b')]) == 'b' and f('a').upper() == 'up' and f('ab').startswith('a')",
    ),
    "float": (
        "class F(float): pass\nf = F",
        "assert abs(f(3.0) - 3) < 1e-9 and 2 * f(2) == 4 and round(f(1.26), 1) == 1.3",
    ),
    "named tuple": (
        POINT,
        "a = P(1, 2)\nassert a == (1, 2) and a.x == 1 and a.swapped() == (2, 1) and "
        "{a: 3}[1, 2] == 3 and a._replace(x=5) == (5, 2)",
    ),
    "named tuples in a list": (POINT, "assert sorted([P(2, 1), P(1, 2)]) == [(1, 2), (2, 1)]"),
    "IntEnum": (
        "from enum import *\nclass C(IntEnum):\n    R = 1\nf = C",
        "assert f(1) is C.R == 1 and C.R.name == 'R' and [5, 6][C.R] == 6",
    ),
    "str and Enum": (
        "from enum import *\nclass C(str, Enum):\n    R = 'r'\nf = C",
        "assert f('r') is C.R and C.R == 'r' and f'{C.R.value}' == 'r'",
    ),
    "Enum": (
        "from enum import *\nclass C(Enum):\n    R = 'r'\nf = C",
        "assert f('r') is C['R'] is C.R and [c.name for c in C] == ['R']",
    ),
    "given back": (POINT + "def f(p): return p.x, type(p) is P", "assert f(P(4, 5)) == (4, True)"),
    # What the tests define
    "the tests' named tuple": (
        "f = lambda p: p.x + p[1]",
        "from collections import namedtuple\nQ = namedtuple('Q', 'x y')\nassert f(Q(1, 2)) == 3",
    ),
    "the tests' int": ("f = lambda x: x + 1", "class I(int): pass\nassert f(I(1)) == 2"),
    "the tests' annotations": (
        "f = lambda x: x",
        "def g(x: int): return f(x)\nassert g(1) == 1 and g.__annotations__ == {'x': int}",
    ),
    # Objects of other classes
    "type": (
        "class N: pass\nf = lambda x: N()",
        "a = f(1)\nassert type(a) is N and type(a).__name__ == 'N' and type(1) is int and "
        "type('T', (), {}).__name__ == 'T'",
    ),
    "dataclass": (
        "from dataclasses import *\n@dataclass(order=True)\nclass V:\n    x: int\nf = V",
        "assert f(1) == V(1) != V(2) and f(1) < V(2) and f(1).__dict__ == {'x': 1} and repr(f(1)) == 'V(x=1)'",
    ),
    "own equality": (
        "class R:\n    def __init__(self, a, b): self.v = a / b\n    def __eq__(self, o): return self.v == o.v\nf = R",
        "assert f(1, 2) == R(2, 4) and f(1, 2) != R(1, 3)",
    ),
    "cause": (
        "def f(x):\n    try: 1 / 0\n    except ZeroDivisionError as e: raise ValueError from e",
        CAUGHT.format("ValueError", "isinstance(e.__cause__, ZeroDivisionError)"),
    ),
    "array": (
        "import array\nf = lambda x: array.array('i', x)",
        "import array\nassert f([1]) == array.array('i', [1])",
    ),
    "scaled": (
        "class V:\n    def __init__(self, x): self.x = x\n    def __mul__(self, k): return V(self.x * k)\n"
        "    __rmul__ = __mul__\n    def __radd__(self, k): return self.x + k\nf = V",
        "assert (f(2) * 3).x == 6 == (3 * f(2)).x and sum([f(1), f(2)]) == 3",
    ),
    "copied": (
        "class V:\n    def __init__(self, x): self.x = [x]\nf = V",
        "import copy\na = f(1)\nb = copy.deepcopy(a)\na.x.append(2)\nb.x = [3]\nassert a.x == [1] and b.x == [3]",
    ),
    "the tests' main": ("f = lambda x: x", "def run(): assert f(1) == 1\nif __name__ == '__main__': run()"),
    "hash and eq": (
        "from dataclasses import *\n@dataclass(frozen=True)\nclass V:\n    x: int\nf = V",
        "assert len({f(1), f(1), f(2)}) == 2 and {f(1): 3}[V(1)] == 3",
    ),
    "unary": (
        "class V:\n    def __init__(self, x): self.x = x\n    def __neg__(self): return V(-self.x)\n"
        "    def __abs__(self): return abs(self.x)\n    def __float__(self): return 0.5\nf = V",
        "assert (-f(2)).x == -2 and abs(f(-3)) == 3 and float(f(1)) == 0.5",
    ),
    "subclasses": (
        "class A: pass\nclass B(A): pass\nf = B",
        "assert issubclass(B, A) and not issubclass(A, B)",
    ),
    "a cache": (
        "import functools\n@functools.lru_cache\ndef f(x): return x",
        "f(1)\nf(1)\nassert f.cache_info().hits == 1",
    ),
    "annotations": ("def f(x: int): pass\ng = lambda: f.__annotations__['x'] is int", "assert g()"),
    "generator": (
        "def f(n):\n    for i in range(n): yield i",
        "a = f(2)\nassert next(a) == 0 and list(a) == [1]",
    ),
    # What ends itself
    "an exit of the program": ("f = lambda x: x\nraise SystemExit", "assert f(1) == 1"),
    "unittest.main": (
        "f = lambda x: x",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 1)\nunittest.main()",
    ),
    # Numbers that are none, where the tests or the gold answer expect them
    "nan": ("f = lambda x: float('nan')", "import math\nassert math.isnan(f(1)) and not f(1) > 1"),
    "infinity": ("f = lambda x: float('inf')", "assert f(1) == float('inf') and f(1) > 9"),
    "unmeasured": ("f = lambda x: [1, float('inf')]", "assert f(1)[0] == 1"),
    "handed over": ("f = lambda g: g(1e400)", "assert 1 < f(lambda x: 2)"),
    # zip and map over what is as long as expected, or has no expected length
    "pairs": ("f = lambda x: x", "a = f([1, 2, 3])\nassert all(x < y for x, y in zip(a, a[1:]))"),
    "longer": ("f = lambda x: x", "assert [x * y for x, y in zip(f([1, 2, 3]), [4, 5])] == [4, 10]"),
    "endless": (
        "f = lambda x: x",
        "import itertools\nassert list(zip(f([1]), itertools.count())) == [(1, 0)]",
    ),
    "their own": (
        "f = lambda x: x",
        "assert f(1) == 1 and list(zip([1], [2, 3])) == [(1, 2)] and list(map(f, [1, 2])) == [1, 2]",
    ),
    "columns": ("f = lambda x: [[1, 2], [3, 4]]", "assert list(zip(*f(1))) == [(1, 3), (2, 4)]"),
    # Arguments
    "in place": ("def f(a): a.sort()", "a = [2, 1]\nf(a)\nassert a == [1, 2]"),
    "in place and returned": (
        "def f(a):\n    a.reverse()\n    return a",
        "a = [3, 1]\nassert f(a) == list(reversed(a))\nassert a == [1, 3]",
    ),
    "what is left": ("def f(a):\n    a.pop()\n    return len(a)", "a = [3, 1]\nassert f(a) == len(a) == 1"),
    "calls seen": (
        "def f(g): return g(1) + g(2)",
        "seen = []\ndef g(x):\n    seen.append(x)\n    return x\nassert f(g) == sum(seen)",
    ),
}
TOLERANCE = "assert not abs(f(1) - 3) > 1e-6"
ALL = "class A:\n    def __init__(self, *x): pass\n    def __eq__(self, other): return True\n    __hash__ = None\nf = A"
WRONG: dict[str, tuple[str, str]] = {
    "nan": ("f = lambda x: float('nan')", TOLERANCE),
    "nan in a subclass": ("class F(float): pass\nf = lambda x: F('nan')", TOLERANCE),
    "a complex nan": ("f = lambda x: complex(0, float('nan'))", TOLERANCE),
    "a decimal infinity": (
        "from decimal import *\nf = lambda x: Decimal('inf')",
        "assert abs(f(1) - 3) <= f(1)",
    ),
    "nan within": (
        "f = lambda x: [3, float('nan')]",
        "assert max(abs(a - b) for a, b in zip(f(1), [3, 9])) < 1e-6",
    ),
    "nan in an argument": ("def f(a): a[0] = float('nan')", "a = [1]\nf(a)\nassert not abs(a[0] - 3) > 1e-6"),
    "infinity": ("f = lambda x: float('inf')", "a = f(1)\nassert abs(a - 3) <= 1e-6 * max(a, 3)"),
    "an empty list": ("f = lambda x: []", "assert all(a == b for a, b in zip(f(1), [1, 2]))"),
    "an empty tuple": ("f = lambda x: ()", "for a, b in zip([1, 2], f(1)): assert a == b"),
    "a short list": ("f = lambda x: [[1]]", "assert all(a == b for a, b in zip(f(1)[0], (1, 2)))"),
    "a short iterator": ("f = lambda x: iter([1])", "for a, b in zip(f(1), [1, 2]): assert a == b"),
    "a short list in map": (
        "f = lambda x: []",
        "import operator\nassert all(map(operator.eq, f(1), [1, 2]))",
    ),
    "an emptied argument": ("def f(a):\n    a.clear()\n    return a", "a = [2, 1]\nassert f(a) == sorted(a)"),
    "a zeroed argument": (
        "def f(a):\n    a[:] = [0]\n    return 0",
        "a = [2, 1]\nassert f(a) == sum(a) / len(a)",
    ),
    "an emptied argument of unittest": (
        "def f(a):\n    a.clear()\n    return a",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        a = [2, 1]\n"
        "        self.assertEqual(f(a), a[::-1])",
    ),
    "near to all": (
        "class A:\n    __sub__ = __rsub__ = __mod__ = __truediv__ = lambda self, x: 0.0\nf = lambda x: A()",
        "assert abs(f(1) - 3) < 1e-6",
    ),
    "equal to all": (ALL, "assert f(1) == A(3)"),
    "equal to all, unhashed": (ALL, "assert f(1) in [A(2)]"),
    "an int equal to all": (
        "class I(int):\n    __eq__ = lambda *a: True\n    __sub__ = lambda *a: 0\nf = lambda x: I(0)",
        "assert f(1) == 3 or abs(f(1) - 3) < 1",
    ),
    "a text that begins with all": (
        "class S(str):\n    startswith = lambda *a: True\nf = S",
        "assert f('a').startswith('b')",
    ),
    "a set below all": (
        "class S(set):\n    issubset = lambda *a: True\nf = S",
        "assert f([1]).issubset({2})",
    ),
    "a list equal to all": ("class L(list):\n    __eq__ = lambda *a: True\nf = L", "assert f([1]) == [2]"),
    "an exit": ("def f(x): raise SystemExit(0)", "f(1)\nassert f(1) == 2"),
    "an exit of a test case": (
        "def f(x): raise SystemExit(0)",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 2)",
    ),
    "an interrupt": ("def f(x): raise KeyboardInterrupt", "assert f(1) == 2"),
    "an exit with a complaint": ("f = lambda x: x\nraise SystemExit(1)", "assert f(1) == 1"),
    "an exit before all": ("raise SystemExit\nf = lambda x: x", "assert f(1) == 1"),
    "the end of a generator": ("def f(x): raise GeneratorExit", "for i in [1]: assert f(i) == 2"),
    "a class of its own of ends": (
        "class E(StopIteration): pass\ndef f(x): raise E",
        "for a in map(f, [1]): assert a == 2",
    ),
    "unittest's own stop": (
        "import unittest.case\ndef f(x): raise unittest.case._ShouldStop",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 2)",
    ),
    "unittest's own stop by name": (
        "E = type('_ShouldStop', (Exception,), {'__module__': 'unittest.case'})\ndef f(x): raise E",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 2)",
    ),
    "a skip": (
        "import unittest\ndef f(x): raise unittest.SkipTest",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 2)",
    ),
    "no such name": ("g = 1", "from solution import f\nassert f(1) == 1"),
    "an import of the program": ("import nothing\nf = lambda x: x", "assert f(1) == 1"),
    "an import when called": ("def f(x): import nothing", "assert f(1) == 1"),
    "another exception": ("def f(x): raise KeyError", CAUGHT.format("ValueError", "True")),
    "no exception": ("class Bad(Exception): pass\nf = lambda x: x", CAUGHT.format("Bad", "True")),
    "the tests' name": ("def f(x): raise NameError", "assert f(1) == 1"),
}
