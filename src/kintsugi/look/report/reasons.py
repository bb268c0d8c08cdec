"""The reasons for a token's credit, in words, with the numbers of the run's recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from kintsugi.algorithms import ALGORITHMS
from kintsugi.algorithms.kintsugi import PREFIX_SHARE
from kintsugi.plugins import arguments_of, split_spec

GROUP = {
    "dr_grpo": "reward − mean of the group's rewards",
    "rloo": "reward − mean of the other rollouts' rewards",
}
GROUP_OF_ALL = "(reward − mean) / standard deviation of the group's rewards"


def explained(recipe: Mapping[str, Any], reasons: Iterable[str]) -> dict[str, str]:
    """The words for each of these reasons."""
    name, options = options_of(recipe)
    seam, prefix, soft = (
        options.get(key, default) for key, default in (("seam", 1.0), ("prefix", 0), ("soft", 0))
    )
    rest = f"; a mended failure keeps {soft:g} of it outside its seam" if soft else ""
    witnesses = (recipe.get("sampling") or {}).get("witnesses", 1)
    ours = name in ALGORITHMS.built_in
    words = {
        "seam": (f"−{seam:g}" if ours else "blame")
        + " on the tokens of a mended failure that were changed, "
        + (f"+{seam:g}" if ours else "praise")
        + " on those that its repair has instead, both given the problem alone",
        "prefix": (f"+{prefix:g}" if ours else "praise")
        + f" on the first {PREFIX_SHARE:.0%} of what a mended failure got right before its seam",
        "group": f"{GROUP.get(name, GROUP_OF_ALL)}, the same for every token{rest}",
        "repair": "in repair mode, under the repair prompt: score of the repair − mean of its group's scores"
        + (f", weight {options['lambda_rep']:g}" if "lambda_rep" in options else ""),
        "lone pass": f"none: the group has fewer than {witnesses} passes, and a lone one may be luck",
        "pass": "1 − pass rate of the group, for a rollout that passed",
        "step": "value after the step − value before it, each the mean reward of continuations from there",
        "teacher": "log-probability under the prompt that shows a passing sibling − that under the problem alone",
        "correction": f"{GROUP_OF_ALL}, the group being the corrections of one answer",
        "reset": f"{GROUP_OF_ALL}, the group being the continuations from one place",
        "advantage": "the library's own advantage",
    }
    return {reason: words.get(reason, "as the algorithm says") for reason in sorted(reasons)}


def options_of(recipe: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(name, options with their defaults) of the recipe's algorithm; no options where it is not one of ours."""
    with suppress(Exception):  # a recipe of another version may say what no longer is
        name, given = split_spec(recipe["algorithm"], "algorithm")
        named, _ = arguments_of(ALGORITHMS.built_in[name])
        return name, {key: argument.default for key, argument in named.items()} | given
    return str(recipe.get("algorithm")), {}
