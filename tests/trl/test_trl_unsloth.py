"""Unsloth's loss on the bridge's batches. Unsloth wants a GPU; the functions of its loss are read out of the installed
package and run here in the order in which its trainer calls them."""

from __future__ import annotations

import ast
import math
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import replayed
from scene import freeze
from test_trl_parity import assert_same
from trl import GRPOTrainer
from trl.trainer import grpo_trainer

from kintsugi.bridges.trl_rows import Layout
from kintsugi.records import Row

try:
    SOURCE = Path(str(distribution("unsloth_zoo").locate_file("unsloth_zoo/rl_replacements.py")))
except PackageNotFoundError:
    pytest.skip("unsloth_zoo is not installed", allow_module_level=True)

PARTS = {
    "calculate_pad_tokens_in_prompt", "create_completion_attention_mask", "left_pack_padding",
    "align_logprobs_with_mask", "align_completion_tool_mask", "grpo_compute_loss",
}  # fmt: skip


def unsloths() -> dict[str, Any]:
    """The functions of Unsloth's loss by name."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    chosen = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in PARTS]
    space: dict[str, Any] = {"torch": torch, "math": math}
    exec(compile(ast.Module(chosen, []), str(SOURCE), "exec"), space)
    assert set(space) >= PARTS
    return space


def shifted(f: dict[str, Any], inputs: dict[str, Any], pad_id: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """(sequences with their padding on the right, mask of the columns that the loss sees, number of columns)."""
    ids_BS = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    keep = inputs["completion_ids"].shape[1]
    left_B = f["calculate_pad_tokens_in_prompt"](ids_BS, keep, pad_id)
    most = int(left_B.max())
    packed_BS = f["left_pack_padding"](ids_BS, pad_id)
    mask_BT = f["create_completion_attention_mask"](packed_BS[:, -(keep + most) :], left_B, most, pad_id)
    mask_BT = f["align_completion_tool_mask"](inputs["tool_mask"], mask_BT.long())
    return packed_BS, mask_BT, keep + most


def patched(f: dict[str, Any], pad_id: int) -> Any:
    """`compute_loss` as Unsloth's text path has it, without its chunks and kernels."""

    def compute_loss(self: Any, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        packed_BS, mask_BT, width = shifted(f, inputs, pad_id)
        logits = model(input_ids=packed_BS, attention_mask=(packed_BS != pad_id).long()).logits
        chosen = packed_BS[:, -width:, None]
        logps = logits[:, -width - 1 : -1].log_softmax(-1).gather(-1, chosen).squeeze(-1)
        loss = f["grpo_compute_loss"](
            None, logps, inputs.get("old_per_token_logps"), None, packed_BS[:, -width:], mask_BT, self.beta,
            inputs["advantages"], loss_type=self.args.loss_type,
            importance_sampling_level=self.importance_sampling_level, epsilon_low=self.epsilon_low,
            epsilon_high=self.epsilon_high, num_items_in_batch=inputs["num_items_in_batch"],
            current_gradient_accumulation_steps=self.current_gradient_accumulation_steps,
            steps_per_generation=self.args.steps_per_generation, num_processes=1,
        )  # fmt: skip
        return loss[0]

    return compute_loss


@pytest.mark.parametrize("algorithm", ["kintsugi", "iop", "grpo", "sdpo"])
def test_its_loss_has_the_local_trainers_gradient(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = freeze(algorithm)
    pad_id = scene.loaded.tokenizer.pad_token_id
    monkeypatch.setattr(GRPOTrainer, "compute_loss", patched(unsloths(), pad_id))
    # The mark of Unsloth's configuration, which its import puts in the place of TRL's.
    monkeypatch.setattr(grpo_trainer.GRPOConfig, "unsloth_num_chunks", -1, raising=False)
    settings = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}
    trainer = replayed(scene, algorithm, tmp_path, **settings)
    assert_same(trainer, scene)
    lengths = {len(row.prompt_ids) for row in scene.rows}
    batch = trainer.batches[0]
    assert (len(lengths) > 1) == (algorithm in ("kintsugi", "iop"))  # which train repair mode, too
    assert batch["prompt_ids"].shape[1] == min(lengths) and batch["prompt_mask"].all()


def test_prompts_that_are_padded_are_not_where_it_looks_for_credit() -> None:
    # One prompt of two tokens and one of three: padded, Unsloth's loss has a column more than the credit.
    rows = [
        Row((5, 6), (7, 8, 9), None, "p", "rollout", 0, (1, 1, 1)).add("seam", (0.0, -1.0, 0.0)),
        Row((5, 6, 4), (7, 9), None, "p", "rollout", 1, (1, 1)).add("group", 2.0),
    ]
    f = unsloths()

    def widths(flush: bool) -> tuple[int, int]:
        batch = Layout(0, None, torch.device("cpu"), flush).batch(rows, 5, "token")
        return batch["advantages"].shape[1], shifted(f, batch, 0)[1].shape[1]

    assert widths(flush=False) == (3, 4)
    assert widths(flush=True) == (3, 3)
    batch = Layout(0, None, torch.device("cpu"), True).batch(rows, 5, "token")
    assert batch["prompt_ids"].tolist() == [[5, 6], [5, 6]]
    assert batch["completion_ids"].tolist() == [[7, 8, 9], [4, 7, 9]]
    assert batch["tool_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]
    # Times five, by which the loss divides.
    assert batch["advantages"].tolist() == [[0, -5, 0], [0, 10, 10]]
    packed, mask, _ = shifted(f, batch, 0)
    assert (
        packed.tolist() == [[5, 6, 7, 8, 9], [5, 6, 4, 7, 9]] and mask.tolist() == batch["tool_mask"].tolist()
    )
