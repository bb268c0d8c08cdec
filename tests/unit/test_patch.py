"""The patch form: its grammar, where a patch applies, and the patch that a repair pair teaches."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fakes import STOP, CharCodec, encode

from kintsugi.internalize.patch import derive_patch, parse_patch, patched_head

FAILED = "a=1+1=3\nb=3+2=5\n#### 5"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a\n=>\nb", ("a", "b")),
        ("a\nb\n=>\nc\n", ("a\nb", "c")),  # several lines; line ends around the parts do not count
        ("\na\n=>\n\nb", ("a", "b")),
        ("a => b", None),  # the arrow has a line of its own
        ("a\n=>\nb\n=>\nc", None),  # one change only
        ("a\n=>\n", None),
        ("\n=>\nb", None),
        (" \n=>\nb", None),
        ("a\n=>\na", None),  # nothing changes
        ("a\n=>\nb\n#### 4", None),  # it must not answer: the anchor was in view
        ("a\n#### 5\n=>\nb\n#### 4", ("a\n#### 5", "b\n#### 4")),  # unless the step did
        ("a\nb\nc\n=>\nd\ne\nf", ("a\nb\nc", "d\ne\nf")),
        ("a\n=>\nd\ne\nf\ng", None),  # more than a step: it could be the anchor
        ("a\nb\nc\nd\n=>\ne", None),
        ("just the solution again", None),
        ("", None),
    ],
)
def test_parse_patch(text: str, parsed: tuple[str, str] | None) -> None:
    assert parse_patch(text) == parsed


def head(patch: str, failed: str = FAILED) -> str | None:
    """The text of the patched head, with one token per character."""
    codec = CharCodec()
    ids = patched_head(patch, failed, (*encode(failed), STOP), codec.decode, codec.encode)
    return None if ids is None else codec.decode(ids)


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ("a=1+1=3\n=>\na=1+1=2", "a=1+1=2\n"),  # the line's end comes along: the policy starts a new line
        ("b=3+2=5\n=>\nb=2+2=4", "a=1+1=3\nb=2+2=4\n"),
        ("3+2=5\n=>\n2+2=4", "a=1+1=3\nb=2+2=4\n"),  # the end of a line will do
        ("b=3\n=>\nb=2", "a=1+1=3\nb=2"),  # and its beginning: then the policy goes on in the line
        ("b=3+2=5\n#### 5\n=>\nb=2+2=4", "a=1+1=3\nb=2+2=4"),  # two lines by one, at the text's end
        (
            "#### 5\n=>\n#### 4",
            "a=1+1=3\nb=3+2=5\n#### 4",
        ),  # a wrong answer line may be patched (audit judges)
        ("c=0\n=>\nc=1", None),  # a step the failure does not have
        ("no patch", None),
    ],
)
def test_patched_head(patch: str, expected: str | None) -> None:
    assert head(patch) == expected


def test_whole_lines_go_before_an_earlier_place_within_a_line() -> None:
    assert head("a=1\n=>\na=2", "aa=1\na=1\n#### 1") == "aa=1\na=2\n"
    assert head("a=1\n=>\na=2", "a=1\na=1\n#### 1") == "a=2\n"  # of equal lines the first


class PairCodec:
    """Tokens of two characters: id = first * 256 + second, a lone last character is itself."""

    def encode(self, text: str) -> tuple[int, ...]:
        pairs = [text[i : i + 2] for i in range(0, len(text), 2)]
        return tuple(ord(p[0]) if len(p) == 1 else ord(p[0]) * 256 + ord(p[1]) for p in pairs)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) if i < 256 else chr(i // 256) + chr(i % 256) for i in ids)


def test_the_failures_own_tokens_are_kept_and_a_token_across_the_seam_is_split() -> None:
    codec = PairCodec()
    ids = codec.encode("xy\nab\n#")  # xy | \na | b\n | #
    found = patched_head("ab\n=>\ncd", "xy\nab\n#", ids, codec.decode, codec.encode)
    # The step starts inside the second token: only the first is kept, the line end before it is written anew.
    assert found == (*codec.encode("xy"), *codec.encode("\ncd\n"))
    # Tokens that the tokenizer would not choose stay as they were sampled: x | y instead of xy.
    odd = (ord("x"), ord("y"), *ids[1:])
    found = patched_head("ab\n=>\ncd", "xy\nab\n#", odd, codec.decode, codec.encode)
    assert found == (ord("x"), ord("y"), *codec.encode("\ncd\n"))


def test_half_a_character_is_no_beginning_of_the_text() -> None:
    # One token per byte: the e-acute is two, and the first alone decodes to a replacement mark.
    def decode(ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")

    def encode_bytes(text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    failed = "é=1\nb=2"
    for wrong, new, expected in (("b=2", "b=3", "é=1\nb=3"), ("=1", "=4", "é=4\n"), ("é=1", "e=1", "e=1\n")):
        found = patched_head(f"{wrong}\n=>\n{new}", failed, encode_bytes(failed), decode, encode_bytes)
        assert found is not None
        assert decode(found) == expected


@pytest.mark.parametrize(
    ("repaired", "patch"),
    [
        ("a=1+1=2\nb=2+2=4\n#### 4", "a=1+1=3\n=>\na=1+1=2"),
        ("a=1+1=3\nb=3+2=6\n#### 6", "b=3+2=5\n=>\nb=3+2=6"),  # only the first wrong step
        ("a=1+1=3\nb=3+2=5\n#### 6", "#### 5\n=>\n#### 6"),
        ("a=1+1=3\nb=3+2=5\n#### 5\nand so on", "#### 5\n=>\n#### 5\nand so on"),  # it ended too early
        (FAILED, None),
        ("a=1+1=3\nb=3+2=5", None),  # a line left out at the end
    ],
)
def test_derive_patch(repaired: str, patch: str | None) -> None:
    assert derive_patch(FAILED, repaired) == patch


def test_a_derived_patch_applies_where_the_texts_first_differ() -> None:
    assert derive_patch("a\nb\na", "a\nb\nc") is None  # the wrong line stands earlier as well
    assert derive_patch("a=1", "a=1\n#### 1") is None  # a patch never brings the answer
    patch = derive_patch(FAILED, "a=1+1=2\nb=2+2=4\n#### 4")
    assert patch is not None
    assert head(patch) == "a=1+1=2\n"
