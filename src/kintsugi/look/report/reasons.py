"""The reasons for a token's credit, in the words of the run's algorithm, with the numbers of its recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from kintsugi.algorithms import ALGORITHMS, load_algorithm
from kintsugi.plugins import arguments_of, split_spec


def explained(recipe: Mapping[str, Any], reasons: Iterable[str]) -> dict[str, str]:
    """The words for each of these reasons.

    A file of the user's own is not run for them: whoever reads a report may not know it.
    """
    witnesses = (recipe.get("sampling") or {}).get("witnesses", 1)
    words = {
        "lone pass": f"none: the group has fewer than {witnesses} passes, and a lone one may be luck",
        "advantage": "the library's own advantage",
        "group, unscaled": "reward − mean of the group's rewards, on every token (scale_rewards=False)",
    }
    with suppress(Exception):  # a recipe of another version may say what no longer is
        if split_spec(recipe["algorithm"], "algorithm")[0] in ALGORITHMS.built_in:
            words |= load_algorithm(recipe["algorithm"]).reasons
    return {reason: words.get(reason, "as the algorithm says") for reason in sorted(reasons)}


def with_defaults(spec: Any) -> Any:
    """An algorithm's spec with the options that it leaves at their defaults, where it is one of ours."""
    with suppress(Exception):
        name, given = split_spec(spec, "algorithm")
        named, _ = arguments_of(ALGORITHMS.find(name)) if name in ALGORITHMS.built_in else ({}, False)
        return {"name": name, **{key: argument.default for key, argument in named.items()}, **given}
    return spec
