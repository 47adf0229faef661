"""What must agree before models are ranked together, and what tells methods apart from seeds."""

import pytest

from prefopt.config.evaluate import EvaluateConfig, SamplerConfig
from prefopt.evaluation.protocol import (
    METHOD,
    SEED,
    TRAINED_ON_JUDGE,
    Protocol,
    method_summary,
    protocol_of,
    protocol_record,
)
from prefopt.prompts import Prompt, PromptList
from tests.kit.evaluation import evaluation_config


def lists(*names, name="mine"):
    return [PromptList(name, "file", tuple(Prompt(one) for one in names))]


def protocol(sets=None, base="b", versions=None, **evaluate):
    config = EvaluateConfig(**{"rewards": ("x", "y"), **evaluate})
    return protocol_of(config, base, sets or lists("p", "q"), versions or {"x": "1", "y": "1"})


@pytest.mark.parametrize(
    "other",
    [
        protocol(lists("p", "r")),
        protocol(lists("p")),
        protocol(base="c"),
        protocol(seed=1),
        protocol(samples_per_prompt=2),
        protocol(sampler=SamplerConfig(steps=3)),
        protocol(ties="nobody"),
        protocol(rewards=("y", "x")),
        protocol(versions={"x": "1", "y": "2"}),
        protocol(versions={"x": "1"}),
    ],
)
def test_every_condition_is_in_the_digest(other):
    assert other.digest != protocol().digest


def test_names_of_sets_orders_and_work_units_are_not():
    same = protocol(lists("q", "p", name="yours"), unit_prompts=3, grid_prompts=1, versions={"y": "1", "x": "1"})
    assert same.digest == protocol().digest
    twice = [*lists("p", "q"), *lists("q", name="more")]
    assert protocol(twice).digest == protocol().digest


def test_the_record_gives_the_protocol_back():
    record = protocol_record(protocol(), 0.9)
    assert record.pop("level") == 0.9
    assert record.pop("digest") == protocol().digest
    assert Protocol.model_validate(record) == protocol()


def test_seeds_are_no_part_of_a_method(tmp_path):
    config = evaluation_config(tmp_path, tmp_path)

    def method(inputs="k", **changed):
        return method_summary(config.model_copy(update=changed), {"ingest": inputs})

    first = method()
    inject = config.inject.model_copy(update={"seed": 7})
    same = method(seed=4, inject=inject, name="another", evaluate=config.evaluate.model_copy(update={"seed": 3}))
    assert (first[SEED], same[SEED], first[METHOD] == same[METHOD]) == (0, 4, True)
    slower = config.train.model_copy(update={"steps": 99})
    assert len({str(one[METHOD]) for one in (first, method("other data"), method(train=slower))}) == 3
    assert first[TRAINED_ON_JUDGE] == 0
    taught = config.evaluate.model_copy(update={"rewards": ("world/style",)})
    assert method(evaluate=taught)[TRAINED_ON_JUDGE] == 1
