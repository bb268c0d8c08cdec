"""The records that cross from room to room. All are frozen; a stage returns new ones.

A step makes, per problem, one `Episode`: rollouts, repairs of the failed ones, and the seams between
the two. Credit turns an episode into `Row`s, the only thing a learner sees. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

VerdictState = Literal["pass", "fail", "unscorable", "error"]
Finish = Literal["stop", "length"]
EditKind = Literal["replace", "insert", "delete"]
Phase = Literal["rollout", "repair", "audit", "check", "train"]
Level = Literal["token", "sequence", "nll"]
Reduction = Literal["row", "token", "constant"]
Term = Literal["policy", "repair"]
Kind = Literal["rollout", "repair", "extra", "demonstration"]
KeptBy = Literal["K", "2K", "all"]

PASS_THRESHOLD = 0.5
"""tau_r: a rollout passes iff its outcome reward is at least this (arXiv:2605.05226)."""

OPEN_RANK = 5
"""The rank of the fix up to which a seam is open."""
CERTAIN = 0.056
"""Entropy in nats up to which a policy is certain of its next token (arXiv:2606.25524)."""


class KintsugiError(Exception):
    """Something the user can mend: one clear line, exit code 2, no traceback."""

    def _render_traceback_(self) -> list[str]:
        """The lines that a notebook shows."""
        return [f"kintsugi: {self}"]


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


class Part(NamedTuple):
    """The reward of one function, as the function gave it, and its weight in the sum."""

    name: str
    reward: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a verifier. `unscorable` and `error` never count as pass and never pay.

    `reward` lies in [0, 1]: it decides pass and fail, and scores repairs. `parts` are the rewards of functions of the
    user's own, of any size; group advantages compare their weighted sum, `total`. `logged` is what these functions
    logged of the text, by column.
    """

    state: VerdictState
    reward: float = 0.0
    message: str = ""
    parts: tuple[Part, ...] = ()
    logged: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 <= self.reward <= 1.0:
            raise ValueError(f"verdict reward must be in [0, 1], got {self.reward!r}")
        if self.state in ("unscorable", "error") and self.reward:
            raise ValueError(f"an {self.state} verdict cannot pay a reward, got {self.reward!r}")

    @property
    def passed(self) -> bool:
        return self.state == "pass"

    @property
    def broken(self) -> bool:
        """True if the verifier itself broke down: there is no reward, not even a bad one."""
        return self.state == "error"

    @property
    def said(self) -> str:
        """State and message: "error: KeyError in line 3 of rewards.py: 'level'"."""
        return f"{self.state}: {self.message}" if self.message else self.state

    @property
    def total(self) -> float:
        """The weighted sum of the parts; without parts the reward."""
        return sum(p.reward * p.weight for p in self.parts) if self.parts else self.reward

    @classmethod
    def scored(cls, reward: float, message: str = "", parts: tuple[Part, ...] = ()) -> Verdict:
        """Pass or fail by `reward` in [0, 1] against PASS_THRESHOLD."""
        return cls("pass" if reward >= PASS_THRESHOLD else "fail", float(reward), message, parts)


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

    @property
    def solved(self) -> bool:
        """True if it passed and ended by itself: it may serve as an anchor, or as a repair."""
        return self.verdict.passed and not self.truncated


@dataclass(frozen=True, slots=True)
class Repair:
    """One candidate repair of rollout number `failed` of the group.

    `rollout` is what repair mode wrote, under the repair prompt. Where it wrote nothing it is the passing sibling
    that was taken instead, rollout number `sibling` of the group.
    `anchor_text` is None where no anchor was shown. `audit` names the rule that rejected the repair, or is
    "" (h = 1). `distance` is D(y, ybar) in [0, 1]; `score` is s_rep (kintsugi.mending.select).
    """

    failed: int
    anchor_text: str | None
    rollout: Rollout
    audit: str
    distance: float
    score: float
    sibling: int | None = None

    @property
    def written(self) -> bool:
        """True if repair mode wrote it, False if it is a sibling."""
        return self.sibling is None

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids of the mended solution, given x."""
        return self.rollout.completion.token_ids

    @property
    def mends(self) -> bool:
        """True if it may be selected: it passed (reward at least PASS_THRESHOLD) and no audit rule rejected it."""
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
class Reach:
    """The policy at a seam's first edit, given the problem and the tokens before it, at the sampler's temperature.

    failed, fix             log pi of the failure's token and of the one that the repair has there, in nats.
    failed_rank, fix_rank   1 + the number of tokens that are likelier.
    entropy                 Of the next token, in nats.
    """

    failed: float
    failed_rank: int
    fix: float
    fix_rank: int
    entropy: float

    @property
    def open(self) -> bool:
        """True if the fix is among the first five and the policy is not certain (arXiv:2605.06241, 2606.25524)."""
        return self.fix_rank <= OPEN_RANK and self.entropy > CERTAIN


@dataclass(frozen=True, slots=True)
class Seam:
    """A failed rollout joined with its selected repair: where they differ, and what is trained on.

    `failed` and `repair` index Episode.rollouts and Episode.repairs. `kept` = K* edits of `edits` gate
    the masks; `kept_by` says which try fixed it.
    Masks hold 0/1, one per token of either completion. `reach` is None where the policy could not be asked, or one
    side has no token at the first edit.
    """

    failed: int
    repair: int
    edits: tuple[Edit, ...]
    kept: int
    kept_by: KeptBy
    checks: tuple[Check, ...]
    failed_mask: tuple[int, ...]
    repaired_mask: tuple[int, ...]
    reach: Reach | None = None

    @property
    def closed(self) -> bool:
        """True if the fix is known to be out of the policy's reach."""
        return self.reach is not None and not self.reach.open


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
    group that accuracy is counted on. `teachers` holds, by rollout number, log pi(token | the teacher's prompt) -
    log pi(token) of its tokens.
    """

    problem: Problem
    rollouts: tuple[Rollout, ...]
    repairs: tuple[Repair, ...] = ()
    seams: tuple[Seam, ...] = ()
    skipped: str = ""
    extras: tuple[Extra, ...] = ()
    teachers: Mapping[int, tuple[float, ...]] = field(default_factory=dict)

    def text(self, kind: Kind, index: int) -> Rollout:
        """Rollout, repair or extra number `index`, as it was sampled."""
        if kind == "repair":
            return self.repairs[index].rollout
        return self.rollouts[index] if kind == "rollout" else self.extras[index].rollout

    @property
    def checks(self) -> tuple[Rollout, ...]:
        """The rollouts that the policy wrote without an anchor to try repairs."""
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
    """One completion to train on. Per-token fields have T = len(completion_ids) entries.

    prompt_ids         Token ids that the completion is conditioned on. A repair is conditioned on the problem alone,
                       not on the repair prompt that it was written under.
    sampling_logprobs  The sampler's natural log-probabilities; None if it saw another prompt. The learner computes
                       pi_old itself and compares the two (sampler_gap).
    kind, index        The text of the problem's episode that the completion is (Episode.text).
    mask               1 where a token counts in the loss's mean. A token may count without credit.
    credit             Advantage of each token by reason: {"group": (...), "seam": (...)}.
    term               Whose mean the row counts in: that of the policy, or that of repair mode.
    weight             Factor on the row's loss (lambda_rep for rows of repair mode).
    advantages         The sum of the credit, which is what the loss takes.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    sampling_logprobs: tuple[float, ...] | None
    problem_id: str
    kind: Kind
    index: int
    mask: tuple[int, ...]
    credit: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    term: Term = "policy"
    weight: float = 1.0
    advantages: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        columns = {"mask": self.mask, "sampling_logprobs": self.sampling_logprobs, **self.credit}
        for name, values in columns.items():
            if values is not None and len(values) != len(self.completion_ids):
                raise ValueError(
                    f"row of {self.kind} {self.index} (problem {self.problem_id}): {len(values)} {name} "
                    f"for {len(self.completion_ids)} completion tokens"
                )
        reasons = tuple(self.credit.values()) or ((0.0,) * len(self.completion_ids),)
        total = reasons[0] if len(reasons) == 1 else tuple(map(sum, zip(*reasons, strict=True)))
        object.__setattr__(self, "advantages", total)

    @property
    def active(self) -> int:
        """Number of tokens that count in the mean."""
        return sum(self.mask)

    def add(self, reason: str, credit: float | Sequence[float]) -> Row:
        """The row with this credit for one more reason: one value for all its tokens, or a value for each."""
        values = (
            tuple(credit) if isinstance(credit, Sequence) else (float(credit),) * len(self.completion_ids)
        )
        return replace(self, credit={**self.credit, reason: values})

    def credited(self) -> Row:
        """The row in whose mean only those tokens count that have credit."""
        return replace(self, mask=tuple(int(a != 0) for a in self.advantages))
