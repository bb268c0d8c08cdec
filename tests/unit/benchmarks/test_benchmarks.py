"""What the benchmarks compute from what they measure."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks.engine.lab import Lab, Work
from benchmarks.engine.ours import Ours, model_flops
from benchmarks.engine.report import block
from benchmarks.engine.results import Book, medians, paired, read
from benchmarks.first_errors import LabelledSums, first_error, lucky
from benchmarks.gates import blamed
from benchmarks.verdicts import main as verdicts

from kintsugi.tasks import load_task


def test_the_ratio_is_the_median_of_the_pairs_own() -> None:
    # Pairs 1/2, 6/3, 2/8 give 0.5, 2, 0.25: median 0.5. The medians of the sides are 2 and 3 (ratio 0.67).
    found = paired([1.0, 6.0, 2.0], [2.0, 3.0, 8.0])
    assert found == {"ours_s": 2.0, "theirs_s": 3.0, "ratio": 0.5, "ratios": [0.25, 2.0], "pairs": 3}


def test_medians_go_one_level_deep_and_leave_words_out() -> None:
    answers = [{"s": 1, "of": {"a": 4}, "name": "x"}, {"s": 3, "of": {"a": 5}}, {"s": 2, "of": {"a": 9}}]
    assert medians(answers) == {"s": 2.0, "of": {"a": 5.0}}


def test_what_was_measured_here_is_not_measured_again(tmp_path: Path) -> None:
    def book(commit: str, threads: int = 1) -> Book:
        return Book(tmp_path / "rows.jsonl", "a machine", commit, threads, "float32")

    assert not book("abc").has("step", "nano")
    row = book("abc").add("step", "nano", {"ours_s": 1.0})
    assert read(tmp_path / "rows.jsonl") == [row]
    assert book("abc").has("step", "nano")
    assert not book("abc").has("step", "3m")
    assert not book("abd").has("step", "nano")
    assert not book("abc", threads=2).has("step", "nano")


def test_model_flops_by_hand() -> None:
    """One layer, hidden 4, two heads of 2 (one for keys), MLP 6, vocabulary 10; one row of 2 + 3 tokens.

    Weights of a layer: queries and output 4*4 each, keys and values 4*2 each, MLP 3*4*6: 16+16+8+8+72 = 120,
    so 2*120*5 = 1200 FLOPs for 5 tokens. Attention scores: 2 FLOPs * 2 heads * 2 wide * 25 pairs = 200, values
    the same; causality needs half of the 400, 200. Head: 2*4*10 for each of 3 completion tokens = 240.
    Forward 1200 + 200 + 240 = 1640; with backward three times that.
    """
    config = SimpleNamespace(
        hidden_size=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=2,
        intermediate_size=6,
        num_hidden_layers=1,
        vocab_size=10,
    )
    assert model_flops(config, 1, 2, 3) == pytest.approx(3 * 1640)
    assert model_flops(config, 7, 2, 3) == pytest.approx(7 * 3 * 1640)


def test_a_table_without_rows_says_so() -> None:
    assert "not measured yet" in block("step", [])


@pytest.mark.parametrize(
    ("solution", "error"),
    [
        ("4 - 9 = -5\n-5 + 7 = 2\n#### 2<|im_end|>", "none"),
        ("4 - 9 = 5\n5 + 7 = 12\n#### 12", "wrong sum"),
        ("4 - 9 = -5\n5 + 7 = 12\n#### 12", "wrong operand or operator"),
        ("4 + 9 = 13\n#### 13", "wrong operand or operator"),
        ("4 - 9 = -5\n#### -5", "stops early"),
        ("4 - 9 = -5\n-5 + 7 = 2\n#### 3", "answer copied wrong"),
        ("It is 2.\n#### 2", "no step"),
        ("4 - 9 = -5", "no answer"),
    ],
)
def test_the_first_error_of_a_chain_of_sums(solution: str, error: str) -> None:
    assert (
        first_error("State the final answer to the following arithmetic problem: 4 - 9 + 7 =", solution)
        == error
    )


@pytest.mark.parametrize(
    ("terms", "solution", "error"),
    [
        ("5 - 0 + 2", "5 + 2 = 7\n#### 7", "zeros left out"),
        ("5 - 0 + 2", "5 - 0 = 5\n5 + 2 = 7\n#### 7", "none"),
        ("5 - 0 + 2", "5 + 2 = 8\n#### 8", "wrong operand or operator"),  # the 0 was to come
        ("0 - 9 + 7", "-9 + 7 = -2\n#### -2", "zeros left out"),
        ("0 + 0 + 0", "#### 0", "zeros left out"),
        ("4 + 1 - 1", "4\n#### 4", "no step"),  # terms that cancel are no zeros
    ],
)
def test_a_solution_may_leave_zeros_out(terms: str, solution: str, error: str) -> None:
    question = f"State the final answer to the following arithmetic problem: {terms} ="
    assert first_error(question, solution) == error


@pytest.mark.parametrize(
    ("solution", "wrong"),
    [
        ("4 - 9 = -5\n-5 + 7 = 2\n#### 2<|im_end|>", ()),
        ("4 - 9 = -4\n-4 + 7 = 3\n#### 3<|im_end|>", (9,)),  # the digit after `4 - 9 = -`
        ("4 - 9 = -5<|im_end|>", (10,)),  # it stops where a line break should come
        ("4 - 9 = -5\n-5 + 7 = 2\n#### 2\n", (28,)),  # lines of 10, 10 and 6 and two breaks are right: 28
    ],
)
def test_where_a_chain_of_sums_goes_wrong(solution: str, wrong: tuple[int, ...]) -> None:
    task = LabelledSums("chain_sum")
    assert (
        task.wrong_characters(
            "State the final answer to the following arithmetic problem: 4 - 9 + 7 =", solution
        )
        == wrong
    )


def test_what_counts_as_blame_of_a_gate() -> None:
    assert blamed({"group": (-0.5, -0.5, 0.0)}) == ("group", (1, 1, 0))
    assert blamed({"group": (0.5, 0.5)}) == ("group", (0, 0))
    assert blamed({}) == ("group", ())
    # A seam at 2, after a praised prefix and beside a share of the group advantage: the seam alone counts.
    mended = {"seam": (0.0, 0.0, -3.0, 0.0), "prefix": (1.0, 0.0, 0.0, 0.0), "group": (0.0, -0.6, 0.0, -0.6)}
    assert blamed(mended) == ("seam", (0, 0, 1, 0))
    # A pass that serves as a repair is praised at the seam and is not blamed for it.
    assert blamed({"group": (-0.1, -0.1), "seam": (0.0, 10.0)}) == ("group", (1, 0))


def test_passes_by_luck_are_counted_by_how_many_pass_beside_them(tmp_path: Path) -> None:
    right, wrong = "4 - 9 = -5\n-5 + 7 = 2\n#### 2<|im_end|>", "9 - 7 = 2\n#### 2<|im_end|>"
    groups = {"a": [wrong], "b": [right, wrong], "c": [right, right]}
    rows = [
        {"kind": "rollout", "verdict": "pass", "problem_id": name, "question": "x: 4 - 9 + 7 =", "text": text}
        for name, texts in groups.items()
        for text in texts
    ]
    rows.append(rows[0] | {"verdict": "fail"})  # neither failures nor repairs are counted
    rows.append(rows[0] | {"kind": "repair"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "step.parquet")
    assert lucky([tmp_path / "step.parquet"]) == {1: (1, 1), 2: (1, 4)}


def test_verdicts_on_a_file_count_what_passes_and_what_is_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Six problems with answers 1, 2, 3, 4, 5 and 1.0: of 24 pairs with others, 1.0 meets 1 and 1 meets 1.0, one step
    # and five steps on; all else differs.
    lines = [
        f'{{"question": "Q{i}", "answer": "So #### {a}"}}'
        for i, a in enumerate(["1", "2", "3", "4", "5", "1.0"])
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n")
    verdicts(tmp_path / "data.jsonl")
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ["6 problems: 24 of 24 right texts pass", "2 of 24 answers of others pass in another spelling",
                        "  '1.0' for '1'"]  # fmt: skip
    assert said[3] == "  '1' for '1.0'" and said[4].startswith("48 texts in ")


def test_the_recipe_of_a_benchmark_finds_its_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problems(lab: Lab, work: Work) -> str:
        path = str(lab.folder / "problems.jsonl")
        Ours().do_problems(path, work.problems, work.prompt_tokens, [])
        return path

    monkeypatch.setattr(Lab, "model", lambda lab, size: (size, 0))
    monkeypatch.setattr(Lab, "problems", problems)
    recipe = Lab("cpu", 1, tmp_path, tmp_path / "peer").recipe(Work("nano", 4, 2, 64))
    task = load_task(recipe["task"], judged=True)
    assert (len(task.train()), len(task.evaluation())) == (4, 1)
