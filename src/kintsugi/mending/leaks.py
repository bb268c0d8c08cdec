"""Finds in a text what is like a phrase of the repair prompt (the audit rule `prompt_leak`).

A phrase is there where most of its words, or words like them, stand close together in any order: "I corrected
only the step that was wrong" is like "correct only the wrong steps". A phrase of one word asks for that word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import ceil

from rapidfuzz import fuzz

# A tag in any brackets, a word with its colon, or a word without the 's that it may end in.
TOKEN = re.compile(
    r"[<\[{]{1,2} ?/? ?(?P<tag>[a-z]+) ?[>\]}]|(?P<title>[a-z]+) ?:|(?P<word>[a-z]+)(?:['’]s?\b)?"
)
COMMON_WORDS = "a an the of in on to as is was by that this and or so it them they from what you can only"
COMMON = frozenset(COMMON_WORDS.split())
SHARE = 0.6
LIKE, ALMOST = 75, 90
"""The least likeness, of 100, of two words of a phrase. It is higher where one word is the whole phrase."""


def says_like(said: Sequence[str], phrase: str) -> bool:
    """True if a text, given as its tokens, says something like the phrase."""
    wanted = list(dict.fromkeys(tokens(phrase)))
    if not wanted:
        return False
    alike = ALMOST if len(wanted) == 1 else LIKE
    needed, room = max(ceil(SHARE * len(wanted)), min(2, len(wanted))), 2 * len(wanted)
    last: dict[str, int] = {}
    for place, word in enumerate(said):
        found = [want for want in wanted if likeness(word, want) >= alike]
        last.update(dict.fromkeys(found, place))
        if found and sum(place - at < room for at in last.values()) >= needed:
            return True
    return False


def tokens(text: str) -> Iterator[str]:
    """The words of a text that say something, in lower case; a tag is `<word>`, a title `word:`."""
    for token in TOKEN.finditer(text.lower()):
        if token["tag"]:
            yield f"<{token['tag']}>"
        elif token["title"]:
            yield f"{token['title']}:"
        elif token["word"] not in COMMON:
            yield token["word"]


@lru_cache(1 << 16)
def likeness(word: str, wanted: str) -> float:
    """The likeness of a word of a text and one of a phrase, of 100.

    0 for two that begin differently, as "right" and "eight" do, and where the phrase wants a tag or a title.
    """
    inside, core = word.strip("<:>"), wanted.strip("<:>")
    kind = wanted[-1] if wanted[-1] in ":>" else word[-1]
    return fuzz.ratio(inside, core) if inside[0] == core[0] and word[-1] == kind else 0.0
