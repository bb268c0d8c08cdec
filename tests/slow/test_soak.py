"""A thousand steps: memory, files and processes stay where they were after the first hundred."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

STEPS = 1000
RECIPE = {
    "model": "nano",
    "task": "dag",
    "prompts": "terse-v1",
    "steps": STEPS,
    "save_every": 100,
    "keep_last": 2,
    "dtype": "float32",
    "threads": 1,
    "verifier": "math",
    "sampling": {"problems": 2, "group_size": 4, "max_new_tokens": 70},
    "optim": {"lr": 1e-5},
    "eval": {"problems": 4, "samples": 1, "every": 200},
}


def watch(process: int) -> tuple[int, int, int]:
    """(resident bytes, open files, child processes) of a process."""
    place = Path("/proc") / str(process)
    resident = int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    children = (place / "task" / str(process) / "children").read_text().split()
    return resident, len(list((place / "fd").iterdir())), len(children)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_thousand_steps_leak_nothing(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "output_dir": str(tmp_path / "run")}))
    command = [sys.executable, "-m", "kintsugi.cli", "train", str(tmp_path / "recipe.yaml")]
    seen: dict[int, tuple[int, int, int]] = {}
    metrics = tmp_path / "run" / "metrics.jsonl"
    own = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=own) as process:
        while process.poll() is None:
            time.sleep(0.5)
            if metrics.exists() and process.poll() is None:
                lines = metrics.read_text().splitlines()
                if len(lines) > 1:
                    seen[len(lines)] = watch(process.pid)
    assert process.returncode == 0
    warm = {step: found for step, found in seen.items() if 100 <= step < STEPS}
    assert len(warm) > 50
    first = [found[0] for step, found in warm.items() if step < 200]
    last = [found[0] for step, found in warm.items() if step >= STEPS - 100]
    growth = max(last) / max(first) - 1
    size = sum(
        f.stat().st_size
        for f in (tmp_path / "run").rglob("*")
        if f.is_file() and "checkpoints" not in f.parts
    )
    print(f"\nresident {max(first) / 2**20:.0f} -> {max(last) / 2**20:.0f} MiB ({growth:+.1%}), "
          f"files {sorted({f[1] for f in warm.values()})}, children {sorted({f[2] for f in warm.values()})}, "
          f"{size / STEPS / 1000:.1f} kB a step beside checkpoints, report included")  # fmt: skip
    assert growth < 0.05
    early, late = (
        [found[1] for step, found in warm.items() if (step < 500) == half] for half in (True, False)
    )
    assert max(late) <= max(early) + 2  # a table may just be written
    assert max(f[2] for f in warm.values()) <= 1  # math-verify's worker, once it is needed
    kept = sorted(int(p.name[-6:]) for p in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert kept[-2:] == [900, 1000] and len(kept) <= 3
    assert json.loads(metrics.read_text().splitlines()[-1])["step"] == STEPS
