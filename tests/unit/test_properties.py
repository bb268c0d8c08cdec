"""What holds for any input: alignment, gates, truncation, packing, recipes and data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fakes import make_row
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kintsugi.config import Recipe, apply_overrides, known_keys
from kintsugi.learning.scoring import micro_batches, sequences
from kintsugi.mending.align import align, cut_points, distance, gates, graft
from kintsugi.records import KintsugiError, Row
from kintsugi.tasks.table import TableTask

IDS = st.lists(st.integers(0, 5), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def applied(failed: list[int], repaired: list[int]) -> list[int]:
    """`failed` with every edit made, one after the other from the right, so that places stay valid."""
    text = list(failed)
    for edit in reversed(align(failed, repaired)):
        if edit.kind == "delete":
            del text[edit.failed_at]
        elif edit.kind == "insert":
            text.insert(edit.failed_at, repaired[edit.repaired_at])
        else:
            text[edit.failed_at] = repaired[edit.repaired_at]
    return text


@given(IDS, IDS)
def test_all_edits_give_the_repair_and_are_as_many_as_the_distance(
    failed: list[int], repaired: list[int]
) -> None:
    assert applied(failed, repaired) == repaired
    longer = max(len(failed), len(repaired))
    assert distance(failed, repaired) * longer == pytest.approx(len(align(failed, repaired)))


@given(IDS, IDS)
def test_gates_hold_all_that_differs_and_at_most_a_token_an_edit(
    failed: list[int], repaired: list[int]
) -> None:
    edits = align(failed, repaired)
    masks = gates(len(failed), len(repaired), edits)
    gone = {e.failed_at for e in edits if e.kind != "insert"}
    come = {e.repaired_at for e in edits if e.kind != "delete"}
    assert gone <= {t for t, gate in enumerate(masks[0]) if gate}
    assert come <= {t for t, gate in enumerate(masks[1]) if gate}
    assert max(map(sum, masks)) <= len(edits)


@given(IDS, IDS, st.integers(0, 45))
def test_a_graft_begins_as_the_repair_and_ends_as_the_failure(
    failed: list[int], repaired: list[int], k: int
) -> None:
    edits = align(failed, repaired)
    head, tail = graft(failed, repaired, edits, k)
    f, r = cut_points(edits, k)
    assert list(head) == repaired[:r] and list(tail) == failed[f:]
    assert len(align(failed, [*head, *tail])) <= k  # at most the edits that were made
    if k >= len(edits):
        assert [*head, *tail] == repaired


ROWS = st.builds(
    lambda prompt, completion, mask: make_row(
        prompt, completion, 1.0, mask[: len(completion)] + [0] * (len(completion) - len(mask))
    ),
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.lists(st.integers(0, 3), min_size=1, max_size=8),
    st.lists(st.integers(0, 1), max_size=8),
)


@given(st.lists(ROWS, max_size=12), st.integers(16, 80))
def test_packing_holds_every_row_that_trains_once(rows: list[Row], budget: int) -> None:
    live = [i for i, row in enumerate(rows) if row.active]
    packed = [
        i for chunk in micro_batches(sequences(rows, live), budget) for item in chunk for i in item.rows
    ]
    assert sorted(packed) == live


FUZZED = settings(
    max_examples=int(os.environ.get("FUZZ", "300")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""`make test-faults` asks for 7,000 inputs of each kind: recipes, overrides, data."""
KEYS = st.sampled_from([*known_keys(), "modle", "optim.", ".lr", "", "task.name", "a.b.c"])


@FUZZED
@given(st.dictionaries(KEYS.map(lambda key: key.partition(".")[0]), JSON, max_size=5))
@example({"model": "nano", "task": {"name": None}})
def test_any_recipe_is_read_or_refused_in_one_line(data: dict[str, Any]) -> None:
    try:
        recipe = Recipe.parse({"model": "nano", "task": "dag"} | data)
    except KintsugiError as error:
        assert str(error)
    else:
        assert Recipe.parse(recipe.model_dump()) == recipe


@FUZZED
@given(st.lists(st.tuples(KEYS, st.text(max_size=12)).map("=".join), max_size=3))
def test_any_override_is_read_or_refused_in_one_line(overrides: list[str]) -> None:
    try:
        Recipe.parse(apply_overrides({"model": "nano", "task": "dag"}, overrides))
    except KintsugiError as error:
        assert str(error)


MESSAGES = st.lists(st.fixed_dictionaries({"role": JSON, "content": JSON}), max_size=3)
ROW = st.fixed_dictionaries({"prompt": JSON | MESSAGES, "answer": JSON})
LINES = st.lists(st.text(max_size=20) | JSON.map(json.dumps) | ROW.map(json.dumps), max_size=4)


@FUZZED
@given(LINES)
@example(['{"prompt": "\\ud800", "answer": "1"}'])
def test_any_data_are_read_or_refused_in_one_line(lines: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data.jsonl"
        path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        try:
            problems = TableTask(str(path), eval_share=0).train()
        except KintsugiError as error:
            assert str(error)
        else:
            for problem in problems:
                assert problem.prompt and problem.answer
                problem.prompt.encode("utf-8")
