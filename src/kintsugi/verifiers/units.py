"""Units and the words beside a number: which may be left out of an answer, and which change it."""

from __future__ import annotations

import re

from kintsugi.verifiers.formula import PLAIN, Unreadable, listed, words_of

SYNONYMS = {
    "millimeter": "mm millimetre", "centimeter": "cm centimetre", "meter": "m metre", "kilometer": "km kilometre",
    "inch": "in inche", "foot": "ft feet", "yard": "yd", "mile": "mi", "milligram": "mg", "gram": "g gm gramme",
    "kilogram": "kg kilo", "pound": "lb", "ounce": "oz", "ton": "tonne", "second": "s sec", "minute": "min",
    "hour": "h hr", "day": "d", "year": "yr", "milliliter": "ml millilitre", "liter": "l L litre", "gallon": "gal",
    "dollar": "$ usd buck", "euro": "€ eur", "sterling": "£ gbp", "yen": "¥ jpy", "rupee": "₹ rs inr", "cent": "¢ ct",
    "mile per hour": "mph", "kilometer per hour": "kmph kph kmh", "newton": "", "joule": "", "watt": "", "volt": "",
    "degree": "deg", "radian": "rad",
    "celsius": "", "fahrenheit": "", "person": "people", "child": "children", "man": "men", "woman": "women",
}  # fmt: skip
UNITS = {name: unit for unit, names in SYNONYMS.items() for name in (unit, *names.split())}
LONE = {"m", "g", "s", "h", "L"}
"""Letters that are units where a space stands before them; any other letter is a variable."""
SCALES = {
    "dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "lakh": 10**5, "crore": 10**7,
}  # fmt: skip
CHANGING = listed(
    "gross tens ones hopefully presumably apparently "
    "or nor not no never neither either except but excluding unless if when maybe perhaps probably possibly likely "
    "approximately about around roughly nearly almost approx circa least most more less fewer greater larger smaller "
    "bigger higher lower than above below under over up down between within until beyond exceeding minimum maximum max "
    "plus minus times divided multiplied added subtracted squared cubed cube factorial root power exponent mod modulo "
    "base choose half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh sevenths "
    "eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths double twice thrice triple "
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety infinity infinite wrong incorrect "
    "something ish inverse negative opposite reciprocal log etc some can't cannot isn doesn unknown guess sure every "
    "remainder sum difference product quotient multiple divisible hundreds thousands millions billions dozens score "
    "cosine sine tangent outside false error approximate estimated estimate rounded wait instead rather "
    "doubled tripled quadrupled halved raised increased decreased reduced reversed negated inverted"
)
"""Closed classes of words that make another number, or a doubt, of the number beside them. Nouns are left open."""
DOUBTING = listed(
    "unless except or nor not never neither either maybe perhaps probably possibly wrong incorrect false guess isn "
    "wasn doesn aren cannot almost nearly"
)
"""Words that doubt what follows them in a sentence."""
STOPS = listed(
    "are is was were will would have has had left remaining remain remains altogether total in on at for of to by with "
    "and that which who after before each because since during as the this his her their its from"
)
"""The words at which the noun phrase ends that names the unit."""
WORD = re.compile(r"[A-Za-z€£¥₹$¢]+")
TAIL = re.compile(
    r"(?<=[\d}\])!. ])\s*(?:\( *)?(?P<unit>(?:[A-Za-z€£¥₹¢]|\\?\$)[A-Za-z€£¥₹¢ .,'/-]*"
    r"(?:\^\{?[23]\}?)?(?:/[A-Za-z]+(?:\^\{?[23]\}?)?)?)\)?$"
)


def changed(text: str) -> str | None:
    """The first word of `text` that changes or doubts the number beside it."""
    return next((word for word in WORD.findall(text.lower()) if word in CHANGING), None)


def doubted(text: str) -> bool:
    """True iff what follows `text` in a sentence is not said for certain."""
    return not DOUBTING.isdisjoint(WORD.findall(text.lower()))


def split_unit(text: str) -> tuple[str, str, int]:
    """(the number, its unit, the factor of a word such as `million`); Unreadable where words change the number.

    The unit is "" where there is none: `2x` and `3 pi` are formulas.
    """
    tail = TAIL.search(text)
    if tail is None or not text[: tail.start()].strip(" ("):
        return text, "", 1
    body, said = text[: tail.start()].rstrip(" ("), tail["unit"].strip(" .,")
    spaced = text[tail.start("unit") - 1] in " (" or body.endswith(("}", ")"))
    words = WORD.findall(said)
    if spaced and all(word in PLAIN or product_like(word) for word in words):
        return text, "", 1
    if not spaced and not (words and words[0].lower() in UNITS and len(words[0]) > 1):
        return text, "", 1
    factor = 1
    while words and words[0].lower() in SCALES:
        factor *= SCALES[words.pop(0).lower()]
        said = said.partition(" ")[2].strip()
    if len(words) > 1 and words[0] in ("more", "fewer"):
        words, said = words[1:], said.partition(" ")[2].strip()
    if word := changed(" ".join(words)):
        raise Unreadable(f"{word!r} beside a number")
    if any(product_like(word) for word in words if word != "a"):
        return text, "", 1
    return body, unit(said), factor


def product_like(word: str) -> bool:
    """Letters that may be variables: not those of a known unit, nor of a noun."""
    if word in PLAIN:
        return True
    if len(word) == 1:
        return word not in LONE and word not in UNITS
    if (
        word.lower().rstrip("s") in UNITS
        or word.lower() in UNITS
        or word in STOPS
        or word in ("sq", "cu", "per")
    ):
        return False
    return len(word) < 3 or len(words_of(word)) > 1 or not re.search("[aeiouAEIOU]", word)


def unit(said: str) -> str:
    """One spelling for the spellings of a unit: `sq. inches`, `inches^2` and `square inch` are `inch^2`."""
    text = said.replace("{", "").replace("}", "").replace("\\", "").replace("/", " per ")
    power = ""
    if found := re.search(r"\^(\d)", text):
        power, text = found[0], text.replace(found[0], "")
    words: list[str] = []
    for word in WORD.findall(text.lower() if len(text) > 1 else text):
        if word in STOPS and not (word == said.strip() == "in" or (word == "in" and power)):
            if words:
                break
            continue
        if word in ("square", "sq", "cubic", "cu") and not words:
            power = "^2" if word.startswith("s") else "^3"
        else:
            words.append(singular(word))
    if words.count("percent") > 1:
        raise Unreadable("a percentage of a percentage")
    if words[:1] == ["percent"]:
        return "%"
    return " ".join(words) + power


def singular(word: str) -> str:
    if word in UNITS:
        return UNITS[word]
    for end, instead in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("s", "")):
        if word.endswith(end) and len(word) > len(end) + 1 and not word.endswith("ss"):
            short = word.removesuffix(end) + instead
            return UNITS.get(short, short)
    return word


def compatible(gold: str, answer: str) -> bool:
    """A unit may be left out, and nouns may be described: `eggs` and `duck eggs`, but not `cm` and `cm^2`."""
    if not gold or not answer or gold == answer:
        return True
    if any(sign in gold + answer for sign in "^%") or " per " in f" {gold} {answer} ":
        return False
    return f" {gold}".endswith(f" {answer}") or f" {answer}".endswith(f" {gold}")
