"""Versioned prompt templates. A change of wording is a new version, so that a run can be repeated.

No builder accepts a Problem: the gold answer cannot reach a prompt because it is never handed over.
The anchor of a repair prompt is text that a model wrote and the verifier passed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from kintsugi.plugins import Door, Spec
from kintsugi.records import KintsugiError, Turn

TERSE_MARKERS = ("wrong:\n", "right:\n", "mend:\n", "patch:\n", "#### ")
"""Single tokens of the nano tokenizer. Nothing uses `patch` any more, but the weights have a place for it."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """User messages of the policy (`solve`) and of repair mode (`repair`, beside an anchor or without one).

    `leaks` are phrases that occur in repair prompts only: a repair that says the like is rejected. `system` opens
    conversations that have no system message; `thinking` is asked of the chat template (None: its own default).
    `examples` are questions with solutions that the policy sees as earlier turns (few-shot); repair mode does not.
    """

    name: str
    solve_form: str
    repair_form: str
    repair_alone_form: str
    leaks: tuple[str, ...]
    system: str | None = None
    thinking: bool | None = None
    examples: tuple[tuple[str, str], ...] = ()

    def solving(self, question: str, before: tuple[Turn, ...] | None) -> tuple[str, tuple[Turn, ...]]:
        """The question to the policy: the user message, and the turns before it."""
        shown = [(Turn("user", self.solve(q)), Turn("assistant", a)) for q, a in self.examples]
        opening = self.opening(before)
        system = sum(turn.role == "system" for turn in opening[:1])
        turns = (*opening[:system], *(turn for pair in shown for turn in pair), *opening[system:])
        return self.solve(question), turns

    def opening(self, before: tuple[Turn, ...] | None) -> tuple[Turn, ...]:
        """The turns before the user message, of a problem that has these."""
        turns = before or ()
        if self.system is None or any(turn.role == "system" for turn in turns):
            return turns
        return (Turn("system", self.system), *turns)

    def solve(self, question: str) -> str:
        """The user message that asks the policy for a solution."""
        # No str.format: a wording of the user's may hold braces, as in \boxed{}.
        return self.solve_form.replace("{question}", question)

    def repair(self, question: str, failed: str, anchor: str | None) -> str:
        """The user message that asks for a minimal repair of `failed`, beside a passing solution or alone."""
        if anchor is None:
            return self.repair_alone_form.format(question=question, failed=failed)
        return self.repair_form.format(question=question, failed=failed, anchor=anchor)


TERSE = Prompts(
    name="terse-v1",
    solve_form="{question}",
    repair_form="{question}\nwrong:\n{failed}\nright:\n{anchor}\nmend:\n",
    repair_alone_form="{question}\nwrong:\n{failed}\nmend:\n",
    leaks=("wrong:\n", "right:\n", "mend:\n"),
)

CHAT_ENDING = "End with the final answer on a line of its own: #### answer"
# The failure comes last: what is before it is the same for all failures of a group, and is read once.
CHAT = Prompts(
    name="chat-v2",
    solve_form="{question}\n\nThink step by step. " + CHAT_ENDING,
    repair_form=(
        "Question:\n{question}\n\n"
        "A correct solution by a student:\n<reference>\n{anchor}\n</reference>\n\n"
        "Another student's solution, which reaches a wrong final answer:\n<failed>\n{failed}\n</failed>\n\n"
        "Rewrite this last solution so that it is correct, and change as little as you can: copy every "
        "sentence that is right word for word, keep its order and wording, and correct only the "
        "wrong steps and what follows from them. Do not mention the students, the reference or the error. "
        + CHAT_ENDING
    ),
    repair_alone_form=(
        "Question:\n{question}\n\n"
        "A student's solution, which reaches a wrong final answer:\n<failed>\n{failed}\n</failed>\n\n"
        "Rewrite the student's solution so that it is correct, and change as little as you can: copy every "
        "sentence that is right word for word, keep the student's order and wording, and correct only the "
        "wrong steps and what follows from them. Do not mention the student or the error. " + CHAT_ENDING
    ),
    leaks=(
        "<failed>",
        "student",
        "reference",
        "error",
        "this last solution",
        "reaches a wrong final answer",
        "copy every sentence that is right word for word",
        "correct only the wrong steps and what follows from them",
    ),
)

SAME_FORM = "State the final answer in the form that the question asks for."
PLAIN = replace(
    CHAT,
    name="plain-v2",
    solve_form="{question}",
    repair_form=CHAT.repair_form.replace(CHAT_ENDING, SAME_FORM),
    repair_alone_form=CHAT.repair_alone_form.replace(CHAT_ENDING, SAME_FORM),
)
"""For questions that already say how to answer, as data sets of TRL's and verl's users do: nothing is added."""


class Example(BaseModel):
    """A question with its answer, shown before the problem."""

    model_config = ConfigDict(extra="forbid")
    question: str
    answer: str


def worded(
    base: Prompts,
    solve: str | None = None,
    system: str | None = None,
    thinking: bool | None = None,
    examples: list[Example] | None = None,
) -> Prompts:
    """The templates with another wording of the question, which must hold {question}, a system message, thinking
    asked for or not, and examples."""
    if solve is not None and "{question}" not in solve:
        raise KintsugiError(f"prompts.solve: expected {{question}} somewhere in it, got {solve!r}")
    shown = None if examples is None else tuple((e.question, e.answer) for e in examples)
    given: dict[str, Any] = {"solve_form": solve, "system": system, "thinking": thinking, "examples": shown}
    return replace(base, **{name: value for name, value in given.items() if value is not None})


PROMPTS = Door("prompts", {base.name: partial(worded, base) for base in (TERSE, CHAT, PLAIN)})


def load_prompts(spec: Spec) -> Prompts:
    """The templates of a spec: a name, or a mapping such as `{name: chat-v2, solve: "...", thinking: false}`.

    KintsugiError says what is wrong.
    """
    found: Prompts = PROMPTS.make(spec)
    return found
