"""A verifier that is heard: what goes wrong in it is said once, with the problem at which it showed first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kintsugi.records import KintsugiError, Problem, Verdict
from kintsugi.verifiers.base import UNKNOWN, Sampled, Verifier


class Heard:
    """`verifier`, with `say` called for the first of each new exception, and for a function's first reward outside
    [0, 1]. Exceptions are new by what stands before their text: type, file and line."""

    def __init__(
        self,
        verifier: Verifier,
        say: Callable[[str], None],
        go_on: bool = False,
        said: set[str] | None = None,
    ) -> None:
        self.verifier, self.say, self.go_on = verifier, say, go_on
        self.said = set() if said is None else said

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        verdicts = self.verifier(problem, texts, sampled)
        self.hear(problem, verdicts)
        return verdicts

    def hear(self, problem: Problem, verdicts: Iterable[Verdict]) -> None:
        """Says what is new in verdicts on a problem."""
        for verdict in verdicts:
            if verdict.broken:
                self._once(
                    verdict.message.partition(": ")[0],
                    f"warning: the verifier failed on problem {problem.id}: {verdict.message}",
                )
            for part in verdict.parts:
                if not 0 <= part.reward <= 1:
                    self._once(
                        f"reward {part.name}",
                        f"note: {part.name} paid {part.reward:g} on problem {problem.id}: group advantages take "
                        "rewards outside [0, 1] as they are; to pass or fail, and to score repairs, they are clipped",
                    )

    def require(self, verdicts: Iterable[Verdict], where: str) -> None:
        """KintsugiError where there are verdicts and all are errors, unless the recipe says to go on."""
        if not self.go_on:
            require(verdicts, where)

    def _once(self, key: str, line: str) -> None:
        if key not in self.said:
            self.said.add(key)
            self.say(line)


def require(verdicts: Iterable[Verdict], where: str) -> None:
    """KintsugiError where there are verdicts and all are errors."""
    found = list(verdicts)
    if found and all(v.broken for v in found):
        raise KintsugiError(
            f"{where}: the verifier gave nothing but errors, such as {found[0].message}; mend it, or say "
            "`on_error: continue` beside its name"
        )
