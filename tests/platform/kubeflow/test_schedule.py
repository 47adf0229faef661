"""`prefopt schedule` against a KFP API on this machine that refuses what KFP does not know."""

import json

import pytest
import yaml

from tests.kit.kfp_api import KfpApi, Prefopt, only


@pytest.fixture
def schedule(prefopt: Prefopt, api: KfpApi) -> Prefopt:
    """`prefopt schedule my.yaml` every night at three, unless `more` says otherwise."""
    given = ("schedule", "my.yaml", "--host", api.url, "--run-dir", "s3://runs/mine", "--cron", "0 0 3 * * *")
    return lambda *more: prefopt(*given, *more)


def test_a_schedule_refers_to_the_version_and_runs_one_night_at_a_time(schedule: Prefopt, api: KfpApi) -> None:
    code, out, err = schedule("--set", "seed=5")
    assert code == 0, err
    made = only(api.kept["recurring_runs"])
    assert out.startswith("Scheduled retrain-small-")
    assert out.endswith(f" at '0 0 3 * * *': {api.url}/#/recurringrun/details/{made['recurring_run_id']}\n")
    assert made["pipeline_version_reference"]["pipeline_id"] == only(api.kept["pipelines"])["pipeline_id"]
    assert (made["max_concurrency"], made["no_catchup"], made["mode"]) == ("1", True, "ENABLE")
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert yaml.safe_load(made["runtime_config"]["parameters"]["config"])["seed"] == 5
    assert api.kept["runs"] == []


def test_the_same_schedule_again_does_nothing(schedule: Prefopt, api: KfpApi) -> None:
    schedule()
    before = [dict(one) for one in api.kept["recurring_runs"]]
    code, out, _ = schedule()
    assert code == 0
    assert out.startswith("Nothing to do: retrain-small-")
    assert api.kept["recurring_runs"] == before
    assert len(api.uploads) == api.asked["POST /recurringruns"] == 1


@pytest.mark.parametrize(
    "more", [("--cron", "@daily"), ("--set", "seed=6"), ("--service-account", "other"), ("--image", "a/b:1")]
)
def test_a_changed_schedule_replaces_the_old_one(schedule: Prefopt, api: KfpApi, more: tuple[str, ...]) -> None:
    schedule()
    old = only(api.kept["recurring_runs"])
    code, out, err = schedule(*more)
    assert code == 0, err
    assert out.startswith("Replaced the schedule retrain-small-")
    new = only(api.kept["recurring_runs"])
    assert new["recurring_run_id"] != old["recurring_run_id"]
    assert new["display_name"] == old["display_name"]


def test_the_old_schedule_stays_until_the_new_one_stands(schedule: Prefopt, api: KfpApi) -> None:
    schedule()
    old = only(api.kept["recurring_runs"])
    api.fail("POST", "/recurringruns", 403)
    assert schedule("--cron", "@daily")[0] == 1
    assert api.kept["recurring_runs"] == [old]


def test_an_old_schedule_that_cannot_be_deleted_is_named_and_goes_the_next_time(schedule: Prefopt, api: KfpApi) -> None:
    schedule()
    old = only(api.kept["recurring_runs"])["recurring_run_id"]
    api.fail("DELETE", f"/recurringruns/{old}", 500, times=4)
    code, _, err = schedule("--cron", "@daily")
    assert code == 1
    assert "The new recurring run stands" in err
    assert f"/#/recurringrun/details/{old}" in err
    assert schedule("--cron", "@daily")[0] == 0
    assert only(api.kept["recurring_runs"])["trigger"]["cron_schedule"]["cron"] == "@daily"


@pytest.mark.parametrize(("method", "path"), [("POST", "/recurringruns"), ("DELETE", "recurring_runs-4")])
def test_a_lost_answer_leaves_one_schedule(schedule: Prefopt, api: KfpApi, method: str, path: str) -> None:
    schedule()
    assert only(api.kept["recurring_runs"])["recurring_run_id"] == "recurring_runs-4"
    api.lose(method, path)
    code, _, err = schedule("--cron", "@daily")
    assert code == 0, err
    assert only(api.kept["recurring_runs"])["trigger"]["cron_schedule"]["cron"] == "@daily"


def test_a_disabled_schedule_is_enabled_again(schedule: Prefopt, api: KfpApi) -> None:
    schedule()
    only(api.kept["recurring_runs"]).update(mode="DISABLE", status="DISABLED")
    code, out, _ = schedule("--json")
    assert (code, json.loads(out)["action"]) == (0, "enabled")
    assert only(api.kept["recurring_runs"])["mode"] == "ENABLE"


def test_another_run_directory_is_another_schedule(schedule: Prefopt, api: KfpApi) -> None:
    schedule()
    schedule("--run-dir", "s3://runs/other")
    assert len(api.kept["recurring_runs"]) == 2


def test_a_schedule_of_somebody_else_is_left_alone(schedule: Prefopt, api: KfpApi) -> None:
    schedule("--name", "nightly")
    only(api.kept["recurring_runs"])["description"] = "mine"
    code, _, err = schedule("--name", "nightly", "--cron", "@daily")
    assert code == 2
    assert "'nightly' was not made by prefopt" in err
    assert only(api.kept["recurring_runs"])["description"] == "mine"


def test_a_wrong_cron_sends_nothing(schedule: Prefopt, api: KfpApi) -> None:
    code, _, err = schedule("--cron", "0 3 * * *")
    assert code == 2
    assert "seconds first: --cron '0 0 3 * * *'" in err
    assert not api.asked
