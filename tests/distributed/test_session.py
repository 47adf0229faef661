import pytest

from prefopt.config.cluster import ClusterConfig
from prefopt.distributed import session
from prefopt.errors import ConfigError


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_a_pool_that_would_starve_reading_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("must not start"))
    with pytest.raises(
        ConfigError, match=r"cluster\.workers 6 x cluster\.worker_cpus 0\.5 would reserve every one of 2"
    ):
        session.start_ray(ClusterConfig(cpus=2, workers=6), verbose=False)


def test_a_cluster_that_does_not_answer_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(ConfigError, match=r"Cannot start Ray at 10\.0\.0\.1:6379: nobody there"):
        session.start_ray(ClusterConfig(address="10.0.0.1:6379"), verbose=False)


def test_a_running_cluster_is_asked_for_nothing_local(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr("ray.init", lambda **options: asked.update(options))
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    session.start_ray(ClusterConfig(workers=100), verbose=False)
    assert asked["address"] == "elsewhere:1"
    assert "num_cpus" not in asked
