"""`kintsugi export RUN` and `kintsugi push RUN`: a checkpoint as a folder for others, with a model card."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from kintsugi.files import numbered, partial_of, read_json, share_files, write_whole, writing
from kintsugi.models.loading import is_local, load_model, quiet
from kintsugi.models.lora import adapter_base
from kintsugi.plugins import spec_name
from kintsugi.records import KintsugiError
from kintsugi.run.card import asked_license, card, is_adapter
from kintsugi.run.owned import MARK, mark, may_replace, remove
from kintsugi.run.reading import Run

OWN = {"optimizer.safetensors", "trainer.json", "checksums.json", "README.md"}
"""Files of a checkpoint that are of no use elsewhere, or are written anew."""


Chosen = int | Literal["best"] | None
"""The step of a checkpoint, that of the best held-out pass@1, or (None) the last."""


def export(
    run: Run, output: Path, step: Chosen = None, *, overwrite: bool = False, merge: bool = False
) -> Path:
    """Writes the run's last (or the given) checkpoint to `output`, with a model card as README.md; returns `output`.

    Transformers and vLLM load the folder. Adapters stay adapters unless `merge`d into their base model.
    KintsugiError where there is no such checkpoint, or something is at `output` already: an earlier export there is
    replaced if `overwrite`, and nothing else ever is.
    """
    number, source = checkpoint(run, step)
    if output.exists() or output.is_symlink():
        if not overwrite:
            raise KintsugiError(f"{output}: exists already; choose another --output, or pass --overwrite")
        may_replace(output, "export", run.directory)
    adapters = is_adapter(source)
    if merge and not adapters:
        raise KintsugiError(
            f"{source}: nothing to merge, this checkpoint is a whole model; leave --merge out"
        )
    partial = partial_of(output.resolve())
    with writing(output):
        if partial.exists() or partial.is_symlink():
            may_replace(partial, "export")
            remove(partial)
        partial.mkdir(parents=True)
        mark(partial, "export")
        if merge:
            save_merged(source, partial)
        else:
            for file in sorted(source.iterdir()):
                if file.is_file() and file.name not in OWN:
                    shutil.copy2(file, partial / file.name)
        text = card(
            run,
            number,
            adapters=adapters and not merge,
            license=asked_license(spec_name(run.recipe["model"])),
        )
        write_whole(partial / "README.md", text)
        carry_pad(partial)
        share_files(partial)
        remove(output)
        partial.rename(output.resolve())
    return output


def push(run: Run, repo_id: str, step: Chosen = None, *, public: bool = False, merge: bool = False) -> str:
    """Uploads what `export` writes to a model repository on the Hub; returns the commit's address.

    A repository that does not exist is made, private unless `public`. KintsugiError without a token, and with
    whatever the Hub answers.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise KintsugiError(
            f"push: no token of the Hugging Face Hub, so {repo_id} cannot be written to: "
            "run `hf auth login`, or set HF_TOKEN to a token with write access"
        )
    _, source = checkpoint(run, step)  # before a repository is made for nothing
    if not merge and (base := adapter_base(source)) and is_local(base):
        raise KintsugiError(
            f"push: the adapters belong to {base}, which is on this machine alone: nobody could load them; "
            "pass --merge"
        )
    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        place = export(run, Path(folder) / "model", step, merge=merge)
        remove(place / MARK)
        try:
            api.create_repo(repo_id, private=not public, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=place,
                commit_message=f"{run.directory.name}, trained with Kintsugi",
            )
        except Exception as error:  # httpx's and the Hub's own errors: refused, not found, no network
            reason = " ".join(str(error).split())[:300]
            raise KintsugiError(f"push: {repo_id}: {type(error).__name__}: {reason}") from error
    return str(done.commit_url)


def checkpoint(run: Run, step: Chosen) -> tuple[int, Path]:
    """(step, folder) of the checkpoint that is asked for; KintsugiError says which there are."""
    found = numbered(run.directory / "checkpoints")
    if not found:
        raise KintsugiError(f"{run.directory}: there is no checkpoint to export yet")
    chosen = max(found) if step is None else step
    if step == "best":
        best = run.best(found)
        if best is None:
            raise KintsugiError(f"{run.directory}: no checkpoint was evaluated; leave --best out")
        chosen = best
    if chosen not in found:
        there = ", ".join(map(str, found))
        raise KintsugiError(f"{run.directory}: no checkpoint of step {step}; there are {there}")
    return chosen, found[chosen]


def carry_pad(folder: Path) -> None:
    """Writes the tokenizer's pad id into the configs of a model: others take it from there."""
    from tokenizers import Tokenizer

    words = folder / "tokenizer.json"
    if not words.is_file():
        return
    pad = read_json(folder / "tokenizer_config.json").get("pad_token")
    number = Tokenizer.from_file(str(words)).token_to_id(
        pad["content"] if isinstance(pad, dict) else str(pad)
    )
    for path in (folder / "config.json", folder / "generation_config.json"):
        if path.is_file() and number is not None:
            write_whole(path, json.dumps(read_json(path) | {"pad_token_id": number}, indent=2) + "\n")


@quiet()
def save_merged(path: Path, output: Path) -> None:
    """Writes the model that the adapters at `path` make of their base, whole and with its tokenizer, to `output`."""
    loaded = load_model(str(path), device="cpu")
    loaded.model.merge_and_unload().save_pretrained(output)
    loaded.tokenizer.save_pretrained(output)
