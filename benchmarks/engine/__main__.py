"""`python -m benchmarks.engine`: measures what is not measured yet at this commit, then writes the document."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

from benchmarks.engine import benches, report
from benchmarks.engine.lab import VLLM, Lab, Work, default_peer
from benchmarks.engine.pipes import ROOT
from benchmarks.engine.results import RESULTS, Book, Row, commit, machine

Plan = dict[str, Callable[[Lab], Row]]


def plan() -> Plan:
    """Every bench by `bench/size`, quick ones first."""
    step, generate, learner = benches.step, benches.generate, benches.learner
    benchmarks: Plan = {
        f"align/{length}-{name}": partial(benches.align, length=length, edited=share)
        for name, share in (("few", 0.001), ("tenth", 0.1), ("unrelated", 1.0))
        for length in (512, 2048, 8192, 32768)
    }
    benchmarks |= {
        "step/nano": partial(step, work=Work("nano", 8, 8, 64), pairs=9),
        "step/nano-dag": partial(step, work=Work("nano-dag", 12, 8, 80, None), pairs=9),
        "step/nano-ragged": partial(step, work=Work("nano-dag", 12, 8, 80, None, (1, 6)), pairs=9),
        "step/3m": partial(step, work=Work("3m", 8, 8, 64), pairs=7),
        **mending("nano", pairs=9),
        **mending("3m", pairs=5),
        "continuous/nano": partial(benches.continuous, work=Work("nano", 8, 8, 64)),
        "malloc/nano": partial(benches.malloc, work=Work("nano-dag", 12, 8, 80, None), pairs=9),
        "malloc/3m": partial(benches.malloc, work=Work("3m", 8, 8, 64), pairs=5),
        "generate/nano-shared": partial(generate, work=Work("nano", 4, 16, 64, 512), pairs=7),
        "generate/nano-apart": partial(generate, work=Work("nano", 64, 1, 64), pairs=7),
        "generate/3m-shared": partial(generate, work=Work("3m", 4, 16, 64, 512), pairs=5),
        "generate/3m-apart": partial(generate, work=Work("3m", 64, 1, 64), pairs=5),
        "learner/3m": partial(learner, work=Work("3m", 8, 8, 64), turns=5),
        "learner/30m": partial(learner, work=Work("30m", 2, 8, 64), turns=5),
    }  # fmt: skip
    benchmarks |= {
        f"memory/{kind}-{tokens}": partial(
            benches.learner_memory,
            work=Work("3m", tokens // 256, 1, 192) if kind == "rows" else Work("3m", 1, 1, tokens - 64),
        )
        for kind in ("rows", "one")
        for tokens in (1024, 2048, 4096, 8192)
    }
    return benchmarks | curves() | large()


def mending(size: str, pairs: int, problems: int = 12) -> Plan:
    """A step of either mending algorithm, at equal and at ragged lengths, beside GRPO's; on vLLM nano alone."""
    engines = benches.ENGINES if size == "nano" and VLLM.is_file() else ("local",)
    bench = partial(benches.mending, pairs=pairs, size=size, problems=problems)
    return {
        f"mending/{benches.mending_name(size, name, workload, engine)}": partial(
            bench, name=name, workload=workload, engine=engine
        )
        for name, workload, engine in product(benches.MENDERS, benches.WORKLOADS, engines)
    }


def curves() -> Plan:
    """Scaling of a step beside TRL's: over the group, the completion, the model."""
    step = partial(benches.step, pairs=3, tune=False)
    return {
        **{f"group/{g}": partial(step, work=Work("3m", 4, g, 64)) for g in (2, 4, 8, 16, 32)},
        **{f"length/{t}": partial(step, work=Work("3m", 4, 4, t)) for t in (32, 128, 512, 1024)},
        **{f"model/{size}": partial(step, work=Work(size, 2, 8, 64)) for size in ("nano", "1m", "3m", "10m", "30m")},
    }  # fmt: skip


def large() -> Plan:
    """What takes minutes each: the 135M architecture."""
    return {
        "learner/135m": partial(benches.learner, work=Work("135m", 2, 8, 64), turns=3),
        "memory/vocab152k": partial(benches.learner_memory, work=Work("135m-vocab152k", 8, 1, 240, 16)),
        "generate/135m-shared": partial(benches.generate, work=Work("135m", 2, 8, 64, 512), pairs=3),
        **mending("135m", pairs=3, problems=4),
        "step/135m": partial(benches.step, work=Work("135m", 2, 8, 64), pairs=3),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument(
        "--only", default="", help="the bench/size of this name, else those that start with it"
    )
    parser.add_argument("--pairs", type=int, help="turns of each side, instead of each bench's own number")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--list", action="store_true", help="say what there is, measure nothing")
    options = parser.parse_args()
    lab = Lab(options.device, options.threads, ROOT / "runs" / "bench", default_peer(), options.pairs)
    book = Book(options.results, machine(lab.device), commit(), lab.threads, lab.dtype)
    wanted = {name: bench for name, bench in plan().items() if name.startswith(options.only)}
    if options.only in wanted:
        wanted = {options.only: wanted[options.only]}
    failed = []
    for name, bench in wanted.items():
        kind, size = name.split("/")
        if options.list or book.has(kind, size):
            print(f"{name:28} {'measured' if book.has(kind, size) else 'to do'}", flush=True)
            continue
        start = time.perf_counter()
        try:
            row = book.add(kind, size, bench(lab))
        except RuntimeError as error:  # a worker died (out of memory, say): the others can still be measured
            failed.append(name)
            print(f"{name:28} failed: {error}", file=sys.stderr, flush=True)
            continue
        print(f"{name:28} {report.said(row)}  ({time.perf_counter() - start:.0f} s)", flush=True)
    if options.results == RESULTS and not options.list:
        report.write()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
