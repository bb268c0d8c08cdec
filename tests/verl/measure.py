"""Tokens per second with 1 and 2 workers on this machine, as docs/verl.md has them (about 8 minutes):

.venv-verl/bin/python tests/verl/measure.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from runs import started, write_data

PROBLEMS = 96
LARGE = {
    "data.train_batch_size": PROBLEMS,
    "actor_rollout_ref.actor.ppo_mini_batch_size": PROBLEMS,
    "trainer.save_freq": -1,
}


def main() -> None:
    """One line a step; the first of a run also holds what happens once."""
    parts = {
        "gen": "generation",
        "old_log_prob": "old log-probabilities",
        "update_actor": "update",
        "step": "step",
    }
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_data(folder, problems=PROBLEMS)
            with started(folder, "measured", workers=workers, steps=3, **LARGE) as run:
                assert run.finish(600) == 0, run.text[-4000:]
            for line in run.metrics():
                tokens = line["kintsugi/tokens/generated"]
                spent = ", ".join(f"{name} {line[f'timing_s/{key}']:.1f} s" for key, name in parts.items())
                print(f"{workers} workers, step {line['step']}: {tokens:.0f} tokens, {spent}, "
                    f"{tokens / line['timing_s/step']:.0f} tokens/s")  # fmt: skip


if __name__ == "__main__":
    main()
