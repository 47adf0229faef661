"""One face for local directories and object stores: every write is whole or absent."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from filelock import FileLock

from prefopt.data.conditional import get_tagged, put_if_absent, replace_if
from prefopt.errors import ConfigError, StorageError

_CHUNK = 1 << 20
_UNFINISHED = ".tmp-"
_GUARD_SECONDS = 60.0


class Storage:
    """A directory, local or on an object store, that paths never escape.

    Local writes go to a temporary name and are renamed; for object stores they are spooled on the local disk and
    put when they are whole. Failures raise StorageError with the cause in words.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/") or "/"
        self.local = "://" not in self.uri
        if self.local:
            self._fs: pafs.FileSystem = pafs.LocalFileSystem()
            self._root = os.path.abspath(self.uri)
        else:
            try:
                self._fs, self._root = pafs.FileSystem.from_uri(self.uri)
            except (pa.ArrowInvalid, OSError) as error:
                raise ConfigError(f"Cannot use {self.uri}: {error}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Storage, (self._root if self.local else self.uri,))

    def path(self, relative: str) -> str:
        """The path of a file inside, as its file system names it; ValueError for one that would lie outside."""
        parts = relative.split("/")
        if relative.startswith("/") or ".." in parts or "\\" in relative:
            raise ValueError(f"path {relative!r} leaves {self.uri}")
        return "/".join([self._root, *[part for part in parts if part not in ("", ".")]])

    def place(self, relative: str = "") -> str:
        """What is inside, or the storage itself, by a name that does not depend on the working directory: a path from
        the root, or a URI."""
        if self.local:
            return self.path(relative)
        self.path(relative)
        return f"{self.uri}/{relative}" if relative else self.uri

    def child(self, relative: str) -> "Storage":
        """The storage of a directory inside."""
        self.path(relative)
        return Storage(f"{self.uri}/{relative}")

    def exists(self, relative: str) -> bool:
        """Whether a file or directory is there."""
        return bool(self.info(relative).type != pafs.FileType.NotFound)

    def size(self, relative: str) -> int | None:
        """Bytes of a file, or None if there is no such file."""
        info = self.info(relative)
        return info.size if info.type == pafs.FileType.File else None

    def info(self, relative: str) -> pafs.FileInfo:
        """Kind, size and modification time of what is there."""
        with _explained("look at", self, relative):
            return self._fs.get_file_info(self.path(relative))

    def files(self, relative: str = "") -> list[str]:
        """Files below a directory, sorted, relative to this storage. Unfinished writes are left out."""
        return list(self.entries(relative))

    def entries(self, relative: str = "") -> dict[str, pafs.FileInfo]:
        """What `files` lists, with sizes and modification times."""
        selector = pafs.FileSelector(self.path(relative), allow_not_found=True, recursive=True)
        with _explained("list", self, relative):
            files = [info for info in self._fs.get_file_info(selector) if info.type == pafs.FileType.File]
        named = {info.path[len(self._root) :].lstrip("/"): info for info in files}
        return {name: named[name] for name in sorted(named) if not os.path.basename(name).startswith(_UNFINISHED)}

    def sweep(self) -> None:
        """Remove unfinished writes that a killed process left. Nobody may be writing here."""
        if self.local:
            for path in Path(self._root).rglob(f"{_UNFINISHED}*"):
                path.unlink(missing_ok=True)

    def delete(self, relative: str) -> None:
        """Remove a file or directory tree; nothing happens if it is not there."""
        info = self.info(relative)
        with _explained("delete", self, relative):
            if info.type == pafs.FileType.File:
                self._fs.delete_file(info.path)
            elif info.type == pafs.FileType.Directory:
                self._fs.delete_dir(info.path)

    def read_bytes(self, relative: str) -> bytes:
        """A whole file; StorageError if it cannot be read."""
        with _explained("read", self, relative), self._fs.open_input_stream(self.path(relative)) as stream:
            return bytes(stream.read())

    def open_input(self, relative: str) -> Any:
        """A seekable file, for ranged reads."""
        with _explained("read", self, relative):
            return self._fs.open_input_file(self.path(relative))

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Write a whole file at once."""
        with self.open_output(relative) as stream:
            stream.write(data)

    def create(self, relative: str, data: bytes) -> bool:
        """Write a whole file unless one is there; whether it was written. Of several writers at once one succeeds.

        On an object store this is a conditional put, for which boto3 is needed: ConfigError without it.
        """
        target = self.path(relative)
        with _explained("write", self, relative):
            if not self.local:
                return put_if_absent(self.uri, target, data)
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=_UNFINISHED, dir=os.path.dirname(target))
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.chmod(temporary, 0o644)
                os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                os.unlink(temporary)
            return True

    def read_tagged(self, relative: str) -> tuple[bytes, str] | None:
        """A whole file, and a tag that changes with its content; None if there is no such file."""
        target = self.path(relative)
        with _explained("read", self, relative):
            if not self.local:
                return get_tagged(self.uri, target)
            with contextlib.suppress(FileNotFoundError):
                data = Path(target).read_bytes()
                return data, hashlib.sha256(data).hexdigest()
        return None

    def replace(self, relative: str, data: bytes, tag: str) -> str | None:
        """Replace a whole file that still has the tag of `read_tagged`; its new tag, or None if nothing was written.

        Of several writers with one tag one succeeds. A local file's writers wait for each other at a lock file beside
        it; on an object store this is a conditional put, for which boto3 is needed: ConfigError without it.
        """
        target = self.path(relative)
        with _explained("write", self, relative):
            if not self.local:
                return replace_if(self.uri, target, data, tag)
            with FileLock(f"{target}.guard", timeout=_GUARD_SECONDS):
                found = self.read_tagged(relative)
                if found is None or found[1] != tag:
                    return None
                self.write_bytes(relative, data)
            return hashlib.sha256(data).hexdigest()

    @contextlib.contextmanager
    def open_output(self, relative: str) -> Iterator[Any]:
        """A stream whose file appears, whole, when the block ends without an error."""
        target = self.path(relative)
        with _explained("write", self, relative):
            if not self.local:
                with tempfile.TemporaryFile() as spool:
                    yield spool
                    spool.seek(0)
                    with self._fs.open_output_stream(target) as stream:
                        shutil.copyfileobj(spool, stream, _CHUNK)
                return
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=_UNFINISHED, dir=os.path.dirname(target))
            try:
                with os.fdopen(handle, "wb") as stream:
                    yield stream
                    stream.flush()
                    os.fsync(stream.fileno())
                os.chmod(temporary, 0o644)
                os.replace(temporary, target)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise

    def write_table(self, relative: str, table: pa.Table, **options: Any) -> None:
        """Write a parquet file. The same table gives the same bytes."""
        with self.open_output(relative) as stream:
            pq.write_table(table, stream, **options)

    def read_table(
        self, relative: str, columns: list[str] | None = None, filters: list[tuple[str, str, Any]] | None = None
    ) -> pa.Table:
        """Read a parquet file, or those of its rows for which all filters (column, comparison, value) hold."""
        with _explained("read", self, relative), self.open_input(relative) as source:
            return pq.read_table(source, columns=columns, filters=filters, use_threads=False)

    def read_rows(self, relative: str, start: int, count: int) -> pa.Table:
        """These rows of a parquet file; only the row groups that hold some of them are read."""
        with _explained("read", self, relative), self.open_input(relative) as source:
            file = pq.ParquetFile(source)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            starts = np.cumsum([0, *sizes])
            first = int(np.searchsorted(starts, start, side="right")) - 1
            groups = range(first, int(np.searchsorted(starts, start + count)))
            return file.read_row_groups(list(groups), use_threads=False).slice(start - int(starts[first]), count)

    def check_writable(self) -> None:
        """Raise ConfigError if nothing can be written here."""
        name = f"{_UNFINISHED}{uuid.uuid4().hex}"
        try:
            self.write_bytes(name, b"")
            self.delete(name)
        except (StorageError, OSError) as error:
            raise ConfigError(f"Cannot write to {self.uri}: {error} Choose another directory.") from None


@contextlib.contextmanager
def _explained(verb: str, storage: Storage, relative: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        number = getattr(error, "errno", None)
        if number == errno.ENOSPC:
            cause = "the disk is full. Free some space and run the same command again: finished work is kept"
        elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
            cause = "permission denied"
        elif isinstance(error, FileNotFoundError):
            cause = "there is no such file"
        elif number in (errno.ENOTDIR, errno.EEXIST):
            cause = "a part of the path is a file, not a directory"
        else:
            cause = " ".join(str(error).split())
        raise StorageError(f"Cannot {verb} {relative or 'the files'} in {storage.uri}: {cause}.") from error
