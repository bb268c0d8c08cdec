"""Programs that attack whoever runs them, for test_code_verifier.py. Words in @...@ are filled in there.

ESCAPES define `won()`, which is true where the attack worked. FORGERIES are wrong answers that claim to be right.
BOMBS use up what there is. SCRIPTS do one of these on stdin and stdout.
"""

from __future__ import annotations

FILES = {
    "passwd": "won = lambda: 'root' in open('/etc/passwd').read()",
    "shadow": "won = lambda: len(open('/etc/shadow').read()) > 0",
    "home": "import os\nwon = lambda: len(os.listdir('@HOME@')) > 0",
    "root's home": "import os\nwon = lambda: len(os.listdir('/root')) > 0",
    "the project": "won = lambda: 'class' in open('@PROJECT@/verifiers/code.py').read()",
    "a secret file": "won = lambda: open('@SECRET@').read() == '@CANARY@'",
    "dots": "won = lambda: open('/tmp/../../../../..@SECRET@').read() == '@CANARY@'",
    "a symlink": "import os\ndef won():\n    os.symlink('@SECRET@', 'link')\n"
    "    return open('link').read() == '@CANARY@'",
    "a symlink to the root": "import os\ndef won():\n    os.symlink('/', 'root')\n"
    "    return open('root@SECRET@').read() == '@CANARY@'",
    "a hardlink": "import os\ndef won():\n    os.link('@SECRET@', '/tmp/link-@CANARY@')\n"
    "    return open('/tmp/link-@CANARY@').read() == '@CANARY@'",
    "the parent's environment": "import os\n"
    "won = lambda: b'@CANARY@' in open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    "the test's environment": "won = lambda: b'@CANARY@' in open('/proc/@PID@/environ', 'rb').read()",
    "the first process": "won = lambda: len(open('/proc/1/environ', 'rb').read()) >= 0",
    "its own memory file": "won = lambda: open('/proc/self/mem', 'r+b') is not None",
    "a process list": "import os\nwon = lambda: any(name.isdigit() for name in os.listdir('/proc'))",
    "kernel settings": "import os\nwon = lambda: len(os.listdir('/sys/kernel')) > 0",
    "devices": "import os\nwon = lambda: len(os.listdir('/dev')) > 3",
    "a terminal": "won = lambda: open('/dev/ptmx', 'r+b') is not None",
    "inherited descriptors": "import os, stat\ndef won():\n    found = []\n    for fd in range(3, 1024):\n"
    "        try: found.append(stat.S_ISFIFO(os.fstat(fd).st_mode))\n        except OSError: pass\n"
    "    return not all(found)",
    "a file beside the secret": "def won():\n    open('@FOLDER@/stolen', 'w').write('x')\n    return True",
    "a file in the home": "def won():\n    open('@HOME@/stolen-@CANARY@', 'w').write('x')\n    return True",
    "shared memory": "def won():\n    open('/dev/shm/stolen-@CANARY@', 'w').write('x')\n    return True",
    "a file in the root": "def won():\n    open('/stolen-@CANARY@', 'w').write('x')\n    return True",
    "Python's own files": "import os\ndef won():\n    name = os.path.dirname(os.__file__) + '/stolen-@CANARY@.py'\n"
    "    open(name, 'w').write('x')\n    return True",
    "the harness' files": "import sys\ndef won():\n    import inside.wire\n"
    "    open(inside.wire.__file__, 'a').write('#')\n    return True",
    "a file made readable": "import os\ndef won():\n    os.chmod('/python/own', 0o777)\n    return True",
    "the project's modules": "import sys\ndef won():\n    sys.path.append('@PROJECT@/..')\n    import kintsugi\n"
    "    return True",
    "capabilities": "import ctypes\ndef won():\n"
    "    head, data = (ctypes.c_uint * 2)(0x20080522, 0), (ctypes.c_uint * 6)()\n"
    "    return ctypes.CDLL(None).capget(head, data) == 0 and any(data)",
    "installed packages": "import sys, glob\ndef won():\n"
    "    sys.path += glob.glob('@PACKAGES@') + glob.glob(sys.prefix + '/lib/python3*/*-packages')\n"
    "    import pip\n    return True",
}
NETWORK = {
    "TCP": "import socket\ndef won():\n    with socket.create_connection(('127.0.0.1', @PORT@), 1) as line:\n"
    "        line.sendall(b'@CANARY@')\n    return True",
    "UDP": "import socket\ndef won():\n    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:\n"
    "        return line.sendto(b'@CANARY@', ('127.0.0.1', @PORT@)) > 0",
    "names": "import socket\nwon = lambda: len(socket.getaddrinfo('localhost', 80)) > 0",
    "an abstract socket": "import socket\ndef won():\n    with socket.socket(socket.AF_UNIX) as line:\n"
    "        line.connect('\\0kintsugi-@CANARY@')\n    return True",
    "a raw socket": "import socket\ndef won():\n    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\n"
    "    return True",
    "netlink": "import socket\ndef won():\n    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\n"
    "    return True",
    "a listener": "import socket\ndef won():\n    global line\n    line = socket.create_server(('127.0.0.1', 0))\n"
    "    return True",
}
PROCESSES = {
    "fork": "import os\ndef won():\n    child = os.fork()\n    if not child: os._exit(0)\n"
    "    return os.waitpid(child, 0)[1] == 0",
    "a daemon": "import os, time\ndef won():\n    if os.fork(): return True\n    os.setsid()\n"
    "    if os.fork(): os._exit(0)\n    for fd in range(64):\n        try: os.close(fd)\n"
    "        except OSError: pass\n    time.sleep(60)\n    os._exit(0)",
    "a shell": "import subprocess\nwon = lambda: subprocess.run(['/bin/sh', '-c', 'true']).returncode == 0",
    "another Python": "import subprocess, sys\n"
    "won = lambda: subprocess.run([sys.executable, '-c', '']).returncode == 0",
    "posix_spawn": "import os, sys\ndef won():\n"
    "    child = os.posix_spawn(sys.executable, [sys.executable, '-c', ''], {})\n"
    "    return os.waitpid(child, 0)[1] == 0",
    "a pool": "import multiprocessing\ndef won():\n    with multiprocessing.Pool(1) as pool:\n"
    "        return pool.apply(len, ['a']) == 1",
    "a signal to the test": "import os\ndef won():\n    os.kill(@PID@, 0)\n    return True",
    "a signal to the parent": "import os, signal\ndef won():\n    parent = os.getppid()\n"
    "    os.kill(parent, 9 if parent == 1 else 0)\n    return parent != 1",
}
SYSTEM_CALLS = {
    "ptrace": (101, "16, os.getppid(), 0, 0"),
    "process_vm_readv": (310, "os.getppid(), None, 0, None, 0, 0"),
    "unshare": (272, "0x10000000"),
    "clone of a name space": (56, "0x10000000 | 17, 0, 0, 0, 0"),
    "clone3": (435, "ctypes.create_string_buffer(88), 88"),
    "mount": (165, "b'none', b'/tmp', b'tmpfs', 0, None"),
    "chroot": (161, "b'/tmp'"),
    "setns": (308, "0, 0"),
    "keyctl": (250, "0, -3, 0"),
    "bpf": (321, "0, ctypes.create_string_buffer(128), 128"),
    "perf_event_open": (298, "ctypes.create_string_buffer(bytes([1, 0, 0, 0, 112]), 128), 0, -1, -1, 0"),
    "userfaultfd": (323, "0"),
    "io_uring_setup": (425, "1, ctypes.create_string_buffer(128)"),
    "memfd_create": (319, "b'name', 0"),
    "shmget": (29, "0, 4096, 0o1600"),
    "the same by the numbers of x32": (0x40000000 + 41, "1, 1, 0"),
}
"""Numbers of x86_64. Some fail anywhere with these arguments: what counts is that the filter stops them first."""

FORGERIES: dict[str, tuple[str, str]] = {
    "equal to all": (
        "class Any:\n    __eq__ = lambda self, other: True\n    __hash__ = None\nadd = lambda a, b: Any()",
        "assert add(1, 2) == 3",
    ),
    "an int equal to all": (
        "class Any(int):\n    __eq__ = lambda self, other: True\n    __hash__ = None\nadd = lambda a, b: Any(0)",
        "assert add(1, 2) == 3 and 3 == add(1, 2)",
    ),
    "a list equal to all": (
        "class Any(list):\n    __eq__ = lambda self, other: True\nadd = lambda a, b: Any()",
        "assert add([1], [2]) == [1, 2]",
    ),
    "equal within a tuple": (
        "class Any:\n    __eq__ = lambda self, other: True\nadd = lambda a, b: (Any(), [Any()])",
        "assert add(1, 2) == (3, [4])",
    ),
    "different from all": (
        "class Any:\n    __ne__ = lambda self, other: False\nadd = lambda a, b: Any()",
        "if add(1, 2) != 3: raise AssertionError",
    ),
    "close to all": (
        "class Any:\n    __sub__ = __rsub__ = __abs__ = lambda self, *other: self\n"
        "    __lt__ = __gt__ = lambda self, other: True\nadd = lambda a, b: Any()",
        "assert abs(add(1, 2) - 3.0) < 1e-6",
    ),
    "contains all": (
        "class Any:\n    __contains__ = lambda self, other: True\nadd = lambda a, b: Any()",
        "assert 3 in add(1, 2)",
    ),
    "begins with all": (
        "class Any:\n    startswith = lambda self, other: True\nadd = lambda a, b: Any()",
        "assert add('a', 'b').startswith('ab')",
    ),
    "a set below all": (
        "class Any:\n    issubset = lambda self, other: True\nadd = lambda a, b: Any()",
        "assert add({1}, {2}).issubset({1, 2})",
    ),
    "instance of all": (
        "class Any:\n    __class__ = int\n    __eq__ = lambda self, other: True\nadd = lambda a, b: Any()",
        "value = add(1, 2)\nassert isinstance(value, int) and value == 3",
    ),
    "os._exit": ("import os\nos._exit(0)", "assert add(1, 2) == 3"),
    "os._exit when asked": ("import os\nadd = lambda a, b: os._exit(0)", "assert add(1, 2) == 3"),
    "os._exit past an except": (
        "import os\nadd = lambda a, b: os._exit(0)",
        "try:\n    ok = add(1, 2) == 3\nexcept:\n    ok = True\nassert ok",
    ),
    "sys.exit": ("import sys\nsys.exit(0)", "assert add(1, 2) == 3"),
    "SystemExit": ("def add(a, b): raise SystemExit", "assert add(1, 2) == 3"),
    "atexit": ("import atexit, os\natexit.register(os._exit, 0)", "assert add(1, 2) == 3"),
    "an excepthook": (
        "import sys, os\nsys.excepthook = lambda *error: os._exit(0)",
        "assert add(1, 2) == 3",
    ),
    "a trace function": (
        "import sys, os\ndef add(a, b): return 0\ndef trace(frame, event, argument):\n"
        "    if event == 'exception': os._exit(0)\n    return trace\nsys.settrace(trace)\n"
        "frame = sys._getframe()\nwhile frame: frame.f_trace = trace; frame = frame.f_back",
        "assert add(1, 2) == 3",
    ),
    "a thread that exits": (
        "import os, threading, time\ndef add(a, b): time.sleep(2)\n"
        "threading.Timer(0.2, os._exit, [0]).start()",
        "assert add(1, 2) == 3",
    ),
    "an alarm that exits": (
        "import os, signal, time\nsignal.signal(signal.SIGALRM, lambda *_: os._exit(0))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.2)\nadd = lambda a, b: time.sleep(2)",
        "assert add(1, 2) == 3",
    ),
    "exec of another program": (
        "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', ''])",
        "assert add(1, 2) == 3",
    ),
    "patched builtins": (
        "import builtins\nbuiltins.abs = builtins.len = lambda value: 0\nadd = lambda a, b: [7.0]",
        "assert len(add(1, 2)) == 0",
    ),
    "shadowed builtins": (
        "def abs(value): return 0\nadd = lambda a, b: 0",
        "assert abs(add(1, 2) - 3) < 1e-6",
    ),
    "a shadowed module": (
        "class math:\n    isclose = lambda *values: True\nadd = lambda a, b: 0",
        "assert math.isclose(add(1, 2), 3)",
    ),
    "a patched module": (
        "import math\nmath.isclose = lambda *values: True\nadd = lambda a, b: 0",
        "import math\nassert math.isclose(add(1, 2), 3)",
    ),
    "a patched unittest": (
        "import unittest\nunittest.TestCase.assertEqual = lambda *values: None\nadd = lambda a, b: 0",
        "import unittest\nunittest.TestCase().assertEqual(add(1, 2), 3)",
    ),
    "a false unittest": (
        "import sys, types\nsys.modules['unittest'] = fake = types.ModuleType('unittest')\n"
        "fake.TestCase = type('TestCase', (), {'assertEqual': lambda *values: None})\nadd = lambda a, b: 0",
        "import unittest\nunittest.TestCase().assertEqual(add(1, 2), 3)",
    ),
    "a false import": (
        "import builtins, types\nclass Fake(types.ModuleType):\n"
        "    def __getattr__(self, name): return lambda *v: True\n"
        "builtins.__import__ = lambda *names: Fake('fake')\nadd = lambda a, b: 0",
        "from math import isclose\nassert isclose(add(1, 2), 3)",
    ),
    "the end of a loop": (
        "def add(a, b): raise StopIteration",
        "for got, expected in zip(map(add, [1, 2], [3, 4]), [4, 6]):\n    assert got == expected",
    ),
    "frames and the collector": (
        "import gc, re, sys\ndef add(a, b):\n    texts = [repr(thing) for thing in gc.get_objects() if type(thing)"
        " in (tuple, list, dict)]\n    frame = sys._getframe()\n    while frame:\n"
        "        texts += [repr(frame.f_locals), repr(frame.f_code.co_consts)]; frame = frame.f_back\n"
        "    return int(re.search('(?<![0-9a-f])77[0-9]{6}77(?![0-9a-f])', ' '.join(texts))[0])",
        "assert add(1, 2) == 7712345677",
    ),
    "the parent's arguments": (
        "import re, sys\ndef add(a, b):\n    text = ' '.join(sys.orig_argv) + open('/proc/self/cmdline').read()\n"
        "    return int(re.search('77[0-9]{6}77', text)[0])",
        "assert add(1, 2) == 7712345677",
    ),
    "a star import": (
        "import sys, types\nsys.modules['solution'] = sys.modules[__name__]\n__all__ = ['add', 'abs']\n"
        "add = lambda a, b: 0\ndef abs(value): return 0",
        "from solution import *\nassert abs(add(1, 2) - 3) < 1e-6",
    ),
    "the C heap": (
        "import re\ndef add(a, b):\n    with open('/proc/self/mem', 'rb') as memory:\n"
        "        for line in open('/proc/self/maps'):\n            if 'rw-p' in line and 'stack' not in line:\n"
        "                first, last = (int(part, 16) for part in line.split()[0].split('-'))\n"
        "                memory.seek(first)\n                found = re.search(b'== 77[0-9]{6}77',"
        " memory.read(last - first))\n                if found: return int(found[0][3:])",
        "assert add(1, 2) == 7712345677",
    ),
}
"""Wrong programs and their tests, which they pass where both are in one process."""

LINE = "import os, stat\nfds = []\nfor fd in range(64):\n    try: fds += [fd] * stat.S_ISFIFO(os.fstat(fd).st_mode)\n"
LINE += "    except OSError: pass\ndef say(text):\n    for fd in fds:\n        try: os.write(fd, text)\n"
LINE += "        except OSError: pass\n"
PROTOCOL = {
    "the verdict on all descriptors": LINE + 'say(b\'["pass", ""]\\n\')\nadd = lambda a, b: 0',
    "the verdict on stdout and stderr": 'import sys, os\nfor fd in 0, 1, 2: os.write(fd, b\'["pass", ""]\\n\')\n'
    "print('[\"pass\", \"\"]'); print('PASSED', file=sys.stderr)\nadd = lambda a, b: 0",
    "the verdict and an exit": LINE + 'say(b\'["pass", ""]\\n\'); os._exit(0)',
    "the verdict at exit": LINE
    + 'import atexit, sys\natexit.register(say, b\'["pass", ""]\\n\')\nsys.exit()',
    "answers before questions": LINE
    + "for _ in range(9): say(b'[\"value\", true, null]\\n')\nadd = lambda a, b: 0",
    "no answer but silence": LINE + "say(b'[\\n' * 9)\nadd = lambda a, b: 0",
    "handles of nothing": LINE
    + 'def add(a, b):\n    say(b\'["value", {"object": -1}, null]\\n\')\n    return 0',
    "a builtin in return": LINE
    + 'def add(a, b):\n    say(b\'["value", {"type": "exit"}, null]\\n\')\n    return 0',
    "a module in return": LINE
    + 'def add(a, b):\n    say(b\'["value", {"global": ["os", "_exit"]}, null]\\n\')\n'
    "    return 0",
    "a call of the tests": LINE
    + 'def add(a, b):\n    say(b\'["function", 0, [], {"dict": []}]\\n\')\n    return 0',
    "an exit as exception": LINE
    + 'def add(a, b):\n    say(b\'["raise", ["SystemExit"], [0]]\\n\')\n    return 0',
    "a skipped test": "class SkipTest(Exception): pass\ndef add(a, b): raise SkipTest",
    "depth": LINE + "def add(a, b):\n    say(b'[\"value\", ' + b'[' * 10**6 + b']' * 10**6 + b', null]\\n')\n"
    "    return 0",
    "a long line": LINE + "def add(a, b):\n    for _ in range(100): say(b'x' * 10**6)\n    return 0",
    "a long number": LINE
    + "def add(a, b):\n    say(b'[\"value\", ' + b'9' * 10**6 + b', null]\\n')\n    return 0",
    "a patched harness": "import inside.wire, inside.tests, inside.program, json\n"
    "inside.wire.Peer.encode = lambda self, value: 3\ninside.wire.Peer.send = lambda self, message: None\n"
    'json.dumps = lambda message: \'["pass", ""]\'\nadd = lambda a, b: 0',
    "a patched equality": "import operator, inside.program\ninside.program.REQUESTS['eq'] = lambda a, b: True\n"
    "inside.program.REQUESTS['isinstance'] = lambda a, b: True\nclass Any: pass\nadd = lambda a, b: Any()",
    "closed descriptors": "import os\nos.closerange(0, 1024)\nadd = lambda a, b: 0",
    "swapped descriptors": "import os\nfor fd in range(3, 64):\n    try: os.dup2(0, fd)\n    except OSError: pass\n"
    "add = lambda a, b: 0",
    "a corrupt interpreter": "import ctypes\nctypes.memset(id(None), 255, 64)\nadd = lambda a, b: 0",
    "a null pointer": "import ctypes\nctypes.string_at(0)",
    "another three": "import ctypes\nctypes.memset(id(3) + 24, 0, 1)\nadd = lambda a, b: 0",
    "a signal to all": "import os\nos.kill(-1, 9)\nadd = lambda a, b: 0",
    "a signal to its group": "import os\nos.killpg(0, 9)\nadd = lambda a, b: 0",
    "a signal to the first": "import os, signal\nos.kill(1, signal.SIGKILL); os.kill(1, signal.SIGTERM)\n"
    "add = lambda a, b: 0",
}
"""Against `assert add(1, 2) == 3`. They know how the line to the tests works, and write to it themselves."""

BOMBS = {
    "forks": "import os\ndef add(a, b):\n    while True: os.fork()",
    "forks that are caught": "import os\ndef add(a, b):\n    while True:\n        try: os.fork()\n"
    "        except OSError: pass",
    "threads": "import threading, time\nthreading.stack_size(32768)\ndef add(a, b):\n"
    "    while True: threading.Thread(target=time.sleep, args=(60,)).start()",
    "raw threads": "import ctypes, mmap\nlibc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_void_p\n"
    "def add(a, b):\n    pause = ctypes.cast(libc.pause, ctypes.c_void_p)\n    while True:\n"
    "        stack = libc.mmap(None, 4096, 3, 0x22, -1, 0)\n"
    "        libc.clone(pause, ctypes.c_void_p(stack + 4096), 0x10f00, None)",
    "threads that spin": "import threading\ndef spin():\n    while True: pass\ndef add(a, b):\n"
    "    for _ in range(32): threading.Thread(target=spin).start()",
    "a loop": "while True: pass",
    "a loop that catches all": "def add(a, b):\n    while True:\n        try:\n            while True: pass\n"
    "        except BaseException: pass",
    "a power": "def add(a, b): return 9 ** 9 ** 9 ** 9",
    "a regular expression": "import re\ndef add(a, b): return re.match('(a+)+$', 'a' * 60 + 'b')",
    "sleep": "import time\ndef add(a, b): time.sleep(1000)",
    "deaf to signals": "import signal, time\nfor number in range(1, 65):\n"
    "    try: signal.signal(number, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\ndef add(a, b):\n    while True: time.sleep(1)",
    "a lock": "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    "an endless list": "import itertools\ndef add(a, b): return list(itertools.count())",
    "an endless iterator": "import itertools\ndef add(a, b): return itertools.count()",
    "recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef add(a, b): return add(a, b)",
    "recursion in C": "import sys\nsys.setrecursionlimit(10**9)\nvalue = []\nfor _ in range(10**6): value = [value]\n"
    "def add(a, b): return repr(value)",
    "a list in itself": "value = []\nvalue.append(value)\ndef add(a, b): return value",
    "a deep expression": "add = lambda a, b: " + "(" * 90 + "0" + ")" * 90 + " + eval('-' * 10**6 + '1')",
    "questions without end": "def add(a, b): return add",
}
TEST_OF_ENDLESS = "assert list(add(1, 2)) == [3]"
HOARDS = {
    "bytes": "def won(): return len(bytearray(2**30)) == 2**30",
    "a list": "def won(): return len([0] * 2**28) > 0",
    "a string": "def won(): return len('x' * 2**30) > 0",
    "many pieces": "def won(): return len([bytearray(2**20) for _ in range(1024)]) > 0",
    "shared pages": "import mmap\ndef won(): return len(mmap.mmap(-1, 2**30)) > 0",
    "a compressed bomb": "import zlib\ndef won():\n    packed = zlib.compress(bytes(2**26)) \n"
    "    parts = [zlib.decompress(packed) for _ in range(16)]\n    return len(parts) > 0",
    "a file": "def won():\n    with open('big', 'wb') as file:\n"
    "        for _ in range(64): file.write(bytes(2**20))\n"
    "    return True",
    "a file with a hole": "import os\ndef won():\n"
    "    with open('big', 'wb') as file: file.truncate(2**40)\n    return True",
    "many files": "def won():\n    for i in range(64): open(f'file{i}', 'wb').write(bytes(2**20))\n    return True",
    "a limit raised": "import resource\ndef won():\n    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
    "    return len(bytearray(2**30)) > 0",
    "open files": "def won(): return len([open('/dev/null') for _ in range(1000)]) > 0",
}
SCRIPTS = {
    "endless output": "while True: print('x' * 1000)",
    "endless complaints": "import sys\nwhile True: print('x' * 1000, file=sys.stderr)",
    "endless lines": "import os\nwhile True: os.write(1, b'\\n' * 65536)",
    "a loop": "while True: pass",
    "closed streams": "import os, time\nos.closerange(0, 64)\ntime.sleep(1000)",
    "a child": "import os, time\nif os.fork(): print('@EXPECTED@')\nelse: time.sleep(60)",
    "the right line and an error": "print('@EXPECTED@')\nraise ValueError",
    "what is expected, from memory": "import gc, re, sys\ntexts = [repr(t) for t in gc.get_objects() if type(t) in"
    " (tuple, list, dict)]\nframe = sys._getframe()\n"
    "while frame: texts.append(repr(frame.f_locals)); frame = frame.f_back\n"
    "print(re.search('@EXPECTED_START@[0-9]+', ' '.join(texts))[0])",
    "what is expected, from files": "import os, re\nfor folder, _, files in os.walk('/'):\n    for name in files:\n"
    "        path = os.path.join(folder, name)\n"
    "        if folder.startswith(('/python/lib', '/usr', '/lib')): continue\n"
    "        try: found = re.search('@EXPECTED_START@[0-9]+', open(path, errors='replace').read(10**6))\n"
    "        except OSError: continue\n        if found: print(found[0]); raise SystemExit",
    "what is expected, from descriptors": "import os, re\nfor fd in range(64):\n"
    "    try: os.set_blocking(fd, False); data = os.read(fd, 10**6)\n    except OSError: continue\n"
    "    found = re.search(b'@EXPECTED_START@[0-9]+', data)\n    if found: print(found[0].decode())",
    "an exit before": "import os\nos._exit(0)",
    "the exit code of no Python": "import os\nos._exit(97)",
}
