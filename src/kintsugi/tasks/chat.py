"""Conversations in data sets: lists of `{"role": ..., "content": ...}`, as TRL and verl have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kintsugi.records import KintsugiError, Turn

ROLES = ("system", "user", "assistant")


def conversation(messages: Sequence[Any], where: str) -> tuple[tuple[Turn, ...], str]:
    """(turns before the question, the question): the last message, which must be the user's.

    KintsugiError for an unknown role, content that is not text, or another end: an answer that is begun in the
    data cannot be continued.
    """
    turns = [turn(message, where) for message in messages]
    if not turns or turns[-1].role != "user":
        ends = f"ends with a message of the {turns[-1].role}" if turns else "is empty"
        raise KintsugiError(f"{where}: the conversation {ends}; expected the user's question at its end")
    return tuple(turns[:-1]), turns[-1].content.strip()


def turn(message: Any, where: str) -> Turn:
    role = message.get("role") if isinstance(message, Mapping) else None
    if role not in ROLES:
        raise KintsugiError(
            f"{where}: expected a message with one of the roles {', '.join(ROLES)}, found {message!r}"
        )
    return Turn(role, message_text(message.get("content"), f"{where}: the {role} message of the prompt"))


def message_text(content: Any, what: str) -> str:
    """A message's content: a string, or a list of parts of which all must be text."""
    texts = []
    for part in content if isinstance(content, list) else [{"text": content}]:
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise KintsugiError(f"{what} is not text")
        texts.append(text)
    return "\n".join(texts)
