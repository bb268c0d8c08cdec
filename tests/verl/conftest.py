"""verl on a CPU: what this process and the runs that it starts are told before verl is imported."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "bridges"))
os.environ |= {
    "VERL_PLATFORM": "cpu", "VERL_USE_EXTERNAL_MODULES": "cpu_shim", "RAY_AUTH_MODE": "disabled",
}  # fmt: skip
collect_ignore_glob = [] if importlib.util.find_spec("verl") else ["test_*.py"]
