"""Work that the workers share while training stands still."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

Result = TypeVar("Result")


def in_turns(count: int, work: Callable[[int], Result]) -> list[Result]:
    """The results of work(0), ..., work(count - 1) on every worker; number n is worker (n mod workers)'s.

    All workers call this together. In the last round those without a number repeat the last one and drop its result:
    a sharded model is gathered by all of them or by none. Returns after all are done.
    """
    rank, workers = dist.get_rank(), dist.get_world_size()
    mine: dict[int, Result] = {}
    for turn in range(-(-count // workers)):
        number = turn * workers + rank
        result = work(min(number, count - 1))
        if number < count:
            mine[number] = result
    received: list[dict[int, Result]] = [{} for _ in range(workers)]
    dist.all_gather_object(received, mine)
    whole = {number: result for part in received for number, result in part.items()}
    return [whole[number] for number in range(count)]
