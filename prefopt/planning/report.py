"""A plan for people, as tables or plain lines, and for programs, as one object."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from rich.table import Table

from prefopt.planning.flops import REWARD_FLOPS
from prefopt.planning.gpus import GIB
from prefopt.planning.plan import Plan
from prefopt.planning.quantities import amount, duration, gigabytes, hours, number


@dataclass(frozen=True)
class Topic:
    """One table: its title, its columns, and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def topics(plan: Plan) -> list[Topic]:
    """All tables, in the order in which they are read."""
    found = [_data(plan), _model(plan), _work(plan), _time(plan), _bytes(plan), _memory(plan), _taken(plan)]
    return [topic for topic in found if topic.rows]


def sentences(plan: Plan) -> list[str]:
    """What stands below the tables: whether training fits, and what to keep in mind."""
    return [plan.memory.verdict, *plan.notes]


def as_table(topic: Topic) -> Table:
    """A topic for a terminal."""
    table = Table(title=topic.title, title_justify="left", title_style="bold")
    for position, column in enumerate(topic.columns):
        table.add_column(column, justify="left" if position == 0 or not _numeric(topic, position) else "right")
    for row in topic.rows:
        table.add_row(*row)
    return table


def as_lines(topic: Topic) -> list[str]:
    """A topic as plain lines: the title, the columns, then a line per row."""
    rows = [topic.columns, *topic.rows]
    widths = [max(len(row[position]) for row in rows) for position in range(len(topic.columns))]
    aligned = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [f"{topic.title}:", *(f"  {line}".rstrip() for line in aligned)]


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as one object. Times are seconds, sizes bytes."""
    counts, costs, sizes = plan.counts, plan.costs, plan.config.score.sizes
    return {
        "config": plan.config.name,
        "estimate": True,
        "device": {"name": plan.device.name, "memory_bytes": plan.device.memory, "peak": dict(plan.device.peak)},
        "counts": {**asdict(counts), "by_split": dict(counts.by_split)},
        "model": {
            "family": costs.family,
            "parameters": plan.size.total,
            "lora_parameters": plan.size.lora,
            "unet_forward_flops": costs.mean_unet(sizes).total,
            "vae_encode_flops": fmean(map(costs.encode, sizes)),
            "prompt_flops": costs.prompt,
            "reward_flops": REWARD_FLOPS,
        },
        "stages": list(_stages_json(plan)),
        "totals": {
            "seconds": sum(time.seconds.assumed for time in plan.time.values()),
            "gpu_seconds": sum(time.gpu_seconds for time in plan.time.values()),
            "flops": sum(work.flops for work in plan.work.values()),
            "bytes": sum(work.nbytes for work in plan.work.values()),
        },
        "memory": {
            **asdict(plan.memory),
            "stages": [{**asdict(stage), "fits": stage.fits} for stage in plan.memory.stages],
        },
        "taken": [
            {**asdict(taken), "ratio": taken.ratio, "flops_per_second": taken.flops_per_second} for taken in plan.taken
        ],
        "notes": sentences(plan),
    }


def _stages_json(plan: Plan) -> Iterator[dict[str, Any]]:
    for name, work in plan.work.items():
        time = plan.time[name]
        yield {
            "stage": name,
            "items": [asdict(item) for item in work.items],
            "writes": [asdict(write) for write in work.writes],
            "workers": work.workers,
            "flops": work.flops,
            "bytes": work.nbytes,
            "seconds": time.seconds.assumed,
            "seconds_low": time.seconds.low,
            "seconds_high": time.seconds.high,
            "gpus": time.gpus,
            "gpu_seconds": time.gpu_seconds,
        }


def _data(plan: Plan) -> Topic:
    counts = plan.counts
    splits = ", ".join(f"{split} {number(pairs)}" for split, pairs in counts.by_split.items())
    about = "counted" if counts.exact else "estimate"
    rows = [
        ("votes", number(counts.votes), about),
        ("pairs", f"{number(counts.pairs)} ({splits})", about),
        ("different images", number(counts.images), about),
        ("from", counts.source, ""),
    ]
    return Topic("Data", ("what", "how many", ""), rows)


def _model(plan: Plan) -> Topic:
    costs, sizes = plan.costs, plan.config.score.sizes
    pixels = " or ".join(map(str, sizes))
    trained = plan.size.lora if plan.config.train.method == "lora" else plan.size.total
    rows = [
        ("UNet's parameters", amount(plan.size.total)),
        ("trained parameters", amount(trained)),
        (f"UNet, one forward at {pixels} px", amount(costs.mean_unet(sizes).total, "FLOP")),
        (f"VAE, one image encoded at {pixels} px", amount(fmean(map(costs.encode, sizes)), "FLOP")),
        ("text encoders, one prompt", amount(costs.prompt, "FLOP")),
    ]
    return Topic(f"Model ({costs.family})", ("what", "size"), rows)


def _work(plan: Plan) -> Topic:
    rows = [
        (name, item.what, number(item.count), amount(item.flops, "FLOP"), amount(item.count * item.flops, "FLOP"))
        for name, work in plan.work.items()
        for item in work.items
    ]
    return Topic("Work", ("stage", "what", "how many", "each", "together"), rows)


def _time(plan: Plan) -> Topic:
    rows = []
    for name, work in plan.work.items():
        time = plan.time[name]
        where = f"{time.gpus:g} x {plan.device.name}" if time.gpus else f"{work.workers} on CPU"
        span = f"{duration(time.seconds.low)} to {duration(time.seconds.high)}"
        rows.append((name, where, duration(time.seconds.assumed), span, hours(time.gpu_seconds)))
    assumed = sum(time.seconds.assumed for time in plan.time.values())
    low, high = (sum(getattr(time.seconds, level) for time in plan.time.values()) for level in ("low", "high"))
    gpu_seconds = sum(time.gpu_seconds for time in plan.time.values())
    rows.append(("all", "", duration(assumed), f"{duration(low)} to {duration(high)}", hours(gpu_seconds)))
    return Topic("Time (estimate)", ("stage", "on", "takes about", "range", "GPU-hours"), rows)


def _bytes(plan: Plan) -> Topic:
    rows = [
        (name, write.what, gigabytes(write.nbytes), "store (shared by runs)" if write.where == "store" else "run")
        for name, work in plan.work.items()
        for write in work.writes
    ]
    kept = plan.config.train.keep_checkpoints
    rows.append(("all", f"(the last {kept} checkpoints stay)", gigabytes(_all_bytes(plan)), ""))
    return Topic("Written (estimate)", ("stage", "what", "size", "where"), rows)


def _all_bytes(plan: Plan) -> float:
    return sum(work.nbytes for work in plan.work.values())


def _memory(plan: Plan) -> Topic:
    memory = plan.memory
    rows = []
    for stage in memory.stages:
        fits = stage.refused or ("fits" if stage.fits else "does not fit")
        rows.append(
            (
                f"{stage.zero}{' (taken)' if stage.zero == memory.chosen else ''}",
                _gib(stage.states),
                _gib(memory.text_encoders),
                _gib(memory.activations),
                _gib(memory.context),
                _gib(stage.needed),
                _gib(stage.host),
                fits,
                number(stage.largest_micro_batch),
            )
        )
    columns = (
        "ZeRO",
        "model states",
        "text encoders",
        "activations",
        "device's own",
        "needed",
        "host, per node",
        f"of {_gib(plan.device.memory)}",
        "largest micro_batch",
    )
    return Topic(f"Memory of each training worker on {plan.device.name}, GiB (estimate)", columns, rows)


def _taken(plan: Plan) -> Topic:
    rows = [
        (
            taken.stage,
            duration(taken.planned_seconds),
            duration(taken.taken_seconds),
            f"{taken.ratio:.2f}",
            amount(taken.flops_per_second, "FLOP/s"),
        )
        for taken in plan.taken
    ]
    return Topic("Planned and taken", ("stage", "planned", "taken", "taken / planned", "each device did"), rows)


def _gib(nbytes: float) -> str:
    return f"{nbytes / GIB:.1f}"


def _numeric(topic: Topic, position: int) -> bool:
    return all(row[position][:1].isdigit() or not row[position] for row in topic.rows)
