"""Hydra's search path for verl: the config group `kintsugi`."""
