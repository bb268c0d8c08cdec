"""How prompts are read: distinct ones once, in parts of like lengths, and a beginning that several share once.

Repairs of one group begin with the same question and the same anchor, and checks with the same question. Such a
beginning is read as one row; what follows it in each prompt is read on top of a copy of that row.

Shape suffixes: H shared beginnings, P distinct prompts, R rows, q tokens of one pass, K columns, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from kintsugi.sampling.batch import Decoding, Ended, overhead, width
from kintsugi.sampling.cache import joined, new_cache
from kintsugi.sampling.draft import Draft
from kintsugi.sampling.forward import Forward
from kintsugi.sampling.rows import NO_TOKEN, Rows
from kintsugi.sampling.sample import Sample

READ_TOKENS = 4096
"""The most tokens that one pass reads of prompts: what a pass needs beside the cache grows with it."""

GRAIN = 16
"""Shared beginnings are cut to multiples of so many tokens: longer ones are told apart no more finely."""

PAYS_FROM = 8
"""Beginnings are read apart where that saves more tokens than so many passes cost: their rows are copied as well. With
this at 0 the nano model reads one, three and six groups of three repair prompts, which save 3, 8 and 16 passes' tokens,
in 1.25, 1.06 and 0.96 of the time (work and clock of benchmarks/prefixes.py)."""

Prompt = tuple[int, ...]


def prefill(forward: Forward, samples: Sequence[Sample], pad_id: int) -> Iterator[tuple[Decoding, Ended]]:
    """The samples as rows that have read their prompts, in parts, and of each part those that end at once."""
    if not forward.joins:
        yield read(forward, samples, pad_id)
        return
    passing = overhead(forward.model.device)
    by_prompt: dict[Prompt, list[Sample]] = {}
    for sample in samples:
        by_prompt.setdefault(sample.prompt_ids, []).append(sample)
    shared = shared_lengths(by_prompt, passing) if forward.skips else {}
    for part in chunks({prompt: len(prompt) for prompt in by_prompt if prompt not in shared}, passing):
        yield read(forward, [s for prompt in part for s in by_prompt[prompt]], pad_id)
    heads: dict[Prompt, list[Prompt]] = {}
    for prompt, length in shared.items():
        heads.setdefault(prompt[:length], []).append(prompt)
    for some in chunks({head: len(head) for head in heads}, passing):
        beginnings = Beginnings.read(forward, {head: heads[head] for head in some}, pad_id)
        for part in chunks({p: len(p) - n for p, n in beginnings.length.items()}, passing):
            yield read(forward, [s for prompt in part for s in by_prompt[prompt]], pad_id, beginnings)


@dataclass(frozen=True, slots=True)
class Beginnings:
    """Beginnings of prompts, read once each.

    length  The number of tokens of a prompt's beginning.
    row     The place of that beginning in the cache.
    """

    length: Mapping[Prompt, int]
    row: Mapping[Prompt, int]
    cache: Any

    @classmethod
    def read(cls, forward: Forward, prompts: Mapping[Prompt, Sequence[Prompt]], pad_id: int) -> Beginnings:
        """The beginnings of the prompts given by beginning."""
        heads, cache = list(prompts), new_cache(forward.model.config)
        feed(forward, cache, [0] * len(heads), heads, [len(head) for head in heads], pad_id, keep=1)
        length = {prompt: len(head) for head in heads for prompt in prompts[head]}
        return cls(length, {prompt: h for h, head in enumerate(heads) for prompt in prompts[head]}, cache)

    def under(self, prompts: Sequence[Prompt], forward: Forward) -> Any:
        """A cache with the beginnings of these prompts, each in its row's last columns."""
        rows_P = torch.tensor([self.row[p] for p in prompts], device=forward.model.device)
        columns = max(self.length[p] for p in prompts)
        return joined(forward.model.config, [(self.cache, rows_P, None)], columns)


def shared_lengths(prompts: Iterable[Prompt], passing: int) -> dict[Prompt, int]:
    """prompt -> how many of its first tokens are read once with other prompts; only of prompts where that pays.

    The families of prompts are those that save the most tokens; PAYS_FROM says from how many on it pays.
    passing  The tokens whose arithmetic takes as long as a pass takes at the least.
    """
    ordered = sorted(prompts)
    common = [common_length(a, b) // GRAIN * GRAIN for a, b in pairwise(ordered)]
    saved, families = best_families(ordered, common)
    if saved <= PAYS_FROM * passing:
        return {}
    return {prompt: length for members, length in families if length for prompt in members}


def common_length(a: Prompt, b: Prompt) -> int:
    """The number of first tokens that both have. The last token of a prompt is not counted: it is read to draw."""
    most = min(len(a), len(b)) - 1
    return next((i for i, (x, y) in enumerate(zip(a[:most], b[:most], strict=True)) if x != y), most)


def best_families(
    prompts: Sequence[Prompt], common: Sequence[int]
) -> tuple[int, list[tuple[Sequence[Prompt], int]]]:
    """(the most tokens that can be saved, [(a family, the tokens that all of it begin with)]) of sorted prompts.

    All share the least that neighbours share, so any of the parts between such neighbours may make one family; a part
    stays out of it if its own families save more.
    common  The number of tokens that neighbours have in common.
    """
    if not common:
        return 0, [(prompts, 0)]
    least = min(common)
    cuts = [0, *(i + 1 for i, n in enumerate(common) if n == least), len(prompts)]
    parts = [(prompts[a:b], *best_families(prompts[a:b], common[a : b - 1])) for a, b in pairwise(cuts)]
    inside = [len(members) * least > saved for members, saved, _ in parts]
    family = [p for (members, _, _), taken in zip(parts, inside, strict=True) if taken for p in members]
    apart = [part for part, taken in zip(parts, inside, strict=True) if not taken]
    saved = sum(own for _, own, _ in apart) + least * max(0, len(family) - 1)
    families = [found for _, _, inner in apart for found in inner]
    return saved, [*families, *([(family, least if len(family) > 1 else 0)] if family else [])]


def chunks(lengths: Mapping[Prompt, int], passing: int) -> Iterator[list[Prompt]]:
    """The prompts in parts that are read together. `lengths`: the tokens that are to be read of each.

    A part has READ_TOKENS at most, or one prompt, and no more padding than costs what another pass does.
    """
    part: list[Prompt] = []
    padding = 0
    for prompt in sorted(lengths, key=lambda p: lengths[p], reverse=True):
        longest = lengths[part[0]] if part else 0
        padding += longest - lengths[prompt] if part else 0
        if part and (padding > passing or (len(part) + 1) * longest > READ_TOKENS):
            yield part
            part, padding = [], 0
        part.append(prompt)
    if part:
        yield part


def read(
    forward: Forward, samples: Sequence[Sample], pad_id: int, beginnings: Beginnings | None = None
) -> tuple[Decoding, Ended]:
    """The samples as rows that have read their prompts, distinct ones once, and drawn for the first time.

    Between the beginning of a prompt and its rest may lie columns that hold no token (see batch.py).
    """
    drafts = [s.draft if forward.skips else () for s in samples]
    asked = list(zip((s.prompt_ids for s in samples), drafts, strict=True))
    place = {key: p for p, key in enumerate(dict.fromkeys(asked))}
    prompts, device = [prompt for prompt, _ in place], forward.model.device
    lengths = [beginnings.length[p] if beginnings else 0 for p in prompts]
    cache = beginnings.under(prompts, forward) if beginnings else new_cache(forward.model.config)
    rests = [prompt[length:] for prompt, length in zip(prompts, lengths, strict=True)]
    drafted, ahead = sum(bool(draft) for _, draft in place), max(len(draft) for _, draft in place)
    new = width(len(place), drafted, ahead, overhead(device))
    feeds = [(*draft[: new - 1], *[NO_TOKEN] * (new - 1 - len(draft))) for _, draft in place]
    longest, begun = max(map(len, rests)), max(lengths)
    holes = longest - min(map(len, rests)) if begun else 0
    for layer in cache.layers if holes + new > 1 and forward.joins else ():
        layer.slack = holes + new - 1  # what is read of drafts may be taken back
    fed = [(*rest, *more) for rest, more in zip(rests, feeds, strict=True)]
    ends = [0] * len(place)
    for key, sample in zip(asked, samples, strict=True):
        ends[place[key]] = max(ends[place[key]], len(sample.prompt_ids) + sample.limit)
    ids_PK, valid_PK, logits_PqV = feed(forward, cache, lengths, fed, ends, pad_id, keep=new)
    rows_R = torch.tensor([place[key] for key in asked], device=device)
    cache.reorder_cache(rows_R)
    batch = Decoding(
        forward,
        list(samples),
        [Draft(draft) for draft in drafts],
        Rows.of(samples, device),
        cache,
        begun + longest - 1,
        None if valid_PK is None else valid_PK[rows_R],
        holes,
        ended=[False] * len(samples),
    )
    return batch, batch.take(ids_PK[rows_R, longest - 1 :], logits_PqV[rows_R])


def feed(
    forward: Forward,
    cache: Any,
    begun: Sequence[int],
    texts: Sequence[Sequence[int]],
    ends: Sequence[int],
    pad_id: int,
    keep: int,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Reads the texts on top of a cache, padded on the left.

    begun  The number of tokens of each row that the cache holds, in its last columns.
    ends   The number of tokens that each row may come to: another row's longer draft takes it to no later position.
    keep   The number of last tokens whose logits are returned.
    Returns what was read (P, q), NO_TOKEN where a text has it; the columns that hold a token (P, K), None if all do;
    and the logits (P, keep, V).
    """
    device, before, new = forward.model.device, max(begun), max(map(len, texts))
    pads = [new - len(text) for text in texts]
    ids_Pq = torch.tensor(
        [[pad_id] * n + list(text) for n, text in zip(pads, texts, strict=True)], device=device
    )
    starts_P1 = torch.tensor([[before - n] for n in begun], device=device)
    columns_K = torch.arange(before + new, device=device)
    empty_P1 = torch.tensor([[n] for n in pads], device=device)
    valid_PK = ((columns_K >= starts_P1) & (columns_K < before)) | (columns_K >= before + empty_P1)
    ends_P1 = torch.tensor([[n] for n in ends], device=device)
    at_Pq = (valid_PK.cumsum(dim=1) - 1)[:, before:].clamp(min=0).minimum(ends_P1 - 1)
    mask_PK = valid_PK if any(pads) or min(begun) < before else None
    # A piece is read on top of those before it; the last one draws, so the last `keep` tokens are in it.
    size = max(1, READ_TOKENS // len(texts)) if forward.joins else new
    starts = range(0, max(1, new - keep), size)
    for start, end in pairwise([*starts, new]):
        logits_PqV = forward(
            ids_Pq[:, start:end].clamp(min=0),
            cache,
            None if mask_PK is None else mask_PK[:, : before + end],
            at_Pq[:, start:end],
            keep=keep if end == new else 1,
        )
    return ids_Pq, mask_PK, logits_PqV
