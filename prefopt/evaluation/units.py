"""How an evaluation's prompts are cut into units, and what the files of its units are called."""


def unit_starts(prompts: int, per_unit: int) -> range:
    """The place of the first prompt of each unit."""
    return range(0, prompts, per_unit)


def unit_file(kind: str, model: str, unit: int) -> str:
    """The file of one kind, `images`, `scores` or `features`, that a model's unit writes."""
    return f"{kind}-{model}-{unit:05d}.parquet"


def unit_files(kind: str, model: str, prompts: int, per_unit: int) -> list[str]:
    """The files of one kind of all units of a model, in order."""
    return [unit_file(kind, model, unit) for unit in range(len(unit_starts(prompts, per_unit)))]
