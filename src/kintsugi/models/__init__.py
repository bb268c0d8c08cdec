"""Models by name: the shipped nano model, a local path, or a Hub id."""

from kintsugi.models.loading import HFCodec, LoadedModel, load_model

__all__ = ["HFCodec", "LoadedModel", "load_model"]
