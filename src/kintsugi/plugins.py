"""One door for everything that a recipe names: what is built in, and what a file of the user's own defines.

    TASKS = Door("task", {"dag": "kintsugi.tasks.dag:DagTask"}, own="my_task.py:MyTask")
    task = TASKS.make({"name": "dag", "steps": 7})

A spec is a name, or a mapping of `name` and arguments. Arguments are checked by the signature of what is made: its
parameters, their annotations (pydantic), and what they must be given. In Python the thing itself may stand for a spec.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from rapidfuzz import fuzz, process

from kintsugi.files import sought_in
from kintsugi.names import translated
from kintsugi.records import KintsugiError

Spec = str | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Door:
    """The things of one kind.

    what      The kind: the recipe's key, with which errors begin.
    built_in  Name -> the thing, or "module:attribute", which is imported when it is asked for.
    own       How one of the user's own is named, such as "my_task.py:MyTask"; "" where there can be none.
    also      Words that people may use for a name, for the error that tells them.
    """

    what: str
    built_in: Mapping[str, Any]
    own: str = ""
    also: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Any:
        """The thing of this name; KintsugiError with the nearest name where there is none."""
        if self.own and is_file_spec(name):
            return load_object(name, self.what)
        if name.startswith(IN_PYTHON):
            raise KintsugiError(
                f"{self.what} {name!r}: an object that was given in Python; give it again ({self.what}=...), or put it "
                f"in a file and name it as {self.own}"
            )
        if name not in self.built_in:
            names = ", ".join([*self.built_in, *([f"and {self.own}"] if self.own else [])])
            meant = did_you_mean(self.also.get(name.lower(), name), self.built_in)
            raise KintsugiError(f"{self.what}: unknown {name!r}{meant} There are {names}")
        found = self.built_in[name]
        if not isinstance(found, str):
            return found
        module, _, attribute = found.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ImportError as error:
            raise KintsugiError(
                f"{self.what} {name} needs a package that is missing: pip install -e '.[{name}]' ({error})"
            ) from None

    def make(self, spec: Any) -> Any:
        """Makes what a spec names. A thing that takes arguments is called with them; one given in Python is ready."""
        if not isinstance(spec, str | dict):
            return spec
        name, arguments = split_spec(spec, self.what)
        return made(f"{self.what} {name}", self.find(name), arguments)


def split_spec(spec: Any, what: str) -> tuple[Any, dict[str, Any]]:
    """(name, arguments) of a spec such as `dag` or `{name: dag, steps: 7}`; the name may be a function."""
    if isinstance(spec, str) or callable(spec):
        return spec, {}
    if not isinstance(spec, dict):
        raise KintsugiError(f"{what}: expected a name or a mapping with `name`, got {spec!r}")
    arguments = dict(spec)
    name = arguments.pop("name", None)
    if not isinstance(name, str) and not callable(name):
        raise KintsugiError(f"{what}: expected a name or a mapping with `name`, got {spec!r}")
    return name, arguments


def spec_name(spec: Any) -> str:
    """The name in a spec, whatever else it says."""
    return str(spelled(spec.get("name") if isinstance(spec, Mapping) else spec))


IN_PYTHON = "python:"
"""The beginning of the name by which a run's recipe.yaml knows an object that was given in Python."""


def spelled(spec: Any) -> Any:
    """A spec as YAML can hold it: an object given in Python becomes `python:` and its name."""
    if isinstance(spec, list | tuple):
        return [spelled(one) for one in spec]
    if isinstance(spec, Mapping):
        return {key: spelled(value) if key == "name" else value for key, value in spec.items()}
    if spec is None or isinstance(spec, str):
        return spec
    return IN_PYTHON + str(getattr(spec, "__name__", None) or getattr(spec, "name", type(spec).__name__))


def with_name(spec: Spec, name: str) -> Spec:
    """A spec with another name and the same arguments."""
    return name if isinstance(spec, str) else {**spec, "name": name}


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The end of a sentence: `; did you mean 'x'?` with the nearest of `words`, `.` where none is near."""
    nearest = process.extractOne(word, list(words), scorer=fuzz.ratio, score_cutoff=NEAR)
    return f"; did you mean {nearest[0]!r}?" if nearest else "."


NEAR = 60
"""The similarity in percent (Indel) above which a name may have been meant: 67 with one letter of three changed."""


# ---- files of the user's own


def is_file_spec(name: str) -> bool:
    """True if a spec names an object in a file rather than something built in."""
    return ".py:" in name or name.endswith(".py")


def load_object(name: str, what: str) -> Any:
    """The object that `path/to/file.py:Name` names; KintsugiError says which part is wrong."""
    path_text, _, attribute = (f"{name}:" if name.endswith(".py") else name).rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise KintsugiError(f"{what} {name!r}: no such file {path_text!r}{sought_in(path)}")
    if not attribute:
        kind, names = defined(path, what)
        example = f"{path_text}:{names[0] if names else 'NAME'}"
        raise KintsugiError(
            f"{what} {name!r}: which {kind} of {path.name}? it defines {', '.join(names) or 'none'}: {example}"
        )
    spec = importlib.util.spec_from_file_location(f"kintsugi_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise KintsugiError(f"{what} {name!r}: {path_text!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise KintsugiError(
            f"{what} {name!r}: importing it raised {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        raise KintsugiError(f"{what} {name!r}: {path_text!r} defines no {attribute!r}")
    return getattr(module, attribute)


def defined(path: Path, what: str) -> tuple[str, list[str]]:
    """(what one of a kind usually is in a file, the public names that this file defines as such)."""
    kind, nodes = USUAL.get(what, ("class", (ast.ClassDef,)))
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):  # importing it will say so
        return kind, []
    found = [node for node in body if isinstance(node, nodes)]
    targets = [t for node in found for t in (node.targets if isinstance(node, ast.Assign) else [node])]
    names = (getattr(t, "id", None) or getattr(t, "name", "") for t in targets)
    return kind, [name for name in names if name and not name.startswith("_")]


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
USUAL: dict[str, tuple[str, tuple[type[ast.stmt], ...]]] = {
    "verifier": ("function", FUNCTIONS),
    "algorithm": ("algorithm", (ast.Assign, *FUNCTIONS)),
}


# ---- arguments


@dataclass(frozen=True, slots=True)
class Argument:
    """A parameter of what is made: its annotation (Any without one) and default (`inspect.Parameter.empty`: none)."""

    name: str
    kind: Any
    default: Any

    @property
    def said(self) -> str:
        """Its meaning, where the annotation says so: Annotated[int, Field(description="...")]."""
        fields = [m for m in get_args(self.kind)[1:] if isinstance(m, FieldInfo)]
        return next((f.description for f in fields if f.description), "")


def arguments_of(make: Callable[..., Any]) -> tuple[dict[str, Argument], bool]:
    """(the arguments by name, whether any other is taken too). A class written in C may have no signature: it takes
    all."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return {}, True
    source: Any = make
    if isinstance(make, type):
        source = make.__init__  # type: ignore[misc]
    elif isinstance(make, partial):
        source = make.func
    try:
        hints = get_type_hints(inspect.unwrap(source), include_extras=True)
    except Exception:  # an annotation of the user's that cannot be read is none
        hints = {}
    named = {
        p.name: Argument(p.name, hints.get(p.name, Any), p.default)
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


def made(where: str, make: Any, arguments: Mapping[str, Any]) -> Any:
    """make(**arguments), or `make` itself where it cannot be called. KintsugiError for an argument that is unknown,
    missing or of another type, and for what making it raises."""
    named, others = arguments_of(make) if callable(make) else ({}, False)
    taken = f"it takes {', '.join(named) or 'none'}"
    for key, value in arguments.items():
        if key not in named and not others:
            if known := translated(f"{where.split()[0]}.{key}", value):
                raise KintsugiError(f"{where}: unknown argument {key!r}: {'; '.join(known)}")
            hint = f"{did_you_mean(key, named)} I{taken[1:]}" if named else f"; {taken}"
            raise KintsugiError(f"{where}: unknown argument {key!r}{hint}")
    for key, argument in named.items():
        if argument.default is inspect.Parameter.empty and key not in arguments:
            raise KintsugiError(f"{where}: missing argument {key!r}; {taken}")
    if not callable(make):
        return make
    given = {k: checked(where, named[k], v) if k in named else v for k, v in arguments.items()}
    try:
        return make(**given)
    except KintsugiError:
        raise
    except Exception as error:
        raise KintsugiError(f"{where}: making it raised {type(error).__name__}: {error}") from error


def checked(where: str, argument: Argument, value: Any) -> Any:
    """The value as the argument's annotation has it; KintsugiError where it cannot be."""
    if has_bool(value) and not takes(argument.kind, bool):  # pydantic takes true for 1; here it is a mistake
        raise KintsugiError(f"{where}: {argument.name}: input should not be true or false, got {value!r}")
    try:
        adapter = TypeAdapter(argument.kind, config=None if is_model(argument.kind) else ANYTHING)
        return adapter.validate_python(value)
    except PydanticUserError:  # an annotation that pydantic cannot check
        return value
    except ValidationError as error:
        raise KintsugiError(f"{where}: {first_fault(error, argument.name)}") from None


ANYTHING = ConfigDict(arbitrary_types_allowed=True)


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_config")


def first_fault(error: ValidationError, key: str = "") -> str:
    """The first thing that pydantic found wrong, as one line that begins with its key."""
    first = error.errors()[0]
    place = ".".join(str(p) for p in (key, *first["loc"]) if p not in ("", "str", "dict[str,any]"))
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}"


def has_bool(value: object) -> bool:
    return any(isinstance(one, bool) for one in (value if isinstance(value, list | tuple) else [value]))


def takes(annotation: object, kind: type) -> bool:
    """True if a type is `kind`, `Any` or `object`, or a union with one of them."""
    if get_origin(annotation) is Annotated:
        return takes(get_args(annotation)[0], kind)
    union = get_origin(annotation) in (Union, UnionType)
    return annotation in (kind, Any, object) or (
        union and any(takes(part, kind) for part in get_args(annotation))
    )


def arguments_table(make: Callable[..., Any], prefix: str = "") -> Iterator[str]:
    """One Markdown table line per argument: key, default, meaning."""
    for name, argument in arguments_of(make)[0].items():
        default = "required"
        if argument.default is not inspect.Parameter.empty:
            default = yaml.safe_dump(argument.default, default_flow_style=True).split("\n")[0]
        yield f"| `{prefix}{name}` | {default} | {argument.said} |"
