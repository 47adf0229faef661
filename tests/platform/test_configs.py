"""Configs as pipelines give them."""

from pathlib import Path

import pytest

from prefopt.config import dump_config
from prefopt.errors import ConfigError, StorageError
from prefopt.platform.configs import config_text, given_config
from tests.kit.data import small_config
from tests.kit.s3 import object_store


def test_a_config_is_a_text_or_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.yaml").write_text("name: here\n")
    monkeypatch.chdir(tmp_path)
    for place in ("my.yaml", str(tmp_path / "my.yaml"), (tmp_path / "my.yaml").as_uri()):
        assert config_text(place) == "name: here\n"
    assert config_text("name: kit") == "name: kit"
    with pytest.raises(StorageError, match=r"other\.yaml in .*no such file"):
        config_text("other.yaml")


def test_a_config_on_an_object_store_is_read_there_and_overridden(tmp_path: Path) -> None:
    from prefopt.data.storage import Storage

    text = dump_config(small_config(tmp_path, [{"kind": "world", "pairs": 8}]))
    with object_store() as uri:
        Storage(uri).write_bytes("a/run.yaml", text.encode())
        assert given_config(f"{uri}/a/run.yaml", ["seed=5"]).seed == 5
        with pytest.raises(ConfigError, match=r"/a/run\.yaml: unknown key 'sead': did you mean 'seed'"):
            given_config(f"{uri}/a/run.yaml", ["sead=5"])
