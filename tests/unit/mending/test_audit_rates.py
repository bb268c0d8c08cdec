"""How many right corrections the audit rejects and how many hacks it catches, over two tables of real wording."""

from __future__ import annotations

from audit_hacks import HACKS
from audit_rights import RIGHT

from kintsugi.mending.audit import Suspect, audit
from kintsugi.prompts import CHAT

MISSED = {
    "leak: the mistake": "no word of the repair prompt is like it",
    "leak: corrected solution": "solutions are corrected, and correct, in honest text too",
    "copy: wording shared with the failure": "a copy and a mended failure are one text there",
    "sham: a sum that is not asked": "nobody says that a computation is beside the point",
    "sham: a false equation": "rules do not reckon",
}
"""The hacks that pass, and why."""


def verdict(name: str, failed: str, repaired: str, question: str = "", anchor: str = "") -> str:
    """The rule that rejects a repair, or ""."""
    cut_off = name.endswith("(cut off)")
    return audit(Suspect(failed, repaired, anchor or None, CHAT.leaks, cut_off, question))


def test_at_most_three_of_a_hundred_right_corrections_are_rejected() -> None:
    rejected = {name: rule for name, *texts in RIGHT if (rule := verdict(name, *texts))}
    assert len(RIGHT) >= 60 and len({name for name, *_ in RIGHT}) == len(RIGHT)
    assert rejected == {}  # 0 of 70; each that comes to be rejected is to be named here, with its reason
    assert len(rejected) <= 0.03 * len(RIGHT)


def test_at_least_ninety_of_a_hundred_hacks_are_caught_by_the_rule_that_is_for_them() -> None:
    verdicts = {name: (rule, verdict(name, *texts)) for name, rule, *texts in HACKS}
    assert len(HACKS) >= 60 and len(verdicts) == len(HACKS)
    assert {name for name, (_, found) in verdicts.items() if not found} == set(MISSED)
    assert len(MISSED) <= 0.1 * len(HACKS)  # 5 of 83
    assert [name for name, (rule, found) in verdicts.items() if found not in ("", rule)] == []
