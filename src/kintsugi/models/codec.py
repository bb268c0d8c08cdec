"""Texts to token ids and back, as a model's tokenizer and chat template do it.

Three kinds of text meet here. Text of the template becomes its tokens. Text of data or users stays text, even
where it spells a mark of the template. Text of a model holds its marks of thinking as the tokens they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from kintsugi.records import KintsugiError, Turn
from kintsugi.verifiers.extract import spoken

SWITCH = "enable_thinking"
"""The name that chat templates give the switch of thinking (Qwen3's, SmolLM3's and others)."""

NAMES = r"(?:seed:)?(?:think|thinking|thought|reasoning)"
THOUGHT = re.compile(rf"</?{NAMES}>|<\|(?:begin|end)_of_thought\|>|<\|(?:channel|message)\|>", re.IGNORECASE)
"""Marks of thinking, which verifiers read (kintsugi.verifiers.extract.spoken): tags, and gpt-oss's channels."""
BETWEEN = ("<|start|>", "<|end|>")
"""The marks between the channels of one answer where there are channels; elsewhere they end turns."""
OPENED = re.compile(rf"(<{NAMES}>|<\|begin_of_thought\|>)(\s*)$", re.IGNORECASE)
CLOSED = re.compile(rf"(?:</{NAMES}>|<\|end_of_thought\|>)\s*$", re.IGNORECASE)
TAIL = 32
"""Tokens at a prompt's end that are looked at for marks of thinking."""
SAID = "\ue002"
"""An assistant's whole turn, to see what the template writes after it."""


@dataclass(frozen=True)
class HFCodec:
    """kintsugi.sampling.context.Codec over a Hugging Face tokenizer; `extra` is handed to its chat template."""

    tokenizer: Any
    stop_ids: tuple[int, ...]
    thinking: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def chat(self, message: str, before: Sequence[Turn] = ()) -> tuple[int, ...]:
        """Token ids of a user message after other turns under the chat template; without one, of the bare texts."""
        if self.tokenizer.chat_template is None:
            start = self.tokenizer.bos_token_id
            text = "\n".join([*(turn.content for turn in before), message])
            return (() if start is None else (start,)) + self._text(f"{text}\n")
        turns = [*before, Turn("user", message)]
        stands = self._stands(turns)
        if not stands:
            return tuple(self._rendered(turns))
        safe = [turn._replace(content=self._hidden(turn, stands)) for turn in turns]
        ids: list[int] = []
        for piece in re.split(r"(\ue000\d+\ue001)", self._rendered(safe, as_text=True)):
            mark = next((mark for mark, stand in stands.items() if stand == piece), None)
            ids += self._parsed(piece) if mark is None else self._text(mark)
        return tuple(ids)

    def lengths(self, asked: Sequence[tuple[str, Sequence[Turn]]]) -> list[int]:
        """The number of tokens that `chat` makes of each (message, turns before it), counted together."""
        turns = [[*before, Turn("user", message)] for message, before in asked]
        alone = [self.tokenizer.chat_template is None or bool(self._stands(each)) for each in turns]
        texts = [
            self._rendered(each, as_text=True) for each, own in zip(turns, alone, strict=True) if not own
        ]
        counted = iter(self.tokenizer(texts, add_special_tokens=False).input_ids if texts else ())
        return [len(self.chat(*one) if own else next(counted)) for one, own in zip(asked, alone, strict=True)]

    def encode(self, text: str) -> tuple[int, ...]:
        """The token ids of a text as a model writes it: its marks of thinking are tokens, other special ones text."""
        controls = [mark for mark in self.specials if mark not in self.thoughts and mark in text]
        if not controls:
            return self._parsed(text)
        pieces = re.split(either(controls), text)
        return tuple(
            i for piece in pieces for i in (self._text if piece in controls else self._parsed)(piece)
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of what a model wrote: special tokens left out, but for its marks of thinking."""
        if not self.thoughts:
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
        left_out = {i for mark, i in self.specials.items() if mark not in self.thoughts}
        return str(self.tokenizer.decode([i for i in ids if i not in left_out], skip_special_tokens=False))

    def opens_thoughts(self) -> bool:
        """True iff prompts end within thoughts, so that completions carry no opening mark of their own."""
        return spoken(str(self.tokenizer.decode(list(self.chat("?"))))) is None

    def answer(self, prompt_ids: Sequence[int], text: str) -> tuple[int, ...]:
        """The ids that a model would sample after the prompt to say `text`, with the end of its turn.

        Thinking that the prompt has opened is not opened twice; where the prompt has closed it, `text` goes without.
        """
        ending = str(self.tokenizer.decode(list(prompt_ids[-TAIL:]), skip_special_tokens=False))
        opened = OPENED.search(ending)
        if opened and text.lstrip().startswith(opened[1]):
            text = text.lstrip().removeprefix(opened[1]).removeprefix(opened[2])
        elif CLOSED.search(ending) and re.match(
            rf"\s*(?:<{NAMES}>|<\|begin_of_thought\|>)", text, re.IGNORECASE
        ):
            text = re.split(rf"</{NAMES}>|<\|end_of_thought\|>", text, flags=re.IGNORECASE)[-1].lstrip()
        return (*self.encode(text), self.end_id)

    @property
    def end_id(self) -> int:
        """The token that ends the assistant's turn: the template's, or else the tokenizer's end of sequence."""
        return int(self.tokenizer.eos_token_id) if self.turn_end is None else self.turn_end

    @cached_property
    def turn_end(self) -> int | None:
        """The token that the chat template writes after an assistant's turn; None where it writes no such token."""
        if self.tokenizer.chat_template is None:
            return None
        try:
            whole = self._rendered([Turn("user", "?"), Turn("assistant", SAID)], as_text=True, answered=True)
        except KintsugiError:  # a template that wants a system message, or knows no answers
            return None
        tail = self._parsed(whole.rpartition(SAID)[2].lstrip()) if SAID in whole else ()
        return tail[0] if tail and tail[0] in self.tokenizer.added_tokens_decoder else None

    @cached_property
    def specials(self) -> dict[str, int]:
        """The special tokens by their text."""
        return {t.content: i for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}

    @cached_property
    def thoughts(self) -> frozenset[str]:
        """Special tokens that a completion holds as text: marks of thinking, unless they end it."""
        found = {mark for mark in self.specials if THOUGHT.fullmatch(mark)}
        if "<|channel|>" in found:
            found |= {mark for mark in BETWEEN if mark in self.specials}
        return frozenset(mark for mark in found if self.specials[mark] not in self.stop_ids)

    @cached_property
    def _held(self) -> tuple[str, ...]:
        """Marks that no text may spell: special tokens, and added ones by which the chat template marks turns."""
        template = str(self.tokenizer.chat_template)
        added = [t.content for t in self.tokenizer.added_tokens_decoder.values()]
        marks = (t for t in added if t in self.specials or (t in template and not THOUGHT.fullmatch(t)))
        return tuple(sorted(marks, key=len, reverse=True))

    def _stands(self, turns: Sequence[Turn]) -> dict[str, str]:
        """Stand-ins for the marks that the turns spell: something that no tokenizer knows, put back as plain text.

        So the template sees every turn but for the marks in it that would become the template's own.
        """
        begins = {mark[0] for mark in self._held}  # most texts hold not even the first character of any
        texts = [turn.content for turn in turns if any(c in turn.content for c in begins)]
        found = [mark for mark in self._held if any(mark in text for text in texts)]
        return {mark: f"\ue000{i}\ue001" for i, mark in enumerate(found)}

    def _hidden(self, turn: Turn, stands: Mapping[str, str]) -> str:
        """The turn's text with stand-ins for marks, but for an assistant's thoughts: the template may strip those."""
        own = self.thoughts if turn.role == "assistant" else ()
        marks = [mark for mark in stands if mark not in own]
        return re.sub(either(marks), lambda found: stands[found[0]], turn.content) if marks else turn.content

    def _rendered(self, turns: Sequence[Turn], as_text: bool = False, answered: bool = False) -> Any:
        """The conversation under the chat template: token ids, or the text of them."""
        switch = dict(self.extra) if self.thinking is None else {**self.extra, SWITCH: self.thinking}
        try:
            return self.tokenizer.apply_chat_template(
                [turn._asdict() for turn in turns],
                add_generation_prompt=not answered,
                return_dict=False,
                tokenize=not as_text,
                **switch,
            )
        except TemplateError as error:  # some templates know no system message, or want roles to alternate
            roles = ", ".join(turn.role for turn in turns)
            raise KintsugiError(
                f"the model's chat template refuses a conversation of {roles}: {error}"
            ) from None

    def _parsed(self, text: str) -> tuple[int, ...]:
        """The ids of a text whose marks are tokens."""
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=False).input_ids)

    def _text(self, text: str) -> tuple[int, ...]:
        """The ids of a text that only spells what marks it holds."""
        return tuple(i for piece in self._cut(text) for i in self._spelled(piece))

    def _spelled(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def _cut(self, text: str) -> Iterator[str]:
        """The text cut within marks that are no special tokens, which a tokenizer never splits by itself."""
        whole: Collection[str] = [mark for mark in self._held if mark not in self.specials and mark in text]
        for piece in re.split(either(whole), text) if whole else [text]:
            yield from (piece[:1], piece[1:]) if piece in whole else (piece,)


def either(marks: Collection[str]) -> str:
    """A pattern for any of the marks, the longest first, that is kept by re.split."""
    return f"({'|'.join(map(re.escape, sorted(marks, key=len, reverse=True)))})"
