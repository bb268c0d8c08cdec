"""The records that cross from room to room. All are frozen; a stage returns new ones.

A step makes, per problem, one `Episode`: rollouts, repairs of the failed ones, and the seams between
the two. Credit turns an episode into `Row`s, the only thing a learner sees. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

VerdictState = Literal["pass", "fail", "unscorable", "error"]
Finish = Literal["stop", "length"]
EditKind = Literal["replace", "insert", "delete"]
Phase = Literal["rollout", "repair", "audit", "check", "train"]
Level = Literal["token", "sequence", "nll"]
Reduction = Literal["row", "token", "constant"]
Role = Literal["policy", "failed", "repaired", "repair", "sft"]
KeptBy = Literal["K", "2K", "all"]

PASS_THRESHOLD = 0.5
"""tau_r: a rollout passes iff its outcome reward is at least this (arXiv:2605.05226)."""


class KintsugiError(Exception):
    """Something the user can mend: one clear line, exit code 2, no traceback."""


class Turn(NamedTuple):
    """One message of a conversation; the roles are system, user and assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and what a verifier needs to judge an answer to it.

    `answer` is for verifiers alone: no prompt builder accepts a Problem, so it cannot leak into a prompt.
    `columns` holds whatever else the data set says about the problem (passed on to user verifiers).
    `before` are the turns that come before the question, None where the data set has texts instead of conversations.
    """

    id: str
    prompt: str
    answer: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[Turn, ...] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier said. `unscorable` and `error` never count as pass and never pay."""

    state: VerdictState
    reward: float = 0.0
    message: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.reward <= 1.0:
            raise ValueError(f"verdict reward must be in [0, 1], got {self.reward!r}")
        if self.state in ("unscorable", "error") and self.reward:
            raise ValueError(f"an {self.state} verdict cannot pay a reward, got {self.reward!r}")

    @property
    def passed(self) -> bool:
        return self.state == "pass"

    @classmethod
    def scored(cls, reward: float, message: str = "") -> Verdict:
        """Pass or fail by `reward` in [0, 1] against PASS_THRESHOLD."""
        return cls("pass" if reward >= PASS_THRESHOLD else "fail", float(reward), message)


@dataclass(frozen=True, slots=True)
class Completion:
    """Token ids a sampler returned (stop token included when there was one).

    `logprobs[t]` is the natural log-probability of `token_ids[t]` under the distribution it was drawn
    from (temperature and top-p applied). `version` counts the learner's optimizer steps at that moment.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    version: int

    def __post_init__(self) -> None:
        if len(self.token_ids) != len(self.logprobs):
            raise ValueError(
                f"completion: {len(self.logprobs)} log-probabilities for {len(self.token_ids)} tokens"
            )


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled solution with its verdict. `text` is the completion decoded, special tokens left out."""

    prompt_ids: tuple[int, ...]
    completion: Completion
    text: str
    verdict: Verdict

    @property
    def truncated(self) -> bool:
        return self.completion.finish == "length"


@dataclass(frozen=True, slots=True)
class Repair:
    """One candidate repair of rollout number `failed` of the group.

    `rollout` is what repair mode wrote, under the repair prompt; where it wrote nothing (`written` is False)
    it is the passing sibling that was taken instead.
    `anchor_text` is None where no anchor was shown. `audit` names the rule that rejected the repair, or is
    "" (h = 1). `distance` is D(y, ybar) in [0, 1]; `score` is s_rep (kintsugi.internalize.select).
    """

    failed: int
    anchor_text: str | None
    rollout: Rollout
    audit: str
    distance: float
    score: float
    written: bool = True

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids of the mended solution, given x."""
        return self.rollout.completion.token_ids

    @property
    def mends(self) -> bool:
        """Whether it may be selected: it passed (reward at least PASS_THRESHOLD) and no audit rule rejected it."""
        return self.rollout.verdict.passed and not self.audit


@dataclass(frozen=True, slots=True)
class Edit:
    """One token edit that turns a failed text into its repair (positions are token indices).

    `failed_at` and `repaired_at` are where the edit happens on either side: the token itself where the
    side has one, else the index before which the other side's token is inserted.
    """

    kind: EditKind
    failed_at: int
    repaired_at: int


@dataclass(frozen=True, slots=True)
class Check:
    """One graft check: the text that starts with the first `edits` edits, and what the verifier said."""

    edits: int
    rollout: Rollout


@dataclass(frozen=True, slots=True)
class Seam:
    """A failed rollout joined with its selected repair: where they differ, and what is trained on.

    `failed` and `repair` index Episode.rollouts and Episode.repairs. `kept` = K* edits of `edits` gate
    the masks; `kept_by` says which try fixed it.
    Masks hold 0/1, one per token of either completion.
    """

    failed: int
    repair: int
    repaired_ids: tuple[int, ...]
    edits: tuple[Edit, ...]
    kept: int
    kept_by: KeptBy
    checks: tuple[Check, ...]
    failed_mask: tuple[int, ...]
    repaired_mask: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Extra:
    """A sample beside the group: an algorithm's further rollouts, continuations and corrections.

    `phase` says whose tokens these are. `of` is the rollout it belongs to (for whole new rollouts: which
    draw it came with, from 1), `at` the number of that rollout's tokens it goes on from.
    """

    phase: Phase
    of: int
    at: int
    rollout: Rollout


@dataclass(frozen=True, slots=True)
class Episode:
    """Everything that happened to one problem in one step.

    `skipped` says why nothing was repaired ("all passed", "all failed" without an anchor, "nothing mendable"
    because failures were truncated or the verifier broke down), or is "". `extras` never belong to the
    group that accuracy is counted on. `teachers` holds, by rollout number, the prompt of its teacher.
    """

    problem: Problem
    rollouts: tuple[Rollout, ...]
    repairs: tuple[Repair, ...] = ()
    seams: tuple[Seam, ...] = ()
    skipped: str = ""
    extras: tuple[Extra, ...] = ()
    teachers: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def checks(self) -> tuple[Rollout, ...]:
        """What the policy wrote without an anchor to try repairs."""
        return tuple(check.rollout for seam in self.seams for check in seam.checks)

    @property
    def tokens(self) -> dict[Phase, int]:
        """Generated tokens by phase (prompts are not counted)."""
        found: dict[Phase, int] = {
            "rollout": sum(len(r.completion.token_ids) for r in self.rollouts),
            "repair": sum(len(r.rollout.completion.token_ids) for r in self.repairs if r.written),
            "check": sum(len(r.completion.token_ids) for r in self.checks),
        }
        for extra in self.extras:
            found[extra.phase] = found.get(extra.phase, 0) + len(extra.rollout.completion.token_ids)
        return found


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to train on. T = len(completion_ids).

    `mask[t]` is the gate: 1 where token t is trained on. `advantages[t]` is its credit.
    `sampling_logprobs` are the sampler's log-probabilities where this policy sampled the completion from
    this very prompt, else None. The learner computes pi_old itself and compares the two (sampler_gap).
    `weight` scales the row in the loss (lambda_rep for repair rows).
    With `teacher_prompt_ids` the credit is still to be multiplied by what that prompt makes of the same tokens
    (kintsugi.algorithms.base.settled).
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    mask: tuple[int, ...]
    advantages: tuple[float, ...]
    sampling_logprobs: tuple[float, ...] | None
    role: Role
    problem_id: str
    group_id: str
    weight: float = 1.0
    teacher_prompt_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        expected = len(self.completion_ids)
        for name in ("mask", "advantages", "sampling_logprobs"):
            values: Sequence[float] | None = getattr(self, name)
            if values is not None and len(values) != expected:
                raise ValueError(
                    f"row {self.role} (problem {self.problem_id}): {len(values)} {name} "
                    f"for {expected} completion tokens"
                )

    @property
    def active(self) -> int:
        """Number of tokens trained on."""
        return sum(self.mask)
