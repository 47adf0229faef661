"""Visit plans of made-up examples."""

from collections.abc import Mapping, Sequence

from prefopt.config.base import Size
from prefopt.config.score import VisitConfig
from prefopt.data.framing import Framing
from prefopt.data.visits import Example, Replay, VisitPlan, plan_visits
from tests.kit.models import SIZE


def planned(
    examples: Sequence[Example],
    count: int,
    config: VisitConfig,
    *,
    buckets: tuple[Size, ...] = (SIZE,),
    originals: Mapping[str, Size] | None = None,
    micro_batch: int = 1,
    replay: Replay | None = None,
) -> VisitPlan:
    """A plan; images that `originals` does not name are squares."""
    images = dict.fromkeys((image for e in examples for image in (e.image_0, e.image_1)), SIZE)
    framing = Framing(buckets, {**images, **(originals or {})})
    return plan_visits(examples, count, config, 1000, framing, micro_batch, replay)
