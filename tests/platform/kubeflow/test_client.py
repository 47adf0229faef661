"""`prefopt submit kfp` against a KFP API on this machine that refuses what KFP does not know."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from prefopt.config import dump_config, load_config
from prefopt.platform.kubeflow.package import read_package
from tests.kit.kfp_api import KfpApi, Prefopt, kfp_api, only

TOKEN = "s3cret-token-of-a-person"


@pytest.fixture
def submit(prefopt: Prefopt, api: KfpApi) -> Prefopt:
    """`prefopt submit kfp my.yaml` with a host and a run directory."""
    return lambda *more: prefopt("submit", "kfp", "my.yaml", "--host", api.url, "--run-dir", "s3://runs/mine", *more)


def test_a_submission_uploads_the_pipeline_and_starts_a_run(submit: Prefopt, api: KfpApi) -> None:
    variant = "long: train.steps=9 seed=3"
    code, out, err = submit("--set", "train.steps=7", "--variant", variant, "--service-account", "runner")
    assert code == 0, err
    package, version = read_package("align"), only(api.kept["pipeline_versions"])
    assert (only(api.kept["pipelines"])["display_name"], version["name"]) == ("align", package.version)
    run = only(api.kept["runs"])
    assert out == f"Run {run['run_id']}: {api.url}/#/runs/details/{run['run_id']}\n"
    assert run["runtime_config"]["parameters"] == {
        "config": dump_config(load_config("my.yaml", ["train.steps=7"])),
        "run_dir": "s3://runs/mine",
        "variants": {"long": ["train.steps=9", "seed=3"]},
    }
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert run["service_account"] == "runner"
    assert only(api.kept["experiments"])["display_name"] == "prefopt"
    assert run["display_name"].startswith("align-small-")


def test_a_second_submission_uploads_nothing_and_finds_the_run(submit: Prefopt, api: KfpApi) -> None:
    first = json.loads(submit("--json")[1].splitlines()[-1])
    code, out, err = submit("--json")
    assert code == 0, err
    assert json.loads(out) == {**first, "created": False}
    assert first["created"]
    assert len(api.uploads) == len(api.kept["pipelines"]) == len(api.kept["runs"]) == 1
    assert "is there" in err


def test_a_run_that_has_ended_is_started_anew(submit: Prefopt, api: KfpApi) -> None:
    submit()
    only(api.kept["runs"])["state"] = "FAILED"
    assert submit()[0] == 0
    assert len({run["run_id"] for run in api.kept["runs"]}) == 2
    assert len({run["display_name"] for run in api.kept["runs"]}) == 1
    assert len(api.uploads) == 1


def test_a_name_in_use_by_other_content_is_refused(submit: Prefopt, api: KfpApi) -> None:
    assert submit("--name", "mine")[0] == 0
    code, _, err = submit("--name", "mine", "--set", "seed=9")
    assert code == 2
    assert "A run named 'mine' with other content is not at its end" in err
    assert len(api.kept["runs"]) == 1


def test_a_changed_package_becomes_a_new_version(submit: Prefopt, api: KfpApi) -> None:
    submit()
    path = Path("pipelines/align.yaml")
    path.write_text(path.read_text().replace("prefopt:test", "prefopt:next"))
    submit()
    assert len(api.kept["pipelines"]) == 1
    assert len(set(api.uploads)) == 2


def test_another_image_is_uploaded_as_another_version(submit: Prefopt, api: KfpApi) -> None:
    submit()
    code, _, err = submit("--image", "registry.example/prefopt:1")
    assert code == 0, err
    assert len(set(api.uploads)) == 2
    assert len(api.kept["pipelines"]) == 1
    assert len({run["display_name"] for run in api.kept["runs"]}) == 2


def test_further_pages_are_read(submit: Prefopt, api: KfpApi) -> None:
    api.page = 1
    submit()
    only(api.kept["runs"])["state"] = "FAILED"
    submit()
    assert json.loads(submit("--json")[1])["run_id"] == api.kept["runs"][1]["run_id"]


@pytest.mark.parametrize("path", ["/experiments", "/pipelines", "/pipelines/upload_version", "/runs"])
def test_a_lost_answer_makes_nothing_twice(submit: Prefopt, api: KfpApi, path: str) -> None:
    api.lose("POST", path)
    code, _, err = submit()
    assert code == 0, err
    assert api.asked[f"POST {path}"] == 1
    assert [len(api.kept[kind]) for kind in ("experiments", "pipelines", "pipeline_versions", "runs")] == [1, 1, 1, 1]


def test_a_lost_answer_is_not_found_in_a_run_of_before(submit: Prefopt, api: KfpApi) -> None:
    submit()
    only(api.kept["runs"])["state"] = "SUCCEEDED"
    api.lose("POST", "/runs")
    found = json.loads(submit("--json")[1])
    assert found["run_id"] == api.kept["runs"][1]["run_id"]
    assert len(api.kept["runs"]) == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/healthz"), ("GET", "/pipelines"), ("POST", "/pipelines/upload_version"), ("POST", "/runs")],
)
def test_a_passing_failure_is_tried_again(submit: Prefopt, api: KfpApi, method: str, path: str) -> None:
    api.fail(method, path, 500, times=2)
    assert submit()[0] == 0
    assert len(api.kept["runs"]) == 1


def test_a_lasting_failure_ends_in_words(submit: Prefopt, api: KfpApi) -> None:
    api.fail("POST", "/runs", 503, times=99, body=b'{"error": "no database"}')
    code, out, err = submit()
    assert (code, out) == (1, "")
    assert "answered 503 (starting run align-small-" in err
    assert "no database. It did so again and again: see the log of ml-pipeline" in err
    assert api.asked["POST /runs"] == 4


def test_one_layer_tries_again(submit: Prefopt, api: KfpApi) -> None:
    api.lose("GET", "/healthz", times=99)
    code, _, err = submit()
    assert code == 1
    assert f"Cannot reach Kubeflow Pipelines at {api.url} (the first contact): " in err
    assert api.asked["GET /healthz"] == 4


def test_a_conflict_means_that_somebody_else_was_faster(submit: Prefopt, api: KfpApi) -> None:
    answer = api._named

    def late(kind: str, body: dict[str, Any]) -> dict[str, Any]:
        if kind == "pipelines":
            api.add(kind, body)
        return answer(kind, body)

    api._named = late  # type: ignore[method-assign]
    code, _, err = submit()
    assert code == 0, err
    assert (len(api.kept["pipelines"]), api.asked["POST /pipelines"]) == (1, 1)


def test_a_name_that_is_taken_out_of_sight_is_told(submit: Prefopt, api: KfpApi) -> None:
    api.fail("POST", "/pipelines", 409, times=9, body=b'{"message": "align already exists"}')
    code, _, err = submit()
    assert code == 1
    assert "answered 409 (pipeline align): align already exists." in err
    assert api.asked["POST /pipelines"] == 1


def test_a_token_is_sent_and_never_told(prefopt: Prefopt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kfp_api(token=TOKEN) as api:
        given = ("submit", "kfp", "my.yaml", "--host", api.url, "--run-dir", "/shared", "--debug")
        monkeypatch.setenv("KF_PIPELINES_TOKEN", TOKEN)
        answers = [prefopt(*given)]
        monkeypatch.delenv("KF_PIPELINES_TOKEN")
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        answers.append(prefopt(*given, "--token-file", "token"))
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
        answers.append(prefopt(*given))
        assert [code for code, _, _ in answers] == [0, 0, 0]
        assert not any(TOKEN in out + err for _, out, err in answers)


def test_no_token_and_a_wrong_one_are_told_apart(prefopt: Prefopt, monkeypatch: pytest.MonkeyPatch) -> None:
    with kfp_api(token="another") as api:
        given = ("submit", "kfp", "my.yaml", "--host", api.url, "--run-dir", "/shared")
        code, _, without = prefopt(*given)
        assert code == 1
        assert (
            "answered 401 (the first contact): not accepted: None. It wants a token: give one with --token" in without
        )
        monkeypatch.setenv("KF_PIPELINES_TOKEN", TOKEN)
        code, out, err = prefopt(*given)
        assert code == 1
        assert "It does not accept the token" in err
        assert TOKEN not in out + err
        assert api.asked["GET /healthz"] == 2


@pytest.mark.parametrize("content", ["", "two words", "n\u00e4", "line\nline"])
def test_a_file_without_a_token_is_refused_unshown(submit: Prefopt, tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    code, _, err = submit("--token-file", "token")
    assert code == 2
    assert "token holds no token: it must be one word of printable ASCII." in err


def test_a_missing_token_file_is_named(submit: Prefopt) -> None:
    code, _, err = submit("--token-file", "gone")
    assert code == 2
    assert "Cannot read the token in gone: No such file" in err


def test_a_refusal_says_what_to_ask_for(submit: Prefopt, api: KfpApi) -> None:
    api.fail("POST", "/runs", 403, body=b'{"message": "User is not authorized"}')
    code, _, err = submit()
    assert code == 1
    assert "User is not authorized. The token's account may not do this: check --namespace" in err
    assert api.asked["POST /runs"] == 1


def test_a_host_that_does_not_answer(prefopt: Prefopt) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port, and nobody answers
        taken.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = prefopt("submit", "kfp", "my.yaml", "--host", host, "--run-dir", "/shared")
    assert code == 1
    assert f"Cannot reach Kubeflow Pipelines at {host}" in err
    assert "Connection refused. Check --host" in err


def test_a_host_that_hangs(prefopt: Prefopt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefopt.platform.kubeflow.session.TIMEOUT", (5.0, 0.05))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system takes connections, nobody reads them
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code, _, err = prefopt("submit", "kfp", "my.yaml", "--host", host, "--run-dir", "/shared")
    assert code == 1
    assert f"{host} gave no answer in time (the first contact)" in err


def test_the_host_may_come_from_kfps_variable(prefopt: Prefopt, api: KfpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"{api.url}/")
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example/pipeline")
    code, out, err = prefopt("submit", "kfp", "my.yaml", "--run-dir", "/shared")
    assert code == 0, err
    assert out.endswith(f": https://kubeflow.example/pipeline/#/runs/details/{only(api.kept['runs'])['run_id']}\n")


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (404, {}, "answered 404 (the first contact)"),
        (302, {"Location": "/dex/auth"}, "answered 302 (the first contact): Found. It wants a token"),
        (200, {}, "is not Kubeflow Pipelines, perhaps a login page"),
    ],
)
def test_a_host_that_is_something_else(
    submit: Prefopt, api: KfpApi, status: int, headers: dict[str, str], said: str
) -> None:
    api.fail("GET", "/healthz", status, times=9, body=b"<html>login</html>", **headers)
    code, _, err = submit()
    assert code == 1
    assert said in err
    assert "--host" in err or "--token-file" in err


@pytest.mark.parametrize("host", ["ml-pipeline:8888", "ftp://x", "http://me:password@host"])
def test_a_host_must_be_a_plain_url(prefopt: Prefopt, host: str) -> None:
    code, _, err = prefopt("submit", "kfp", "my.yaml", "--host", host, "--run-dir", "/shared")
    assert code == 2
    assert "--host" in err
    assert "password@" not in err


def test_several_users_need_a_namespace(prefopt: Prefopt) -> None:
    with kfp_api(multi_user=True) as api:
        given = ("submit", "kfp", "my.yaml", "--host", api.url, "--run-dir", "/shared")
        code, _, err = prefopt(*given)
        assert code == 2
        assert "serves several users: say whose with --namespace" in err
        assert prefopt(*given, "--namespace", "team")[0] == 0
        assert {one["namespace"] for kind in ("experiments", "pipelines") for one in api.kept[kind]} == {"team"}


def test_waiting_ends_with_the_run(submit: Prefopt, api: KfpApi) -> None:
    api.states = ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    code, out, err = submit("--wait", "--json")
    answer = json.loads(out.splitlines()[-1])
    assert (code, answer["state"]) == (0, "SUCCEEDED")
    assert [line.rpartition(": ")[2] for line in err.splitlines()[-3:]] == ["PENDING", "RUNNING", "SUCCEEDED"]


@pytest.mark.parametrize(
    ("state", "cause"),
    [("FAILED", "out of memory"), ("FAILED", 'Back-off pulling image "prefopt:9"'), ("CANCELED", "terminated")],
)
def test_waiting_tells_how_a_run_failed(submit: Prefopt, api: KfpApi, state: str, cause: str) -> None:
    tasks = [
        {"display_name": "score", "state": "FAILED", "error": {"message": cause}},
        {"display_name": "ingest", "state": "SUCCEEDED"},
    ]
    api.states, api.ending = ["RUNNING", state], {"run_details": {"task_details": tasks}}
    code, out, err = submit("--wait", "--json")
    assert (code, json.loads(out)["state"]) == (1, state)
    assert f"ended as {state}: score: {cause}. See {api.url}/#/runs/details/" in err


def test_waiting_ends_in_time_and_the_run_goes_on(submit: Prefopt, api: KfpApi) -> None:
    api.states = ["RUNNING"]
    code, _, err = submit("--wait", "--timeout", "0.05")
    assert code == 1
    assert "is RUNNING after 0.05 s, and goes on: http" in err


def test_a_failure_while_waiting_does_not_hide_that_the_run_goes_on(submit: Prefopt, api: KfpApi) -> None:
    assert submit()[0] == 0
    run = only(api.kept["runs"])["run_id"]
    api.fail("GET", f"/runs/{run}", 500, times=2)
    assert submit("--wait")[0] == 0
    api.fail("GET", f"/runs/{run}", 401, times=1)
    code, _, err = submit("--wait")
    assert code == 1
    assert f"The run itself goes on: {api.url}/#/runs/details/{run}" in err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ("--pipeline", "retrain", "--variant", "one: seed=1"),
            "'retrain' has no parameter 'variants'. It has: config",
        ),
        (("--pipeline", "pipelines/own.yaml"), "'own' also needs 'rounds': give --param NAME=VALUE"),
        (
            ("--pipeline", "pipelines/own.yaml", "--param", "rounds=many"),
            "'rounds' of pipeline 'own' is of type",
        ),
        (("--param", "rounds"), "write NAME=VALUE"),
        (("--pipeline", "alien"), "pipelines/alien.yaml"),
        (("--set", "train.stepz=1"), "unknown key 'train.stepz'"),
        (("--variant", "one: train.stepz=1"), "variant one: the config: unknown key 'train.stepz'"),
        (("--variant", "one: 'seed=1"), "No closing quotation"),
        (("--variant", "seed=1"), "write 'NAME: KEY=VALUE ...'"),
        (("--variant", "one: seed=1", "--variant", "one: seed=2"), "--variant one: two variants have this name"),
        (("--variant", "../one: seed=1"), "variant '../one': a name has letters"),
        (("--set", "store=runs/store"), "store runs/store: pods need places that they all see"),
        (("--image", ""), "--image '': give an image as nodes pull it"),
        (("--timeout", "5"), "--timeout says how long to wait: give --wait, too"),
        (("--run-dir", "runs/mine"), "run directory runs/mine: pods need places that they all see"),
    ],
)
def test_a_wrong_command_sends_nothing(submit: Prefopt, api: KfpApi, more: tuple[str, ...], said: str) -> None:
    code, _, err = submit(*more)
    assert code == 2
    assert said in err
    assert not api.asked


def test_parameters_of_a_pipeline_of_ones_own(submit: Prefopt, api: KfpApi) -> None:
    code, _, err = submit("--pipeline", "pipelines/own.yaml", "--param", "rounds=3", "--param", "more={a: [1]}")
    assert code == 0, err
    parameters = only(api.kept["runs"])["runtime_config"]["parameters"]
    assert parameters | {"config": ""} == {"config": "", "run_dir": "s3://runs/mine", "rounds": 3, "more": {"a": [1]}}


def test_without_kfp_the_extra_is_named(submit: Prefopt, api: KfpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "prefopt.platform.kubeflow.session", raising=False)
    monkeypatch.setitem(sys.modules, "kfp", None)
    code, _, err = submit()
    assert code == 2
    assert "needs the package kfp: pip install 'prefopt[kubeflow]'." in err
