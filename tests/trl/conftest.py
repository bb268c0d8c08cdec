"""What the tests of all bridges share lies beside this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "bridges"))
sys.path.insert(0, str(Path(__file__).parent))

import in_torch  # noqa: F401 (before any trainer is made)
