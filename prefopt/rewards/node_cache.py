"""A directory on each machine for what is fetched or converted once: entries are whole or absent."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from prefopt.errors import StorageError

_SIZES = "sizes.json"
_UNFINISHED = ".unfinished-"


def default_cache() -> Path:
    """Where entries lie unless the config says otherwise."""
    return Path.home() / ".cache" / "prefopt"


class NodeCache:
    """Entries are directories, built once however many processes of the machine ask for one at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def entry(self, name: str, build: Callable[[Path], None]) -> Path:
        """The directory of an entry; `build` fills an empty one if it is not there.

        Other processes wait meanwhile; the directory appears whole, by a rename. An entry whose files have lost their
        sizes is built again. StorageError if nothing can be written.
        """
        final = self.root / name
        if _is_whole(final):
            return final
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f"{name}.lock"):
                if not _is_whole(final):
                    self._build(name, final, build)
        except OSError as error:
            raise _explained(error, self.root) from error
        return final

    def _build(self, name: str, final: Path, build: Callable[[Path], None]) -> None:
        for left in [final, *self.root.glob(f"{_UNFINISHED}{name}-*")]:
            shutil.rmtree(left, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{name}-", dir=self.root))
        try:
            build(scratch)
            sizes = {path.relative_to(scratch).as_posix(): path.stat().st_size for path in _files(scratch)}
            with (scratch / _SIZES).open("w") as stream:
                json.dump(sizes, stream, indent=1, sort_keys=True)
                stream.flush()
                os.fsync(stream.fileno())
            scratch.chmod(0o755)
            scratch.rename(final)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _is_whole(directory: Path) -> bool:
    try:
        sizes = json.loads((directory / _SIZES).read_bytes())
        return all((directory / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _explained(error: OSError, root: Path) -> StorageError:
    if error.errno == errno.ENOSPC:
        cause = "the disk is full. Free some space, or set rewards.cache to a larger disk"
    else:
        cause = f"{error.strerror or error}. Set rewards.cache to a directory that can be written to"
    return StorageError(f"Cannot keep reward weights in {root}: {cause}.")
