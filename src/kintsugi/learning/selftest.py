"""Can this model be trained right? The learner's scores against plain forward passes (kintsugi.sampling.selftest)."""

from __future__ import annotations

from typing import Any

from kintsugi.learning.scoring import Scorer, Target
from kintsugi.sampling.selftest import NEW, check_logprobs, prompts, trying


def check_learner(model: Any, pad_id: int) -> None:
    """KintsugiError where the learner's scores are not the model's, with prompts apart and with a shared one."""
    short, long = prompts(model, pad_id)
    asked = [(short, long[: NEW // 2]), (long, long[:NEW]), (long, short)]
    targets = [Target(p, ids, (True,) * len(ids), (i,)) for i, (p, ids) in enumerate(asked)]
    with trying(model, "learner"):
        scorer = Scorer(model, pad_id, 1.0, None)
        for chunk in (targets[:2], targets):
            scores = scorer(chunk).tolist()
            pairs = zip(chunk, scores, strict=True)
            check_logprobs(model, "learner", [(t.prompt_ids, t.completion_ids, row) for t, row in pairs])
