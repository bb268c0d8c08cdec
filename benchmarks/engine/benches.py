"""The benches: each returns the fields of one row. See docs/performance.md for what they are to show."""

from __future__ import annotations

from benchmarks.engine.lab import (
    LEARNING_RATE,
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
        "problems": work.problems,
        "group": work.group,
        "prompt_tokens": work.prompt_tokens,
        "new_tokens": work.new_tokens,
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


def generate(
    lab: Lab, size: str, prompts: int, n: int, prompt_tokens: int, new_tokens: int, pairs: int
) -> Row:
    """n continuations of each of some prompts, beside transformers' `generate`, which TRL samples with."""
    work = Work(size, prompts, n, new_tokens, prompt_tokens)
    with lab.both() as (a, b):
        lab.set_up_ours(a, work)
        b.ask("load", model=lab.model(size)[0], device=lab.device)
        ids = a.ask("prompts")["ids"]
        asked = {"prompts": ids, "n": n, "new_tokens": new_tokens}
        found = take_turns(
            lambda i: a.ask("generate", **asked, seed=2**20 + i),
            lambda i: b.ask("generate", **asked, seed=2**20 + i),
            lab.turns(pairs),
        )
        versions = b.ask("versions")
    ours, theirs = (medians(answers) for answers in found)
    if ours["generated"] != theirs["generated"] or ours["generated"] != prompts * n * new_tokens:
        raise RuntimeError(f"generated tokens differ: {ours['generated']} and {theirs['generated']}")
    return {
        **compared(*found),
        "peer": f"transformers {versions['transformers']} generate",
        "prompts": prompts,
        "n": n,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "tokens_per_s": [rounded(side["generated"] / side["seconds"]) for side in (ours, theirs)],
        "peak_mib": [ours["peak"], theirs["peak"]],
    }


def iop(lab: Lab, pairs: int) -> Row:
    """An IOP step beside a GRPO step of the same tokens, per generated token; shares of an IOP step by phase.

    Both with the quickstart's settings and the shipped model. GRPO's group is as large as makes it generate
    what IOP does with repairs and checks; what is left of the difference is taken out per token.
    """
    work = Work("nano-dag", 12, 8, 80, None)
    common = {"task": "dag", "verifier": None, "optim": {"lr": LEARNING_RATE}}
    mend = {"algorithm": "iop", "repair": {"k": 1, "lambda_rep": 5}}
    with lab.ours() as a, lab.ours() as b:
        lab.set_up_ours(a, work, **common, **mend)
        a.ask("time_alignment")
        first = [a.ask("step")["tokens"] for _ in range(5)]
        more = sum(t["generated"] for t in first) / sum(t["rollout"] for t in first)
        group = round(8 * more)
        lab.set_up_ours(b, Work("nano-dag", 12, group, 80, None), **common)
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
    phases = {k: v / ours["seconds"] for k, v in ours["phases"].items()}
    return {
        **compared(found[0], level),
        "peer": f"grpo, group of {group}, seconds per generated token",
        "generated": [ours["generated"], theirs["generated"]],
        "seconds": {"iop": ours["seconds"], "grpo": theirs["seconds"]},
        "training": [ours["training"], theirs["training"]],
        "tokens": ours["tokens"],
        "share_of_seconds": {
            **{k: rounded(v) for k, v in phases.items()},
            "other": rounded(1 - sum(phases.values())),
            "alignment": rounded(sorted(aligned)[len(aligned) // 2]),
        },
        "share_of_tokens": {
            k: rounded(ours["tokens"][k] / ours["generated"]) for k in ("rollout", "repair", "check")
        },
    }


def learner(lab: Lab, size: str, rows: int, prompt_tokens: int, new_tokens: int, turns: int) -> Row:
    """Forward, backward and optimizer beside the time that their FLOPs take at the machine's matmul rate."""
    work = Work(size, 1, 2, new_tokens, prompt_tokens)
    tokens = rows * (prompt_tokens + new_tokens)
    model, parameters = lab.model(size)
    with lab.ours() as worker:
        lab.set_up_ours(worker, work, optim={"lr": LEARNING_RATE, "token_budget": tokens})
        shape = {"rows": rows, "prompt_tokens": prompt_tokens, "completion_tokens": new_tokens}
        worker.ask("learn", **shape)
        steps, rates = [], []
        for i in range(lab.turns(turns)):
            rates.append(worker.ask("matmul", m=SQUARE, k=SQUARE, n=SQUARE)["flops_per_second"])
            steps.append(worker.ask("learn", **shape, seed=i))
    ideal = [s["flops"] / rate for s, rate in zip(steps, rates, strict=True)]
    found = paired(seconds_of(steps), ideal)
    return {
        **found,
        "peer": f"matmul of {SQUARE} x {SQUARE} x {SQUARE}",
        "parameters": parameters,
        "tokens": tokens,
        "gflops": rounded(steps[0]["flops"] / found["ours_s"] / 1e9),
        "matmul_gflops": rounded(sorted(rates)[len(rates) // 2] / 1e9),
        "fraction": rounded(1 / found["ratio"]),
    }


def learner_memory(lab: Lab, size: str, rows: int, prompt_tokens: int, new_tokens: int) -> Row:
    """Peak memory of a fresh process that trains one micro-batch of these rows."""
    work = Work(size, 1, 2, 16, 16)
    tokens = rows * (prompt_tokens + new_tokens)
    with lab.ours() as worker:
        held = lab.set_up_ours(worker, work, optim={"lr": LEARNING_RATE, "token_budget": tokens})
        answer = worker.ask("learn", rows=rows, prompt_tokens=prompt_tokens, completion_tokens=new_tokens)
    return {
        "ours_s": rounded(answer["seconds"]),
        "theirs_s": None,
        "ratio": None,
        "peer": "none",
        "rows": rows,
        "tokens": tokens,
        "peak_mib": rounded(answer["peak"]),
        "step_mib": rounded(answer["peak"] - held["resident"]),
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
        "theirs_s": None,
        "ratio": None,
        "peer": "none",
        "length": length,
        "edited": edited,
        "edits": answers[0]["edits"],
        "mib": rounded(max(answer["mib"] for answer in answers)),
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
