"""Checkpoints for another number of workers, through DeepSpeed's universal format, in which nothing is sharded."""

import contextlib
import os
from argparse import Namespace
from pathlib import Path


def to_universal(source: Path, target: Path) -> None:
    """Convert the engine's files of a checkpoint, ZeRO 1 to 3, into the directory `target`.

    Trained parameters alone are in it where frozen ones were left out of the checkpoint. The files are unpickled:
    their checksums must have been checked.
    """
    from deepspeed.checkpoint import ds_to_universal

    settings = Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,  # more would fork a process that has threads
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        ds_to_universal.main(settings)
