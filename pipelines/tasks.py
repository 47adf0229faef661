"""What tasks of all our pipelines have in common."""

from kfp.dsl import PipelineTask


def task(made: PipelineTask) -> PipelineTask:
    """A task that Kubeflow never takes from its cache: whether there is work to do, the run directory tells, where
    every stage is known by its sources, models and settings. Kubeflow knows no more than the names of their places."""
    return made.set_caching_options(False)


def work(made: PipelineTask) -> PipelineTask:
    """A task that uses the cluster. It is tried again, and goes on from what the last try has left."""
    return task(made).set_retry(num_retries=2, backoff_duration="10s")
