"""What verl 0.9 needs to run on a CPU: a platform, gloo once instead of twice, and a rollout server that samples with
Kintsugi's local engine. verl imports this in every process (VERL_USE_EXTERNAL_MODULES); nothing of it is for users.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import ray
import torch
from ray._private import services
from verl.plugin.platform import PlatformBase, PlatformRegistry
from verl.workers.rollout import base
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput

# FSDP's engines are registered for CUDA; on a CPU they work as they are.
os.environ["VERL_ENGINE_DEVICE"] = "cuda"
HF = "hf_cpu"


def nothing(*_: Any, **__: Any) -> None:
    return None


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """A CPU that Ray counts as GPUs (ray_init.num_gpus), so that verl's placement needs no change."""

    device_name, vendor_name = "cpu", "cpu"
    device_module = SimpleNamespace(
        **dict.fromkeys(("empty_cache", "synchronize", "set_device", "reset_peak_memory_stats"), nothing),
        **dict.fromkeys(("max_memory_allocated", "max_memory_reserved", "memory_allocated"), lambda *_: 0),
        memory_reserved=lambda *_: 0, mem_get_info=lambda *_: (0, 0), is_available=lambda: True,
        manual_seed=torch.manual_seed, manual_seed_all=torch.manual_seed, current_device=lambda: "cpu",
        device_count=lambda: 1, get_rng_state=torch.get_rng_state, set_rng_state=torch.set_rng_state,
        get_device_name=lambda *_: "cpu",
    )  # fmt: skip

    def is_available(self) -> bool:
        return True

    def current_device(self) -> Any:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    @contextmanager
    def nvtx_range(self, msg: str):  # type: ignore[no-untyped-def]
        yield

    set_device = synchronize = set_allocator_settings = empty_cache = nothing
    profiler_start = profiler_stop = cudart = nothing

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed


own_group = torch.distributed.init_process_group


def init_process_group(backend: str | None = None, **kwargs: Any) -> None:
    """gloo, whose processes meet in a file: torch's store would listen on every address."""
    if "KINTSUGI_GROUPS" in os.environ:
        place = f"{os.environ['KINTSUGI_GROUPS']}/group-{os.environ['MASTER_PORT']}"
        kwargs["init_method"] = f"file://{place}"
    own_group(backend="gloo" if backend == "cpu:gloo,cpu:gloo" else backend, **kwargs)


torch.distributed.init_process_group = init_process_group  # type: ignore[assignment]
# Ray puts the machine's outside address in place of 127.0.0.1, and then listens on all of them.
services.resolve_ip_for_localhost = lambda host: host


@ray.remote(num_cpus=0)
class Server:
    """A rollout server: Kintsugi's local engine over the trainer's weights. `pid` is for those who kill it."""

    def __init__(self, path: str) -> None:
        from kintsugi.models.loading import load_model
        from kintsugi.sampling.local import LocalSampler

        torch.set_num_threads(1)
        loaded = load_model(path, device="cpu")
        self.model, self.version = loaded.model.eval(), 0
        self.stops = loaded.codec.stop_ids
        self.sampler = LocalSampler(self.model, loaded.tokenizer.pad_token_id, version=lambda: self.version)
        self.waiting: list[tuple[Any, asyncio.Future[Any]]] = []

    def pid(self) -> int:
        return os.getpid()

    async def serve(self) -> None:
        """Answers what has come within a hundredth of a second together."""
        from kintsugi.sampling.base import generate

        await asyncio.sleep(0.01)
        waiting, self.waiting = self.waiting, []
        answers = generate(self.sampler, [request for request, _ in waiting])
        for (_, future), found in zip(waiting, answers, strict=True):
            future.set_result(found)

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, **_: Any
    ) -> TokenOutput:
        from kintsugi.sampling.base import Request, SamplingParams

        params = SamplingParams(
            sampling_params.get("max_tokens", 80),
            sampling_params["temperature"],
            sampling_params["top_p"],
            sampling_params.get("seed", 0),
            tuple(sampling_params.get("stop_token_ids", self.stops)),
        )
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append((Request(tuple(prompt_ids), params), future))
        if len(self.waiting) == 1:
            self.serving = asyncio.create_task(self.serve())
        (found,) = await future
        return TokenOutput(
            token_ids=list(found.token_ids),
            log_probs=list(found.logprobs),
            stop_reason="completed",
            extra_fields={"global_steps": self.version},
        )

    async def update_weights(self, weights: dict[str, Any], version: int | None) -> None:
        missing, unexpected = self.model.load_state_dict(
            {k: torch.from_numpy(v) for k, v in weights.items()}, strict=False
        )
        assert not unexpected and all("lm_head" in key for key in missing), (missing, unexpected)
        self.version = version or 0

    async def sleep(self) -> None: ...
    async def wake_up(self) -> None: ...
    async def abort_all_requests(self, **_: Any) -> None: ...
    async def resume_generation(self) -> None: ...
    async def clear_kv_cache(self) -> None: ...
    async def start_profile(self, **_: Any) -> None: ...
    async def stop_profile(self) -> None: ...


class Replica(RolloutReplica):
    async def launch_servers(self) -> None:
        name = f"{HF}_{self.replica_rank}"
        self._server_handle = Server.options(name=name, max_concurrency=1000).remote(self.model_config.path)  # type: ignore[attr-defined]
        pid = await self._server_handle.pid.remote()
        print(f"rollout server {self.replica_rank}: pid {pid}", flush=True)
        self.servers, self._server_address = [self._server_handle], f"{name}:0"


class Rollout(BaseRollout):
    """In each trainer process: hands its weights to the server of its rank."""

    async def resume(self, tags: list[str]) -> None: ...
    async def release(self) -> None: ...

    async def update_weights(self, weights: Any, wire_format: str = "named_tensors", **kwargs: Any) -> None:
        found = {name: value.detach().cpu().float().numpy() for name, value in weights}
        server = ray.get_actor(f"{HF}_{torch.distributed.get_rank()}")
        await server.update_weights.remote(found, kwargs.get("global_steps"))


RolloutReplicaRegistry.register(HF, lambda: Replica)
base._ROLLOUT_REGISTRY[(HF, "async")] = f"{__name__}.Rollout"
