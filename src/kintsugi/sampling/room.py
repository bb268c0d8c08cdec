"""The problems that leave a model room to answer. Tokens are counted only where a text's length leaves a doubt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import chain

from kintsugi.models.codec import HFCodec
from kintsugi.prompts import Prompts
from kintsugi.records import Problem

CHUNK = 2_000
"""Prompts that are tokenised together, and after which a long count is told of."""

WIDEST = 6
"""Tokens that a byte of text beyond ASCII may come to once a tokenizer has normalised it (one sign for a phrase)."""

TURN = 32
"""Tokens that a chat template may put around a turn."""


def fitting(
    problems: Sequence[Problem],
    codec: HFCodec,
    prompts: Prompts,
    room: int | None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> tuple[list[Problem], list[Problem]]:
    """(problems whose prompts are of at most `room` tokens, the others), both in order; None: there is no limit.

    A count of more than CHUNK prompts takes its time: `say` gets a line for each CHUNK of them.
    """
    if room is None:
        return list(problems), []
    frame = len(codec.chat(*prompts.solving("?", None)))
    doubted = [p for p in problems if frame + at_most(p) > room]
    long: set[int] = set()
    for start in range(0, len(doubted), CHUNK):
        if len(doubted) > CHUNK:
            say(f"counting tokens: {start:,} of {len(doubted):,} prompts")
        chunk = doubted[start : start + CHUNK]
        lengths = codec.lengths([prompts.solving(p.prompt, p.before) for p in chunk])
        long |= {id(p) for p, length in zip(chunk, lengths, strict=True) if length > room}
    return [p for p in problems if id(p) not in long], [p for p in problems if id(p) in long]


def at_most(problem: Problem) -> int:
    """More tokens than the problem can add to a prompt: a character of ASCII is one at most."""
    before = problem.before or ()
    texts = chain((problem.prompt,), (turn.content for turn in before))
    return sum(map(widest, texts)) + TURN * (1 + len(before))


def widest(text: str) -> int:
    return len(text) if text.isascii() else WIDEST * len(text.encode())


def left_out(what: str, long: Sequence[Problem], room: int | None) -> list[str]:
    """The note, if any, that says which problems are too long; an id may hold what a terminal would act on."""
    named = ", ".join(repr(p.id)[1:-1] for p in long[:3]) + ", ..." * (len(long) > 3)
    return [f"{len(long)} {what} problems do not fit {room} tokens: left out ({named})"] if long else []
