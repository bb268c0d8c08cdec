r"""The dress of an answer, which carries no meaning: delimiters, bold, boxes, spaces of LaTeX, `the answer is`."""

from __future__ import annotations

import re

SIGNS = str.maketrans(
    {
        "−": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "√": r"\sqrt ",
        "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ", "∓": r"\mp ",
        "°": r"^\circ ", "∪": r"\cup ", "∈": r"\in ", "θ": r"\theta ", "…": "...", "\u00a0": " ", "\u2009": " ",
        "\u202f": " ", "\u2061": "", "“": '"', "”": '"', "‘": "'", "’": "'", "′": "'", "∅": r"\emptyset ",
        "½": r" \frac{1}{2}", "¼": r" \frac{1}{4}", "¾": r" \frac{3}{4}", "⅓": r" \frac{1}{3}", "⅔": r" \frac{2}{3}",
        "⅛": r" \frac{1}{8}", "⁄": "/", "\t": " ", "\n": " ", "\r": " ",
    }
)  # fmt: skip
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
LATEX = (
    (r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+", lambda m: "^{" + m[0].translate(RAISED) + "}"),
    (r"[₀₁₂₃₄₅₆₇₈₉]+", lambda m: "_{" + m[0].translate(LOWERED) + "}"),
    (r"\{,\}|,\\! *|(?<!\\)\\!", lambda m: "," if "," in m[0] else ""),
    (r"(?<=\d)\\[,;:](?=\d{3}(?!\d))", ","),
    (r"(?<!\\)\\[,;: ]|(?<!\\)~|\\(?:q?quad|displaystyle|textstyle|limits)(?![a-z])|\\[hv]space\{[^{}]*\}", " "),
    (r"\\(?:left|right|big|Big|bigg|Bigg)[lrm]?(?![a-z])\.?", ""),
    (r"\\lbrace", r"\\{"), (r"\\rbrace", r"\\}"), (r"\\l?vert|\\rvert|\\mid(?= *[^x])", "|"), (r"\\lbrack", "["),
    (r"\\[dtc]frac", r"\\frac"), (r"\\mathrm *\{?([ei])\}?(?![a-z])", r"\1"),
    (r"\^\{ *\\(?:circ|degree) *\}|\^\\degree|\\degree(?![a-z])|\\textdegree", r"^\\circ "),
    (r"\^ *\\(?:prime|dagger)|\^\{\\prime\}", "'"),
    (r"\\(?:text[a-z]*|mbox|math(?:rm|bf|it|sf)|operatorname|emph) *\{([^{}]*)\}", lambda m: content(m)),
    (r"\^\\circ *\\?(?:text)?\{?([CF])\b\}?", r" degrees \1"),
    (r"^((?!.*\\(?:sin|cos|tan|cot|sec|csc)).*?)\^\\circ *$", r"\1 degrees"),
    (r"\\?%| *\\?\bper ?cent\b| *\bpercentage\b| *\bpct\b", " percent"),
    (r"\\[lc]?dots[cbo]?", "..."), (r"\\(?:varnothing|emptyset)(?![a-z])|^\\\{ *\\\}$", "empty set"),
)  # fmt: skip
COMPILED = tuple((re.compile(pattern), instead) for pattern, instead in LATEX)
SPECIAL = re.compile(r"[^A-Za-z0-9 .,+\-*/()\[\]=<>:;!?]|per ?cent|pct")
"""Without these signs there is nothing of LaTeX to take off."""
PHRASE = re.compile(
    r"(?i)^(?:[#>*_ ]*)(?:(?:so|thus|hence|therefore|and|final|the|my|our|correct|right|best|,| )*)"
    r"\b(?:answer|result|solution|option|choice|ans)\b(?: here)?"
    r"(?:[*_ ]*(?:is|are|would be|:|=)+(?:[*_]+(?=\s))?[\s:]*| (?=\(?[A-J]\)?\.?$))"
)
TOTAL = re.compile(r"(?i)^(?:a |the )?(?:grand )?total(?: of|:)? (?=[$\\\d])")
TAGS = re.compile(r"(?i)<(answer|final_answer|result)>(.*)</\1>")
PAIRS = (
    ("**", "**"), ("__", "__"), ("`", "`"), ("'", "'"),
    ("\\(", "\\)"), ("\\[", "\\]"), ('"', '"'), ("$$", "$$"), ("$", "$"),
)  # fmt: skip
COMMAND = re.compile(r"\\(?:boxed|fbox|text|ensuremath) *\{(.*)\}|\{([^{}]*)\}")
APPROXIMATELY = re.compile(r"\\approx|\\simeq|\\cong|\\sim(?![a-z])")


def content(found: re.Match[str]) -> str:
    r"""The content of `\text{...}`, kept apart from a number before it."""
    before = found.string[: found.start()].rstrip()[-1:]
    inside = found[1]
    apart = before.isdigit() or before in ("}", ")")
    return f" {inside}" if apart and inside[:1].isalpha() else inside


def undress(text: str) -> str:
    """`text` without what means nothing; of `a \\approx b` only `a`, which is exact."""
    bare = re.sub(r"^ *~", r"\\approx ", text.translate(SIGNS))
    for _ in range(8):
        before = bare
        bare = peel(bare.strip())
        if bare == before:
            break
    for pattern, instead in COMPILED if SPECIAL.search(bare) else ():
        bare = pattern.sub(instead, bare)
    exact = APPROXIMATELY.split(bare, maxsplit=1)[0]
    bare = exact if exact.strip() else bare
    bare = peel(" ".join(bare.split()))
    return peel(bare)


def peel(text: str) -> str:
    """`text` without its outermost dress."""
    if found := TAGS.search(text):
        text = found[2].strip()
    text = TOTAL.sub("", PHRASE.sub("", text))
    text = re.sub(r"(?:(?<![.])\.|[,;:])$", "", text).strip()
    for left, right in PAIRS:
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
            inside = text[len(left) : -len(right)]
            if left not in inside or left == right == "$":
                return inside.replace("$", " ").strip() if left == "$" else inside.strip()
    if found := COMMAND.fullmatch(text):
        inside = found[1] if found[1] is not None else found[2]
        level = 0
        for brace in re.finditer(r"(?<!\\)[{}]", inside):
            level += 1 if brace[0] == "{" else -1
            if level < 0:
                return text
        return inside.strip()
    dollars = len(re.findall(r"(?<!\\)\$", text))
    if dollars and dollars % 2 == 0:
        return re.sub(r"(?<!\\)\$", " ", text).strip()
    return text
