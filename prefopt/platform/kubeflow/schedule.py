"""Recurring runs of Kubeflow Pipelines: one for each name, which is what it was last told to be."""

from dataclasses import dataclass
from typing import Any

from prefopt.errors import ConfigError, PrefoptError
from prefopt.platform.kubeflow.client import MARK, Kubeflow, Work, first


@dataclass(frozen=True)
class Schedule:
    """A recurring run on the server."""

    recurring_run_id: str
    url: str
    action: str
    """created, kept, enabled or replaced."""


def schedule_runs(kubeflow: Kubeflow, work: Work, cron: str) -> Schedule:
    """Make the recurring run of that name what it should be: enabled, one run at a time, without runs for the times
    that were missed. One with other content is deleted once the new one stands."""
    api, ask, description = kubeflow.client.recurring_runs, kubeflow.session, work.description(cron)
    experiment = kubeflow.experiment(work.experiment)

    def named() -> list[Any]:
        listing = api.recurring_run_service_list_recurring_runs
        return ask.all("listing recurring runs", listing, "recurring_runs", work.name, **kubeflow.place)

    before = named()
    for other in before:
        if not (other.description or "").startswith(MARK):
            raise ConfigError(
                f"Recurring run {work.name!r} was not made by prefopt: {_url(kubeflow, other)}. Give another"
                " --name, or delete it."
            )
    same = first([one for one in before if one.description == description])
    body = {
        **work.body(experiment, description),
        "trigger": {"cron_schedule": {"cron": cron}},
        "mode": "ENABLE",
        "max_concurrency": "1",
        "no_catchup": True,
    }
    stands, _ = ask.find_or_create(
        f"creating recurring run {work.name}",
        lambda: same or first([one for one in named() if one.description == description]),
        api.recurring_run_service_create_recurring_run,
        body,
    )
    identity = stands.recurring_run_id
    action = "kept" if same else "created"
    if same and (same.status == "DISABLED" or same.mode == "DISABLE"):
        ask.ask(f"enabling {work.name}", api.recurring_run_service_enable_recurring_run, identity)
        action = "enabled"
    for old in before:
        if old.recurring_run_id != identity:
            _delete(kubeflow, old, stands)
            action = action if same else "replaced"
    return Schedule(identity, _url(kubeflow, stands), action)


def _delete(kubeflow: Kubeflow, old: Any, new: Any) -> None:
    """Deleting what is gone already is no error."""
    delete = kubeflow.client.recurring_runs.recurring_run_service_delete_recurring_run
    try:
        kubeflow.session.ask(f"deleting recurring run {old.recurring_run_id}", delete, old.recurring_run_id)
    except PrefoptError as error:
        if getattr(error, "status", None) == 404:
            return
        raise type(error)(
            f"{error} The new recurring run stands ({_url(kubeflow, new)}), and so does the old one"
            f" ({_url(kubeflow, old)}): run the same command again, or delete the old one by hand."
        ) from None


def _url(kubeflow: Kubeflow, recurring: Any) -> str:
    return str(kubeflow.client.page("recurringrun", recurring.recurring_run_id))
