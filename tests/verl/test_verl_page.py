"""docs/verl.md: every setting of its commands exists, and what they say together is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from kintsugi.bridges.verl_settings import plan

PAGE = (Path(__file__).parents[2] / "docs" / "verl.md").read_text(encoding="utf-8")
ONE_NODE, CLUSTER = (
    re.findall(r"\S+=\S+", block)
    for block in re.findall(r"^```.*?^```", PAGE, re.MULTILINE | re.DOTALL)
    if "trainer.n_gpus_per_node" in block
)


@pytest.mark.parametrize("told", [ONE_NODE, ONE_NODE + CLUSTER], ids=["one node", "cluster"])
def test_the_commands_of_the_page_are_settings_of_verl(told: list[str]) -> None:
    last = {word.partition("=")[0]: word for word in told}
    with initialize_config_module("verl.trainer.config", version_base=None):
        config: DictConfig = compose("ppo_trainer", overrides=list(last.values()))
    made = plan(config)
    assert made.algorithm.name == "kintsugi" and made.updates == 1
    assert made.recipe.sampling.group_size == 8 and made.recipe.sampling.max_new_tokens == 4096
    assert config.trainer.v1.trainer_mode == config.algorithm.adv_estimator == "kintsugi"
