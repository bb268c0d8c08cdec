"""What README and docs say is true: every command runs (toy-sized), every name, key and example exists."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from forks import Forks, forking
from hub_server import Hub, serving

from kintsugi.algorithms import ALGORITHMS, load_algorithm
from kintsugi.cli import app
from kintsugi.compare.plan import Tuning
from kintsugi.config import Recipe, known_keys
from kintsugi.names import NAMES
from kintsugi.plugins import arguments_of
from kintsugi.prompts import load_prompts
from kintsugi.tasks.dag import DagTask

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE = {"results.md"}
"""Written by `make results`; its backticks are labels of runs."""
TOY = [
    "steps=2", "save_every=1", "threads=1", "sampling.problems=4", "sampling.group_size=4", "eval.problems=4",
    "eval.samples=1",
]  # fmt: skip
TOY_COMPARISON = [
    "budget=1000",
    "evaluations=1",
    "seeds=[0]",
    "tuning=null",
    "algorithms=[grpo]",
    "baselines=[]",
    "jobs=1",
]
RUN = re.compile(r"step-\d{6}")
QUOTED = re.compile(r"<!-- quote: .*?<!-- end -->", re.DOTALL)
"""Copied from the source by `make pages`."""


@dataclass(frozen=True)
class Snippet:
    """A line or block of a page, and where it stands."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line} {self.text.splitlines()[0][:60]}"


def blocks(page: Path) -> Iterator[Snippet]:
    """The code blocks of a page that people write: what stands between fences, or is indented by four spaces."""
    lines = QUOTED.sub(
        lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8")
    ).splitlines()
    block: list[str] = []
    fenced = False
    for number, line in enumerate([*lines, "end"], 1):
        fence = line.startswith("```")
        if not fence and (fenced or line.startswith("    ") or (block and not line)):
            block.append(line if fenced else line[4:])
        elif block:
            yield Snippet(page, number - len(block), "\n".join(block).rstrip() + "\n")
            block = []
        fenced ^= fence


def commands() -> list[Snippet]:
    """Each line of a code block that a reader is to type."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            for i, line in enumerate(block.text.splitlines()):
                if re.match(r"(kintsugi|make|pip|\.venv(?:-vllm)?/bin/kintsugi) [^-]", line):
                    found.append(Snippet(page, block.line + i, re.split(r"\s#", line)[0].strip()))
    return found


def inline(pattern: str) -> list[Snippet]:
    """What stands in backticks and matches, on the pages that people write."""
    return [
        Snippet(page, number, match)
        for page in PAGES
        if page.name not in MADE
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        for match in re.findall(rf"`({pattern})`", line)
    ]


@dataclass(frozen=True)
class Place:
    """A reader's working directory: the files that the pages speak of, toy-sized, and a Hub."""

    folder: Path
    hub: Hub
    forks: Forks

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return self.forks.command(words)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("reader")
    for name in ("recipes", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    problems = [
        {"question": p.prompt, "answer": p.answer}
        for p in [*DagTask().train()[:60], *DagTask().evaluation()[:9]]
    ]
    lines = "\n".join(map(json.dumps, problems)) + "\n"
    for path in ("train.jsonl", "path/to/gsm8k/train.jsonl"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(lines)
    mine = {
        "model": "nano", "prompts": "terse-v1", "output_dir": "runs/mine",
        "task": {"name": "table", "path": "train.jsonl", "prompt": "question", "eval_share": 0.3},
    }  # fmt: skip
    (folder / "sample.txt").write_text("One and two is three, and three and one is four.")
    (folder / "my.yaml").write_text(yaml.safe_dump(mine))
    wrong = [{"prompt": p["question"], "completion": "#### 5", "answer": p["answer"]} for p in problems[:3]]
    (folder / "failures.jsonl").write_text("\n".join(map(json.dumps, wrong)) + "\n")
    (folder / "comparison.yaml").write_text((ROOT / "benchmarks/comparisons/smoke.yaml").read_text())
    for framework, columns in {"output/completions": ("prompt", "completion"), "rollouts": ()}.items():
        (folder / "path/to" / framework).mkdir(parents=True)
        if columns:
            table = pa.table({"step": [1], "prompt": ["2+2?"], "completion": ["4"], "advantage": [0.0]})
            pq.write_table(table, folder / "path/to" / framework / "completions_00001.parquet")
        else:
            line = {"input": "2+2?", "output": "4", "score": 1.0, "step": 1}
            (folder / "path/to" / framework / "1.jsonl").write_text(json.dumps(line) + "\n")
    said = [
        {"message": {"role": "user", "content": "2+2?"}},
        {"message": {"role": "assistant", "content": "4"}},
    ]
    trace = {"task": {"data": {}}, "nodes": [said[0], said[1] | {"parent": 0, "sampled": True}]}
    (folder / "path/to/traces").mkdir()
    (folder / "path/to/traces/traces.jsonl").write_text(json.dumps({"traces": [trace]}) + "\n")
    with ExitStack() as stack:
        hub = stack.enter_context(serving())
        hub_env = {"HF_HOME": str(folder / "hf"), "HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_toy"}
        forks = stack.enter_context(forking(folder, os.environ | hub_env | {"HF_HUB_DISABLE_XET": "1"}))
        found = Place(folder, hub, forks)
        for name in ("quickstart", "mine"):
            recipe = "recipes/quickstart.yaml" if name == "quickstart" else "my.yaml"
            done = found.run(["train", recipe, *TOY, f"output_dir=runs/{name}"])
            assert done.returncode == 0, done.stderr
        shutil.copytree(folder / "runs/quickstart", folder / "runs/too-hot")
        # A bridge writes the same tables into the folder `kintsugi` beside its checkpoints.
        shutil.copytree(folder / "runs/quickstart", folder / "path/to/checkpoints/kintsugi")
        yield found


def toy(words: list[str], place: Place) -> list[str]:
    """A command of the pages at toy size, on the files there are."""
    words = [RUN.sub("step-000002", word) for word in words]
    if words[0] == "init":
        (place.folder / words[1]).unlink(missing_ok=True)  # several pages write it
    else:
        words = ["my.yaml" if word == "mine.yaml" else word for word in words]
    if "--step" in words:
        words[words.index("--step") + 1] = "1"
    if "--problem" in words:
        tables = sorted((place.folder / "runs/quickstart/seams").glob("*.parquet"))
        shown = tables[0] if "--step" in words else tables[-1]
        words[words.index("--problem") + 1] = pq.read_table(shown).column("problem_id")[0].as_py()
    if words[0] in ("train", "sft", "eval", "doctor"):
        own = "output_dir=runs/other" if "my.yaml" in words and words[0] == "train" else None
        again = "--resume" in words or any(word.startswith("output_dir=") for word in words) or own is None
        words += TOY + ([] if again else [own or ""])
        if words[0] in ("train", "sft") and not {"--resume", "--dry-run"} & set(words):
            words.append("--overwrite")
        if words[0] == "sft":
            words += ["sft.batch=4", "algorithm=grpo", "sft.repair_share=0.5"]
    if words[0] == "compare":
        words += [*TOY_COMPARISON, "output_dir=runs/toy", "results=runs/toy.jsonl"]
        words += ["settings={sampling: {problems: 2, group_size: 4}, eval: {problems: 4}}"]
    words = [word for word in words if word != "--watch"]  # it serves until someone ends it
    if words[0] in ("export", "mend"):
        words.append("--overwrite")
    if words[0] == "mend":
        words = ["nano" if word == "my-model" else word for word in words]
        words += ["sampling.group_size=2", "sampling.max_new_tokens=80", "prompts=terse-v1", "threads=1"]
    return words


@pytest.mark.parametrize("snippet", [c for c in commands() if "kintsugi " in c.text[:25]], ids=str)
def test_every_command_of_the_pages_runs(snippet: Snippet, place: Place) -> None:
    executable, *words = shlex.split(snippet.text)
    if (
        "vllm" in snippet.text or "smollm2" in snippet.text
    ):  # what they need is not here: are the words understood?
        if words[0] != "compare":
            overrides = [word for word in words if "=" in word]
            recipes = [place.folder / word for word in words if word.endswith(".yaml")]
            assert [Recipe.load(recipe, overrides) for recipe in recipes]
            return
        words = [*words, "--dry-run"]
    if "reasoning_gym" in snippet.text or "smollm2" in snippet.text:
        pytest.importorskip("reasoning_gym")
    if "model=acme/my-model" in words and "models/acme/my-model" not in place.hub.repos:
        assert place.run(["push", "runs/mine", "acme/my-model"]).returncode == 0
    if "model=runs/cold" in snippet.text and not (place.folder / "runs/cold").is_dir():
        shutil.copytree(place.folder / "runs/mine", place.folder / "runs/cold")
    done = place.run(toy(words, place))
    assert executable.endswith("kintsugi")
    # diagnose and doctor say by 1 that they found something, as they will in two steps of four problems.
    assert done.returncode in ((0, 1) if words[0] in ("diagnose", "doctor") else (0,)), (
        done.stderr + done.stdout
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    "target",
    sorted({s.text.split()[1] for s in [*commands(), *inline(r"make [a-z][^`]*")] if s.text[:5] == "make "}),
)
def test_every_make_target_of_the_pages_exists(target: str) -> None:
    done = subprocess.run(["make", "-n", target], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_command_named_in_a_sentence_exists() -> None:
    known = {command.name for command in app.registered_commands}
    named = {s.text.split()[1] for s in inline(r"kintsugi [a-z][^`]*")}
    assert named and named <= known, named - known


def test_every_extra_of_the_pages_is_one_of_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        e
        for page in PAGES
        for e in re.findall(r"'[^']*(?:\.|whl)\[(\w+)\]'", page.read_text(encoding="utf-8"))
    }
    assert named and named <= set(extras)


APART = {"trl", "verl"}
"""In environments of their own, whose tests look at the names that need them."""


def test_every_dotted_name_of_the_pages_resolves() -> None:
    pattern = re.compile(r"(?<![\w-])kintsugi(?:\.[A-Za-z_]\w*)+")
    names = {n for page in PAGES for n in pattern.findall(page.read_text(encoding="utf-8"))}
    assert len(names) > 20
    for name in sorted(names):
        module = ROOT / "src" / f"{name.replace('.', '/')}.py"
        if "bridges" in name and module.is_file():  # what it needs lives in an environment of its own
            continue
        key, _, option = name.removeprefix("kintsugi.").partition(".")
        if key in VERL_SETTINGS and not hasattr(import_module("kintsugi"), key):
            assert not option or option in {"name", *OPTIONS}, name
            continue
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            try:
                found: Any = import_module(".".join(parts[:cut]))
            except ModuleNotFoundError as error:
                if error.name in APART:
                    break
                continue
            for part in parts[cut:]:
                assert hasattr(found, part), name
                found = getattr(found, part)
            break


VERL_SETTINGS = yaml.safe_load((ROOT / "src/kintsugi/bridges/conf/kintsugi/default.yaml").read_text())[
    "kintsugi"
]
OPTIONS = {key for name in ALGORITHMS.built_in for key in arguments_of(ALGORITHMS.find(name))[0]}
SPECS = {"task", "verifier", "prompts", "algorithm", "engine"}


def test_every_recipe_key_of_the_pages_exists() -> None:
    known = set(known_keys()) | {f"algorithm.{key}" for key in OPTIONS}
    known |= {f"prompts.{key}" for key in ("solve", "system", "thinking")}
    known |= {f"engine.{key}" for key in ("memory", "max_model_len", "eager", "sleep")}
    known |= {f"task.{key}" for key in ("steps", "path", "name")} | {"sampling", "optim", "eval", "sft"}
    known |= set(known_keys(Tuning, "tuning."))
    heads = {key.partition(".")[0] for key in known}
    known |= {name.theirs for table in NAMES.values() for name in table}
    named = [
        s
        for s in inline(r"[a-z_]+\.[a-z_]+")
        if s.text.partition(".")[0] in heads and not s.text.endswith(".py")
    ]
    assert len(named) > 40
    assert [str(s) for s in named if s.text not in known] == []


def test_what_the_pages_quote_is_what_the_source_says() -> None:
    pages = runpy.run_path(str(ROOT / ".ci" / "pages"))
    found = {page.name: page.read_text(encoding="utf-8") for page in pages["PAGES"]}
    options = {f"options {name}" for name in ALGORITHMS.built_in if arguments_of(ALGORITHMS.find(name))[0]}
    quoted = set(re.findall(r"<!-- quote: (.*?) -->", "".join(found.values())))
    assert {"recipe", "comparison", "names", *options} <= quoted
    stale = [name for name, text in found.items() if pages["renewed"](text) != text]
    assert stale == [], "make pages"


def recipe_lines() -> list[Snippet]:
    """The lines of YAML blocks that set one key of a recipe."""
    fields = set(Recipe.model_fields)
    found = []
    for page in PAGES:
        for block in blocks(page):
            for i, line in enumerate(block.text.splitlines()):
                if re.match(r"[a-z_]+: \S", line) and line.partition(":")[0] in fields:
                    found.append(Snippet(page, block.line + i, line))
    return found


def test_every_recipe_line_of_the_pages_is_valid() -> None:
    assert len(recipe_lines()) > 20
    for snippet in recipe_lines():
        recipe = Recipe.parse({"model": "nano", "task": "dag"} | yaml.safe_load(snippet.text), str(snippet))
        load_prompts(recipe.prompts)
        if ".py:" not in str(recipe.algorithm):
            load_algorithm(recipe.algorithm)


def python_blocks() -> list[Snippet]:
    found = [block for page in PAGES for block in blocks(page)]
    return [b for b in found if re.match(r"(from kintsugi import|class |def |# \w+\.py)", b.text)]


@pytest.mark.parametrize("snippet", python_blocks(), ids=str)
def test_every_python_example_of_the_pages_runs(snippet: Snippet, place: Place) -> None:
    code = snippet.text
    code = code.replace('"steps": 20', '"steps": 2, "eval": {"problems": 4, "samples": 1}')
    code = code.replace('"output_dir": "runs/mine"', '"output_dir": "runs/python"')
    (place.folder / "runs" / "python").mkdir(exist_ok=True)
    code = re.sub(r"train\(\s*recipe", "train(recipe, overwrite=True", code)
    done = place.forks.code(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "most"), [("README.md", 150), ("docs/all-of-kintsugi.md", 200)])
def test_what_everybody_reads_is_short(name: str, most: int) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= most
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []
    prose = re.sub(r"```.*?```", "", QUOTED.sub("", text), flags=re.DOTALL)
    paragraphs = re.split(r"\n(?:[ \t]*\n|(?=[-|#]|\d\.))", prose)
    assert [p for p in paragraphs if p.strip().count("\n") >= 5] == []


def test_every_link_of_the_readme_leads_somewhere() -> None:
    """Links within docs/ are checked by `make docs`."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (ROOT / link).exists(), f"{page.name}: {link}"
