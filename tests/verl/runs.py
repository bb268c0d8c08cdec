"""One verl run on this machine's CPU, in processes of its own, and what it printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from kintsugi.models.loading import NANO_DIR
from kintsugi.tasks.dag import DagTask

HERE = Path(__file__).parent
REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return float(solution_str.rpartition("#### ")[2].strip() == ground_truth)
"""


def write_data(folder: Path, problems: int = 64) -> None:
    """train.parquet and val.parquet in verl's columns, and a reward function as verl's users write them."""
    for name, found in {"train": DagTask().train()[:problems], "val": DagTask().evaluation()[:16]}.items():
        rows = [
            {
                "data_source": "dag",
                "prompt": [{"role": "user", "content": p.prompt}],
                "reward_model": {"style": "rule", "ground_truth": p.answer},
                "extra_info": {"index": i},
            }
            for i, p in enumerate(found)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    (folder / "reward.py").write_text(REWARD)


def settings(folder: Path, workers: int = 1, steps: int = 3, **own: object) -> list[str]:
    """A run of IOP on the nano model as Hydra is told it; `own` are settings in place of these."""
    told = {
        "+kintsugi": "default",
        "kintsugi.algorithm.name": "iop",
        "kintsugi.prompts": "terse-v1",
        "data.train_files": str(folder / "train.parquet"),
        "data.val_files": str(folder / "val.parquet"),
        "data.train_batch_size": 4,
        "data.max_prompt_length": 64,
        "data.max_response_length": 80,
        "data.dataloader_num_workers": 0,
        "data.seed": 1,
        "reward.custom_reward_function.path": str(folder / "reward.py"),
        "reward.custom_reward_function.name": "compute_score",
        "actor_rollout_ref.model.path": str(NANO_DIR),
        "+actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
        "actor_rollout_ref.model.use_remove_padding": False,
        "actor_rollout_ref.model.enable_gradient_checkpointing": False,
        "actor_rollout_ref.actor.strategy": "fsdp2",
        "actor_rollout_ref.actor.fsdp_config.dtype": "float32",
        "actor_rollout_ref.actor.fsdp_config.use_torch_compile": False,
        "actor_rollout_ref.actor.use_torch_compile": False,
        "+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype": "fp32",
        "+actor_rollout_ref.actor.fsdp_config.mixed_precision.reduce_dtype": "fp32",
        "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
        "actor_rollout_ref.actor.use_dynamic_bsz": True,
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": 4096,
        "actor_rollout_ref.actor.optim.lr": 3e-5,
        "actor_rollout_ref.rollout.name": "hf_cpu",
        "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
        "actor_rollout_ref.rollout.agent.num_workers": workers,
        "actor_rollout_ref.rollout.free_cache_engine": False,
        "trainer.n_gpus_per_node": workers,
        "trainer.device": "cpu",
        "trainer.logger": "[console,file]",
        "trainer.total_training_steps": steps,
        "trainer.save_freq": 1,
        "trainer.val_before_train": False,
        "trainer.default_local_dir": str(folder / "checkpoints"),
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
        "ray_kwargs.ray_init.num_cpus": 16,  # what verl's actors reserve, not what they use
        "+ray_kwargs.ray_init.num_gpus": workers,
        "+ray_kwargs.ray_init.object_store_memory": 300_000_000,
        "+ray_kwargs.ray_init.include_dashboard": False,
        "+ray_kwargs.ray_init._node_ip_address": "127.0.0.1",
    }
    return [f"{key}={value}" for key, value in {**told, **own}.items()]


def command(folder: Path, workers: int = 1, steps: int = 3, **own: object) -> list[str]:
    where = ["hydra.searchpath=[pkg://kintsugi.bridges.conf]", f"hydra.run.dir={folder / 'hydra'}"]
    return [sys.executable, "-m", "verl.trainer.main_ppo", *where, *settings(folder, workers, steps, **own)]


def environment(folder: Path, name: str) -> Mapping[str, str]:
    groups = folder / f"groups-{name}"
    groups.mkdir()
    return os.environ | {
        "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0",
        "VERL_PLATFORM": "cpu", "VERL_USE_EXTERNAL_MODULES": "cpu_shim",
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "HF_HUB_OFFLINE": "1",
        "VERL_FILE_LOGGER_PATH": str(folder / f"{name}.jsonl"), "KINTSUGI_GROUPS": str(groups), "HYDRA_FULL_ERROR": "1",
    }  # fmt: skip


@dataclass(slots=True)
class Run:
    """A run in a process group of its own, writing to `log`."""

    process: subprocess.Popen[bytes]
    folder: Path
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, sign: Callable[[], Any], seconds: float = 300) -> Any:
        """What `sign` returns once that is true; fails where the run ends before, or time does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := sign():
                return found
            assert self.process.poll() is None, self.text[-4000:]
            time.sleep(0.2)
        raise AssertionError(f"nothing came in {seconds} s: {self.text[-4000:]}")

    def finish(self, seconds: float = 300) -> int:
        return self.process.wait(timeout=seconds)

    def stop(self) -> None:
        """Ends the run if it still goes on; Ray ends its own processes with it."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=30)
            self.process.kill()

    def metrics(self) -> list[dict[str, float]]:
        return metrics_of(self.log.with_suffix(".jsonl"))

    def listening(self) -> set[str]:
        """The addresses on which this run's processes accept connections."""
        me = psutil.Process(self.process.pid)
        own = {me.pid, *(child.pid for child in me.children(recursive=True))}
        found = [c for c in psutil.net_connections("inet") if c.status == "LISTEN" and c.pid in own]
        return {c.laddr.ip.removeprefix("::ffff:") for c in found}

    def saved(self) -> int:
        path = self.folder / "checkpoints" / "latest_checkpointed_iteration.txt"
        return int(path.read_text() or 0) if path.is_file() else 0


def metrics_of(path: Path) -> list[dict[str, float]]:
    """verl's metrics, step by step, from its file logger."""
    written = path.read_text().splitlines(keepends=True) if path.is_file() else []
    lines = [
        json.loads(line) for line in written if line.endswith("\n")
    ]  # a killed run may leave half a line
    return [{"step": line["step"], **line["data"]} for line in lines]


@contextmanager
def started(folder: Path, name: str, workers: int = 1, steps: int = 3, **own: object) -> Iterator[Run]:
    """A run, or the one in the folder gone on with; it is ended with the block."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(folder, workers, steps, **own), stdout=out, stderr=subprocess.STDOUT, cwd=folder,
            env=environment(folder, name), start_new_session=True,
        )  # fmt: skip
    os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:2])
    run = Run(process, folder, log)
    try:
        yield run
    finally:
        run.stop()
