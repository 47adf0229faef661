"""What tasks of all our pipelines have in common."""

from kfp import kubernetes
from kfp.dsl import PipelineTask

S3 = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
"""Keys of the Secret `prefopt-s3`, and the variables that they become."""
USER = 10001
"""The image's, by number: without it a namespace with the level `restricted` takes no pod."""


def task(made: PipelineTask) -> PipelineTask:
    """A task that Kubeflow never takes from its cache: whether there is work to do, the run directory tells, where
    every stage is known by its sources, models and settings. Kubeflow knows no more than the names of their places."""
    return _on_a_cluster(made.set_caching_options(False))


def work(made: PipelineTask) -> PipelineTask:
    """A task that uses the cluster. It is tried again, and goes on from what the last try has left."""
    return task(made).set_retry(num_retries=2, backoff_duration="10s")


def _on_a_cluster(made: PipelineTask) -> PipelineTask:
    """Secrets and volume as docs/operations.md sets them up, and room for light stages and for watching a job. A local
    run takes no notice of any of it."""
    kubernetes.use_secret_as_env(made, "prefopt-s3", {key: key for key in S3}, optional=True)
    kubernetes.use_secret_as_env(made, "prefopt-hub", {"token": "HF_TOKEN"}, optional=True)
    kubernetes.mount_pvc(made, "prefopt-data", "/data")
    kubernetes.set_security_context(made, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    made.set_cpu_request("1").set_cpu_limit("2")
    return made.set_memory_request("4Gi").set_memory_limit("8Gi")
