"""The benches: each returns the fields of one row. See benchmarks/performance.md for what they are to show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.engine.lab import (
    SPLITS,
    Answer,
    Lab,
    Work,
    fastest,
    seconds_of,
    take_turns,
)
from benchmarks.engine.results import Row, compared, medians, paired, rounded

SQUARE = 2048
"""Side of the product that the machine's matmul rate is measured with."""
MENDERS: dict[str, Mapping[str, Any]] = {
    "iop": {"name": "iop", "k": 1, "lambda_rep": 5},
    "kintsugi": {"name": "kintsugi"},
}
WORKLOADS = {"equal": (6, 6), "ragged": (1, 13)}
"""The fewest and most steps of a problem, eight tokens each: ragged completions have 11 to 107 tokens."""
ENGINES: dict[str, Mapping[str, Any]] = {
    "local": {"name": "local"},
    "vllm": {"name": "vllm", "memory": 1.0, "max_model_len": 1024},
}


def step(lab: Lab, work: Work, pairs: int, tune: bool = True) -> Row:
    """A whole GRPO step beside TRL's, each side at its fastest number of micro-batches."""
    splits = SPLITS if tune else (1,)
    our_split, our_tries = fastest(lab.ours, lambda w, s: lab.set_up_ours(w, work, s), splits)
    their_split, their_tries = fastest(lab.theirs, lambda w, s: lab.set_up_theirs(w, work, s), splits)
    with lab.both() as (a, b):
        held = lab.set_up_ours(a, work, our_split), lab.set_up_theirs(b, work, their_split)
        found = take_turns(lambda i: a.ask("step"), lambda i: b.ask("step"), lab.turns(pairs))
        versions = b.ask("versions")
    ours, theirs = (medians(answers) for answers in found)
    if work.prompt_tokens and ours["generated"] != theirs["generated"]:
        raise RuntimeError(f"generated tokens differ: {ours['generated']} and {theirs['generated']}")
    return {
        **compared(*found),
        "peer": f"trl {versions['trl']} GRPOTrainer",
        "parameters": lab.model(work.size)[1],
        **shape(work),
        "phases": {
            part: paired([a[part] for a in found[0]], [b[part] for b in found[1]])
            for part in ("sampling", "training")
        },
        "tokens_per_s": [rounded(side["generated"] / side["seconds"]) for side in (ours, theirs)],
        "generated": [ours["generated"], theirs["generated"]],
        "peak_mib": [ours["peak"], theirs["peak"]],
        "step_mib": [
            rounded(side["peak"] - before["resident"])
            for side, before in zip((ours, theirs), held, strict=True)
        ],
        "micro_batches": [our_split, their_split],
        "tries": [our_tries, their_tries],
        "versions": dict(versions),
    }


def generate(lab: Lab, work: Work, pairs: int) -> Row:
    """Continuations of prompts beside transformers' `generate`, which TRL samples with."""
    with lab.both() as (a, b):
        # The learner is not used here, but a group of one is no GRPO.
        lab.set_up_ours(a, replace(work, group=max(2, work.group)))
        b.ask("load", model=lab.model(work.size)[0], device=lab.device)
        asked = {"prompts": a.ask("prompts")["ids"], "n": work.group, "new_tokens": work.new_tokens}
        found = take_turns(
            lambda i: a.ask("generate", **asked, seed=2**20 + i),
            lambda i: b.ask("generate", **asked, seed=2**20 + i),
            lab.turns(pairs),
        )
        versions = b.ask("versions")
    ours, theirs = (medians(answers) for answers in found)
    if not ours["generated"] == theirs["generated"] == work.rows * work.new_tokens:
        raise RuntimeError(f"generated tokens differ: {ours['generated']} and {theirs['generated']}")
    return {
        **compared(*found),
        "peer": f"transformers {versions['transformers']} generate",
        **shape(work),
        "tokens_per_s": [rounded(side["generated"] / side["seconds"]) for side in (ours, theirs)],
        "peak_mib": [ours["peak"], theirs["peak"]],
    }


def mending(
    lab: Lab, name: str, workload: str, engine: str, pairs: int, size: str = "nano", problems: int = 12
) -> Row:
    """A mending step beside a GRPO step of the same tokens, per generated token; shares of it by phase.

    Both on one engine, with the quickstart's task and the shipped model, widened to `size`. GRPO's group is as large as
    makes it generate what the other does with repairs and checks; what is left of the difference is taken out per
    token. IOP keeps K = 1 edits, for one wrong digit is one token.
    """
    steps, algorithm = WORKLOADS[workload], MENDERS[name]
    work = Work(f"{size}-dag", problems, 8, 120, None, steps)
    common = {
        "task": {"name": "dag", "steps": list(steps)},
        "verifier": None,
        "optim": {"token_budget": 16384},
        "engine": dict(ENGINES[engine]),
    }
    mend = {"algorithm": dict(algorithm)}
    with lab.ours(engine) as a, lab.ours(engine) as b:
        lab.set_up_ours(a, work, **common, **mend)
        a.ask("time_alignment")
        first = [a.ask("step")["tokens"] for _ in range(5)]
        more = sum(t["generated"] for t in first) / sum(t["rollout"] for t in first)
        group = round(8 * more)
        lab.set_up_ours(b, replace(work, group=group), **common)
        aligned = []

        def mended(i: int) -> Answer:
            a.ask("alignment")
            answer = a.ask("step")
            aligned.append(a.ask("alignment")["seconds"] / answer["seconds"])
            return answer

        found = take_turns(mended, lambda i: b.ask("step"), lab.turns(pairs), warm_up=2)
    ours, theirs = (medians(answers) for answers in found)
    tokens = [x["generated"] / y["generated"] for x, y in zip(*found, strict=True)]
    level = [
        {key: y[key] * more for key in ("seconds", "cpu")} for y, more in zip(found[1], tokens, strict=True)
    ]
    shares = medians([shares_of(answer) for answer in found[0]])
    return {
        **compared(found[0], level),
        "name": mending_name(size, name, workload, engine),
        "size": size,
        "problems": problems,
        "algorithm": name,
        "workload": workload,
        "engine": engine,
        "load": rounded(os.getloadavg()[1]),
        "passes": [ours["passes"], theirs["passes"]],
        **({"fed": [ours["fed"], theirs["fed"]]} if engine == "local" else {}),
        "peer": f"grpo, group of {group}, seconds per generated token",
        "generated": [ours["generated"], theirs["generated"]],
        "seconds": {name: ours["seconds"], "grpo": theirs["seconds"]},
        "training": [ours["training"], theirs["training"]],
        "tokens": ours["tokens"],
        "share_of_seconds": {**shares, "alignment": rounded(median(aligned[2:]))},
        "share_of_tokens": {
            k: rounded(ours["tokens"][k] / ours["generated"]) for k in ("rollout", "repair", "check")
        },
    }


def mending_name(size: str, name: str, workload: str, engine: str) -> str:
    """What the plan calls this bench."""
    return f"{size}-{name}-{workload}" + f"-{engine}" * (engine != "local")


def shares_of(answer: Answer) -> dict[str, float]:
    """Each phase's part of a step's seconds; `other` is credit, writing down and whatever else there is."""
    shares = {phase: seconds / answer["seconds"] for phase, seconds in answer["phases"].items()}
    return {**shares, "other": 1 - sum(shares.values())}


def learner(lab: Lab, work: Work, turns: int) -> Row:
    """Forward, backward and optimizer beside the time that their FLOPs take at the machine's matmul rate."""
    with lab.ours() as worker:
        lab.set_up_ours(worker, work)
        worker.ask("learn", **rows_of(work))
        steps, rates = [], []
        for i in range(lab.turns(turns)):
            rates.append(worker.ask("matmul", m=SQUARE, k=SQUARE, n=SQUARE)["flops_per_second"])
            steps.append(worker.ask("learn", **rows_of(work), seed=i))
    found = paired(seconds_of(steps), [s["flops"] / rate for s, rate in zip(steps, rates, strict=True)])
    return {
        **found,
        "peer": f"matmul of {SQUARE} x {SQUARE} x {SQUARE}",
        "parameters": lab.model(work.size)[1],
        **shape(work),
        "gflops": rounded(steps[0]["flops"] / found["ours_s"] / 1e9),
        "matmul_gflops": rounded(median(rates) / 1e9),
        "fraction": rounded(1 / found["ratio"]),
    }


def learner_memory(lab: Lab, work: Work) -> Row:
    """Peak memory of a fresh process that trains one micro-batch of these rows."""
    with lab.ours() as worker:
        held = lab.set_up_ours(worker, replace(work, group=2), optim={"token_budget": work.tokens})
        answer = worker.ask("learn", **rows_of(work))
    return {
        "ours_s": rounded(answer["seconds"]),
        "theirs_s": None,
        "ratio": None,
        "peer": "none",
        **shape(work),
        "tokens": work.tokens,
        "peak_mib": rounded(answer["peak"]),
        "step_mib": rounded(answer["peak"] - held["resident"]),
    }


def rows_of(work: Work) -> dict[str, Any]:
    return {
        "rows": work.rows,
        "prompt_tokens": work.prompt_tokens,
        "completion_tokens": work.new_tokens,
    }


def shape(work: Work) -> Row:
    """What a row says about its work."""
    return {
        "problems": work.problems,
        "group": work.group,
        "prompt_tokens": work.prompt_tokens,
        "new_tokens": work.new_tokens,
    }


def align(lab: Lab, length: int, edited: float) -> Row:
    """Alignment, gates and graft of two sequences of this length: the best of three fresh processes."""
    answers = []
    for _ in range(3):
        with lab.ours() as worker:
            worker.ask("align", length=64, edited=edited)
            answers.append(worker.ask("align", length=length, edited=edited))
    return {
        "ours_s": rounded(min(seconds_of(answers))),
        "cpu_s": rounded(min(answer["cpu"] for answer in answers)),
        "theirs_s": None,
        "ratio": None,
        "peer": "none",
        "length": length,
        "edited": edited,
        "edits": answers[0]["edits"],
        "mib": rounded(max(answer["mib"] for answer in answers)),
    }


def continuous(lab: Lab, work: Work) -> Row:
    """TRL's step with transformers' continuous batching beside TRL's step as it is measured elsewhere."""
    with lab.theirs() as a, lab.theirs() as b:
        lab.set_up_theirs(a, work, use_transformers_continuous_batching=True), lab.set_up_theirs(b, work)
        found = take_turns(lambda i: a.ask("step"), lambda i: b.ask("step"), 1, warm_up=1)
    both = [medians(answers) for answers in found]
    return {
        **compared(*found),
        "peer": "TRL with transformers' generate (ours_s: with continuous batching)",
        "peak_mib": [side["peak"] for side in both],
    }


def malloc(lab: Lab, work: Work, pairs: int) -> Row:
    """A step with freed memory kept in the process (what every run does) beside one with glibc's defaults."""
    with lab.ours() as a, lab.ours() as b:
        b.ask("default_malloc")
        lab.set_up_ours(a, work), lab.set_up_ours(b, work)
        found = take_turns(lambda i: a.ask("step"), lambda i: b.ask("step"), lab.turns(pairs), warm_up=3)
    ours, theirs = (medians(answers) for answers in found)
    return {
        **compared(*found),
        "peer": "glibc's malloc defaults",
        "phases": {
            part: paired([a[part] for a in found[0]], [b[part] for b in found[1]])
            for part in ("sampling", "training")
        },
        "peak_mib": [ours["peak"], theirs["peak"]],
    }
