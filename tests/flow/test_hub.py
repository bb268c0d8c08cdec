"""The Hub's data sets and models by id, export and push: real code against a server of our own on the loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hub_server import Hub, serving
from huggingface_hub import ModelCard

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SMALL = [
    "sampling.problems=2",
    "sampling.group_size=4",
    "eval.problems=2",
    "eval.samples=1",
    "threads=1",
    "steps=1",
]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as found:
        yield found


def command(home: Path, hub: Hub | None, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own |= {"HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1"}
    own |= {"HF_ENDPOINT": hub.address} if hub else {"HF_HUB_OFFLINE": "1"}
    done = [sys.executable, "-m", "kintsugi.cli", *words]
    return subprocess.run(done, capture_output=True, text=True, timeout=200, cwd=ROOT, env=own | environment)


def trained(folder: Path, *words: str, hub: Hub | None = None) -> Path:
    run = folder / "run"
    done = command(folder, hub, "train", "recipes/quickstart.yaml", *SMALL, f"output_dir={run}", *words)
    assert done.returncode == 0, done.stderr
    return run


def conversations(count: int) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [
                {"role": "system", "content": "Sums modulo 10."},
                {"role": "user", "content": f"a={i % 9}+{i // 9},b=a+1"},
            ],
            "answer": str((i % 9 + i // 9 + 1) % 10),
        }
        for i in range(count)
    ]


def test_a_data_set_of_conversations_by_its_id(tmp_path: Path, hub: Hub) -> None:
    pytest.importorskip("datasets")
    lines = "\n".join(map(json.dumps, conversations(20))).encode()
    hub.repos["datasets/acme/sums"] = {"train.jsonl": lines, "README.md": b"# Sums"}
    run = trained(tmp_path, "task={name: table, path: acme/sums, eval_share: 0.3}", hub=hub)
    (first, *_) = pq.read_table(run / "rollouts").to_pylist()
    assert first["question"].startswith("a=")
    from transformers import AutoTokenizer

    prompt = AutoTokenizer.from_pretrained(run / "tokenizer").decode(first["prompt_ids"])
    # The nano model's template has one mark for whoever is not the assistant.
    assert prompt == f"<|user|>Sums modulo 10.<|user|>{first['question']}<|assistant|>"


def test_a_data_set_in_a_local_folder_of_parquet(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    (tmp_path / "sums").mkdir()
    datasets.Dataset.from_list(conversations(20)).to_parquet(tmp_path / "sums" / "train.parquet")
    task = f"task={{name: table, path: {tmp_path / 'sums'}, eval_share: 0.3}}"
    assert (trained(tmp_path, task) / "report.html").is_file()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task={name: table, path: acme/sums}", "task table: acme/sums, its splits: "),
        ("model=acme/model", "model 'acme/model' could not be loaded: "),
    ],
)
def test_without_a_network_it_is_one_line(override: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    done = command(
        tmp_path, None, "train", "recipes/quickstart.yaml", f"output_dir={tmp_path / 'run'}", override
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"kintsugi: {message}") and done.stderr.count("\n") == 1
    assert "offline" in done.stderr.lower() or "cache" in done.stderr.lower()


def test_push_then_load_by_id(tmp_path: Path, hub: Hub) -> None:
    run = trained(tmp_path)
    assert command(tmp_path, hub, "export", str(run), "--output", str(tmp_path / "out")).returncode == 0
    done = command(tmp_path, hub, "push", str(run), "acme/mended", HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"pushed: {hub.address}/acme/mended/commit/{'1' * 40}\n"
    exported = {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir() if f.name != ".kintsugi"}
    assert hub.repos["models/acme/mended"] == exported
    (created,) = hub.created
    assert (created["name"], created["organization"], created["visibility"]) == ("mended", "acme", "private")
    assert {token for method, _, token in hub.requests if method == "POST"} == {"Bearer hf_secret"}
    # Whoever has it under its id can go on with it.
    again = command(tmp_path, hub, "eval", "recipes/quickstart.yaml", *SMALL, "model=acme/mended")
    assert again.returncode == 0, again.stderr
    assert "acme/mended" in again.stdout
    away = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # nobody listens there: its files are in the cache
    third = command(tmp_path, hub, "eval", "recipes/quickstart.yaml", *SMALL, "model=acme/mended", **away)
    assert third.returncode == 0, third.stderr
    assert "Retrying" not in third.stderr


def test_push_refuses_without_a_token_and_says_why(tmp_path: Path, hub: Hub) -> None:
    run = trained(tmp_path)
    done = command(tmp_path, hub, "push", str(run), "acme/mended")
    assert done.returncode == 2
    assert "no token" in done.stderr and "hf auth login" in done.stderr and done.stderr.count("\n") == 1
    assert hub.requests == []
    hub.refuse = 403
    done = command(tmp_path, hub, "push", str(run), "acme/mended", HF_TOKEN="hf_read_only")
    assert done.returncode == 2
    assert done.stderr.startswith("kintsugi: push: acme/mended: ") and done.stderr.count("\n") == 1
    assert "403" in done.stderr and hub.repos == {}


def test_adapters_are_exported_as_they_are_or_merged(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from kintsugi.models.loading import load_model

    run = trained(tmp_path, "optim.lora=4", "optim.lr=0.05", "optim.warmup=0", "sampling.problems=8")
    assert command(tmp_path, None, "export", str(run), "--output", str(tmp_path / "own")).returncode == 0
    assert (tmp_path / "own" / "adapter_config.json").is_file()
    card = ModelCard.load(tmp_path / "own" / "README.md")
    assert card.data.library_name == "peft" and card.data.license == "apache-2.0"
    done = command(tmp_path, None, "export", str(run), "--output", str(tmp_path / "whole"), "--merge")
    assert done.returncode == 0, done.stderr
    assert ModelCard.load(tmp_path / "whole" / "README.md").data.library_name == "transformers"
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")(ids).logits
        beside = load_model(str(tmp_path / "own"), device="cpu").model.eval()(ids).logits
        bare = load_model("nano", device="cpu").model(ids).logits
    assert torch.allclose(whole, beside, atol=1e-4)
    assert not torch.allclose(whole, bare, atol=1e-3)


def test_merging_a_whole_model_is_refused(tmp_path: Path) -> None:
    done = command(
        tmp_path, None, "export", str(trained(tmp_path)), "--output", str(tmp_path / "x"), "--merge"
    )
    assert done.returncode == 2 and "nothing to merge" in done.stderr


def test_every_checkpoint_has_a_card_with_the_hash_of_its_data(tmp_path: Path) -> None:
    run = trained(tmp_path, "steps=2", "save_every=1")
    first, last = (ModelCard.load(run / "checkpoints" / f"step-00000{n}" / "README.md") for n in (1, 2))
    data = json.loads((run / "versions.json").read_text())["data"]
    assert data.startswith("4,000 problems, sha256 ") and data in first.text and data in last.text
    assert "held-out pass@1 after (step 2)" in last.text
    assert "held-out pass@1 after (step 2)" not in first.text
