"""Shipping a model with adapters: they alone, and the name of the model they belong to."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.ship import only_adapters

from kintsugi.models.loading import load_model
from kintsugi.models.lora import adapted


def test_of_adapters_nothing_else_is_shipped_and_their_model_has_its_name(tmp_path: Path) -> None:
    loaded = load_model("nano", device="cpu", seed=0, say=lambda _: None)
    adapted(loaded.model, "/some/cache/smollm2", rank=2, seed=0).save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("x")
    only_adapters(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "smollm2-135m-instruct"
    assert settings["r"] == 2
