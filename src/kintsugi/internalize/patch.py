"""The patch form of a repair [ours]: only the wrong step and what should stand in its place.

A patch is the wrong step, a line `=>`, and the replacement:

    b=1+3=5
    =>
    b=1+3=4

What follows the replacement the policy writes itself, from x + the failure up to the step + the replacement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kintsugi.internalize.audit import answer_marks

ARROW = "\n=>\n"
MOST_LINES = 3
"""A patch corrects a step. More lines than this, on either side, could carry the whole anchor over."""
Decode = Callable[[Sequence[int]], str]
Encode = Callable[[str], tuple[int, ...]]


def parse_patch(text: str) -> tuple[str, str] | None:
    """(wrong step, replacement) of a patch: two different texts of a few lines around one arrow, else None.

    None as well where the replacement brings a final answer and the step had none: a patch is written with
    the anchor in view, so the answer is left to the policy.
    """
    parts = [part.strip("\n") for part in text.split(ARROW)]
    if len(parts) != 2 or any(not part.strip() or part.count("\n") >= MOST_LINES for part in parts):
        return None
    wrong, new = parts
    return None if wrong == new or answer_marks(new) > answer_marks(wrong) else (wrong, new)


def find_step(text: str, step: str) -> int | None:
    """Where `step` begins in a text: its first place as whole lines, else its first place at all."""
    lines = re.search(rf"^{re.escape(step)}$", text, re.MULTILINE)
    place = lines.start() if lines else text.find(step)
    return None if place < 0 else place


def patched_head(
    patch: str, failed: str, failed_ids: Sequence[int], decode: Decode, encode: Encode
) -> tuple[int, ...] | None:
    """The failure's tokens up to the wrong step, then the replacement's (and its line end, where it has one).

    None for what is no patch, and for a step that the failure does not have.
    """
    parsed = parse_patch(patch)
    if parsed is None:
        return None
    wrong, new = parsed
    place = find_step(failed, wrong)
    if place is None:
        return None
    end = place + len(wrong)
    kept = tokens_before(failed_ids, failed, place, decode)
    so_far = failed[len(decode(failed_ids[:kept])) : place]  # of a token that reaches into the step
    return (*failed_ids[:kept], *encode(so_far + new + ("\n" if failed[end : end + 1] == "\n" else "")))


def tokens_before(ids: Sequence[int], text: str, place: int, decode: Decode) -> int:
    """The largest n such that the first n tokens decode to a beginning of `text` no longer than `place`.

    A character split over tokens decodes to a replacement mark, which is no beginning of the text.
    """
    low, high = 0, len(ids)
    while low < high:  # decoded lengths grow with n
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(decode(ids[:middle])) <= place else (low, middle - 1)
    while not text[:place].startswith(decode(ids[:low])):
        low -= 1
    return low


def derive_patch(failed: str, repaired: str) -> str | None:
    """The patch that begins to turn `failed` into `repaired`: its first differing line and the repair's.

    A failure that ends too early gets its last line back together with the line it misses. None where no
    patch does it: equal texts, lines left out at the end, a final answer that only the repair has, or a wrong
    line that stands earlier as well.
    """
    before, after = failed.rstrip("\n").split("\n"), repaired.rstrip("\n").split("\n")
    pairs = zip(before, after, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(before), len(after)))
    if same == len(after):
        return None
    at = min(same, len(before) - 1)
    patch = before[at] + ARROW + "\n".join(after[at : same + 1])
    place = sum(len(line) + 1 for line in before[:at])
    parsed = parse_patch(patch)
    return patch if parsed is not None and find_step(failed, parsed[0]) == place else None
