"""A model of the Hugging Face Hub, which may be away: its client would try for a minute before it says so."""

from __future__ import annotations

from kintsugi.records import KintsugiError

PATIENCE = 5.0
"""Seconds that the Hub has for its first answer."""


def hub_place(name: str) -> str:
    """The id itself where the Hub answers, whatever it says; else the model's folder in the Hub's cache.

    KintsugiError where it is in neither.
    """
    from huggingface_hub import constants, get_session, snapshot_download

    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
        return name
    except (
        Exception
    ) as error:  # HF_HUB_OFFLINE, no network, a proxy that refuses: its client has a class for each
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    try:
        return str(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):  # no such folder; no such id
        raise KintsugiError(
            f"model {name!r} could not be loaded: it is not in the Hub's cache, and {constants.ENDPOINT} "
            f"cannot be reached ({reason})"
        ) from None
