"""Cutting a rewrite short where it has come back to the failed text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fakes import LOGPROB, STOP, encode, make_context
from test_local_sampler import build
from test_repair import PROBLEM, mend, run_iop, settings

from kintsugi.algorithms import load_algorithm
from kintsugi.engines.base import SamplingParams
from kintsugi.engines.local import LocalSampler
from kintsugi.engines.rejoin import first_return, rejoined
from kintsugi.records import Completion, Problem, Verdict


@pytest.mark.parametrize(
    ("tokens", "text", "after", "place"),
    [
        ("aXcd", "abcdef", 2, 4),  # "cd" again after X, at its own place: the rest is "ef"
        ("aXc", "abcdef", 2, None),  # one token more is needed
        ("abcd", "abcdef", 2, None),  # no difference yet: nothing to come back from
        ("aXYcd", "abcdef", 2, 4),  # one token longer than the text
        ("acd", "abcdef", 2, None),  # a token left out: before "cd" there is only "a", as in the text ...
        ("acde", "abcdef", 2, 5),  # ... "ac" is the first difference
        ("Xaaa", "baaaaaaa", 2, 4),  # of several places the nearest
        ("aXef", "abcdef", 2, 6),  # the text's end
        ("aX", "abcdef", 1, None),
        ("aXcd", "abcdef", 0, None),  # off
        ("cd" + "X" * 8 + "ab", "ab", 2, None),  # ten tokens from its place
        ("XXXXXXXXab", "ab", 2, 2),  # eight are allowed
    ],
)
def test_rejoined(tokens: str, text: str, after: int, place: int | None) -> None:
    assert rejoined(encode(tokens), encode(text), after) == place


def test_first_return() -> None:
    assert first_return(encode("aXcdef"), encode("abcdef"), 2) == 4
    assert first_return(encode("abXYZ"), encode("abcdef"), 2) is None


def test_the_local_engine_stops_a_row_that_has_rejoined_and_no_other() -> None:
    sampler = LocalSampler(build("llama"), pad_id=0)
    greedy = SamplingParams(max_new_tokens=20, temperature=0)

    async def both(*params: SamplingParams) -> list[Completion]:
        found = await asyncio.gather(*(sampler.generate((5, 9, 2), p) for p in params))
        return [completion for (completion,) in found]

    (whole,) = asyncio.run(both(greedy))
    ids = whole.token_ids
    old = ((ids[0] + 1) % 48, *ids[1:])  # differs in the first token alone
    cut = replace(greedy, rejoin=old, rejoin_after=5)
    elsewhere = replace(greedy, rejoin=tuple((i + 1) % 48 for i in ids), rejoin_after=19)
    stopped, untouched, other = asyncio.run(both(cut, greedy, elsewhere))
    end = first_return(ids, old, 5)
    assert end is not None
    assert 6 <= end < 20
    assert (stopped.token_ids, stopped.logprobs) == (ids[:end], pytest.approx(whole.logprobs[:end], abs=1e-5))
    assert stopped.finish == "stop"
    assert untouched.token_ids == other.token_ids == ids
    assert untouched.finish == other.finish == "length"


CODE, FIXED = "a=1;b=3;c=2;d=5", "a=1;b=2;c=2;d=5"


class Rejoining:
    """An engine that stops where it is asked to: "b=2;c" has come back to the failure by two tokens."""

    def __init__(self) -> None:
        self.asked: list[SamplingParams] = []

    async def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams, n: int = 1
    ) -> list[Completion]:
        self.asked.append(params)
        if "mend:" not in "".join(map(chr, prompt_ids)):
            texts = [(*encode(text), STOP) for text in (CODE, FIXED)]
        else:
            whole = (*encode(FIXED), STOP)
            cut = first_return(whole, params.rejoin, params.rejoin_after)
            texts = [whole[:cut], whole]  # an engine that cannot stop there writes on to the end
        return [Completion(ids, (LOGPROB,) * len(ids), "stop", 0) for ids in texts]


def passes_whole(problem: Problem, texts: Sequence[str]) -> list[Verdict]:
    """Judges the text as a whole, as a test suite judges a program."""
    return [Verdict.scored(float(text == FIXED)) for text in texts]


def test_the_rest_of_a_rejoined_rewrite_is_copied_from_the_failure() -> None:
    ctx, _ = make_context({}, **settings(2, rejoin=2, check="none"))
    sampler = Rejoining()
    episode = run_iop(PROBLEM, replace(ctx, sampler=sampler, verifier=passes_whole))
    cut, whole = episode.repairs
    # "a=1;b=2" differs from the failure at its last token; ";c" is back, at 9 of 15 characters.
    assert (cut.rollout.completion.token_ids, cut.tail) == (encode("a=1;b=2;c"), (*encode("=2;d=5"), STOP))
    assert whole.tail == ()
    assert cut.ids == whole.ids == (*encode(FIXED), STOP)
    assert (cut.rollout.text, cut.mends, cut.score) == (FIXED, True, whole.score)
    assert episode.tokens["repair"] == 9 + 16  # what was copied was not generated
    assert episode.seams[0].repaired_ids == (*encode(FIXED), STOP)
    rows = load_algorithm(ctx.recipe.algorithm).rows(episode)
    assert [len(row.completion_ids) for row in rows if row.role == "repair"] == [9, 16]


@pytest.mark.parametrize(("rejoin", "failed"), [(0, CODE), (2, f"{CODE}\n#### 5")])
def test_rejoining_is_asked_for_only_with_the_option_and_without_a_final_answer(
    rejoin: int, failed: str
) -> None:
    script = {"[Q]": [failed, "#### 4"], mend(failed, "#### 4"): ["#### 4", "#### 4"]}
    ctx, sampler = make_context(script, **settings(2, rejoin=rejoin, check="none"))
    run_iop(PROBLEM, ctx)
    assert [call.params.rejoin for call in sampler.calls] == [(), ()]


def test_a_mark_in_the_thoughts_is_no_final_answer() -> None:
    failed = f"<think>#### 5</think>{CODE}"
    script = {"[Q]": [failed, "#### 4"], mend(failed, "#### 4"): ["#### 4", "#### 4"]}
    ctx, sampler = make_context(script, **settings(2, rejoin=2, check="none"))
    run_iop(PROBLEM, ctx)
    assert sampler.calls[1].params.rejoin == (*encode(failed), STOP)
