"""Errors of the command line, in one line each: a command that is called wrongly, a disk that takes nothing."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from typer.core import TyperGroup

from kintsugi.records import KintsugiError

Misused: type[Exception] = typer.BadParameter.__mro__[1]
"""The base of all errors of usage. Newer versions of typer carry a click of their own."""


REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
"""The errors of a write to a disk, or to a terminal that is gone. A traceback explains none of them."""


class OneLine(TyperGroup):
    """The commands; one that is called wrongly says so in one line, as every other error."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        with in_one_line():
            return super().invoke(ctx)

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args:  # help
            return super().parse_args(ctx, args)
        with in_one_line():
            return super().parse_args(ctx, args)


@contextmanager
def in_one_line() -> Iterator[None]:
    try:
        yield
    except Misused as error:
        ctx = getattr(error, "ctx", None)
        command = f"{ctx.info_name}: " if ctx and ctx.parent else ""
        said = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        raise KintsugiError(f"{command}{said} (--help says more)") from None
