"""MLflow: a run at `tracking_uri`, or where MLflow itself keeps runs (MLFLOW_TRACKING_URI, else ./mlflow.db)."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from kintsugi.trackers.base import Beginning, flat

LONGEST = 500
"""Characters of a parameter that every MLflow server takes."""


class MLflow:
    """`trackers: [{name: mlflow, experiment: mends, tracking_uri: "http://127.0.0.1:5000"}]`."""

    def __init__(
        self, experiment: str = "kintsugi", tracking_uri: str | None = None, name: str | None = None
    ) -> None:
        self.experiment, self.tracking_uri, self.name = experiment, tracking_uri, name

    def start(self, beginning: Beginning) -> str:
        # The client rather than mlflow.start_run: a run of the caller's own in this process stays untouched.
        self.client = MlflowClient(tracking_uri=self.tracking_uri)
        if beginning.id is not None:
            self.client.update_run(beginning.id, status="RUNNING")
            self.id = beginning.id
            return self.id
        known = self.client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else self.client.create_experiment(self.experiment)
        run = self.client.create_run(experiment, run_name=self.name or beginning.directory.name)
        self.id = str(run.info.run_id)
        params = [Param(key, str(value)[:LONGEST]) for key, value in flat(beginning.recipe).items()]
        self.client.log_batch(self.id, params=params)
        return self.id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        # MLflow's names have no @: pass@1 is pass_at_1 there.
        metrics = [Metric(name.replace("@", "_at_"), value, now, step) for name, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def finish(self) -> None:
        self.client.set_terminated(self.id)
