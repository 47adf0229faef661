from pathlib import Path

import pytest
import yaml

from prefopt import __version__
from prefopt.errors import ConfigError
from prefopt.platform.kubeflow.package import Package, read_package
from tests.kit.small_pipelines import compile_all


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with packages in pipelines/."""
    monkeypatch.chdir(tmp_path)
    compile_all(tmp_path / "pipelines")
    return tmp_path


def own(**values: object) -> Package:
    package = read_package("own")
    package.check({"config": "a: 1", "run_dir": "/shared", "rounds": 3, **values})
    return package


def test_a_name_stands_for_a_package_in_pipelines(place: Path) -> None:
    package = read_package("retrain")
    assert (package.pipeline, package.path) == ("retrain", "pipelines/retrain.yaml")
    assert read_package(str(place / "pipelines" / "retrain.yaml")).version == package.version
    assert package.version.startswith(f"{__version__}-")


def test_an_error_says_where_it_looked(place: Path) -> None:
    with pytest.raises(ConfigError, match=rf"--pipeline alien: no package at {place}/pipelines/alien.yaml"):
        read_package("alien")


def test_a_version_is_named_by_content_not_by_layout(place: Path) -> None:
    first, path = read_package("align"), place / "pipelines" / "align.yaml"
    documents = list(yaml.safe_load_all(path.read_bytes()))
    path.write_text("# a comment\n" + yaml.safe_dump_all(documents, sort_keys=False, indent=4))
    assert read_package("align").version == first.version
    path.write_text(yaml.safe_dump_all([*documents, {"platforms": {"kubernetes": {}}}]))
    assert read_package("align").version != first.version


def images(package: Package) -> set[str]:
    pipeline, *_ = yaml.safe_load_all(package.content)
    return {executor["container"]["image"] for executor in pipeline["deploymentSpec"]["executors"].values()}


@pytest.mark.parametrize("image", ["registry.example:5000/team/prefopt:0.1.0-cpu", f"mine/prefopt@sha256:{'a' * 64}"])
def test_another_image_takes_the_place_of_ours_and_makes_another_version(place: Path, image: str) -> None:
    path = place / "pipelines" / "align.yaml"
    path.write_text(yaml.safe_dump_all([*yaml.safe_load_all(path.read_bytes()), {"platforms": {"kubernetes": {}}}]))
    plain, package = read_package("align"), read_package("align", image)
    assert (images(plain), images(package)) == ({"prefopt:test"}, {image})
    assert package.version != plain.version
    assert package.version == read_package("align", image).version
    before, settings = yaml.safe_load_all(plain.content)
    after, kept = yaml.safe_load_all(package.content)
    assert kept == settings
    assert after == yaml.safe_load(yaml.safe_dump(before).replace("prefopt:test", image))
    path.write_bytes(package.content)
    assert read_package("align").version == package.version, "the version is named by what is uploaded"


def test_images_of_others_stay_and_one_of_ours_must_be_there(place: Path) -> None:
    path = place / "pipelines" / "align.yaml"
    path.write_text(path.read_text().replace("prefopt:test", "team/prefopt:test"))
    with pytest.raises(ConfigError, match=r"no task of pipelines/align.yaml runs in prefopt:TAG. .* team/prefopt:test"):
        read_package("align", "other:1")


@pytest.mark.parametrize("image", ["", " ", "prefopt: 1", "prefopt:1\n"])
def test_an_image_is_one_word(place: Path, image: str) -> None:
    with pytest.raises(ConfigError, match=r"--image .*: give an image as nodes pull it"):
        read_package("align", image)


@pytest.mark.parametrize("text", ["", "a: 1", "[1, 2]", "{", "pipelineInfo: {name: x}"])
def test_a_file_that_is_no_pipeline_is_refused(place: Path, text: str) -> None:
    (place / "other.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"other.yaml is not a compiled KFP v2 pipeline"):
        read_package("other.yaml")


def test_defaults_need_not_be_given(place: Path) -> None:
    own()
    own(share=1, dry=True, more={"a": [1]})
    with pytest.raises(ConfigError, match="'own' also needs 'rounds', 'run_dir'"):
        read_package("own").check({"config": "a: 1"})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"round": 3}, r"no parameter 'round'. It has: config \(STRING\), dry \(BOOLEAN\)"),
        ({"rounds": "3"}, "parameter 'rounds' of pipeline 'own' is of type NUMBER_INTEGER, not str"),
        ({"rounds": True}, "'rounds' .* NUMBER_INTEGER, not bool"),
        ({"rounds": 3.0}, "'rounds' .* NUMBER_INTEGER, not float"),
        ({"dry": 1}, "'dry' .* BOOLEAN, not int"),
        ({"more": []}, "'more' .* STRUCT, not list"),
        ({"config": {}}, "'config' .* STRING, not dict"),
    ],
)
def test_a_wrong_name_or_type_is_named_with_the_known_ones(place: Path, values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        own(**values)
