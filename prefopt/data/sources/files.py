"""Files of a source: tables under one root, and images that rows point to by path."""

import os
from collections.abc import Iterator
from typing import Any

from prefopt.data.sources.base import BadRowError
from prefopt.data.sources.rows import plan_file, read_rows
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, InputError, StorageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class TableFiles:
    """The table files of a source: one file, or all files with known suffixes below a directory."""

    def __init__(self, path: str, suffixes: tuple[str, ...], required: list[str], optional: list[str]) -> None:
        if path.endswith(suffixes):
            directory, slash, name = path.rpartition("/")
            self.root, self._names = Storage(directory or slash or "."), [name]
        else:
            self.root = Storage(path)
            names = self.root.files() if self.root.size("") is None else []
            self._names = [name for name in names if name.endswith(suffixes)]
        self._path, self._suffixes = path, suffixes
        self._required, self._optional = required, optional

    def names(self) -> list[str]:
        """The files, relative to the root; InputError if there are none."""
        if not self._names or any(self.root.size(name) is None for name in self._names):
            raise InputError(
                f"There is no {' or '.join(self._suffixes)} file at {self._path}. Check the source's path."
            )
        return self._names

    def plan(self, unit_rows: int) -> list[dict[str, Any]]:
        """Units of all files, in order."""
        return [unit for name in self.names() for unit in plan_file(self.root, name, unit_rows, self._required)]

    def rows(self, unit: dict[str, Any], columns: list[str] | None = None) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """(file, row number, row) of a unit."""
        for row, values in read_rows(self.root, unit, columns or self._required + self._optional):
            yield unit["file"], row, values


class ImageFiles:
    """Image files that rows name by a path relative to one directory, or by an s3:// URI."""

    def __init__(self, uri: str) -> None:
        self.root = Storage(uri)

    def names(self) -> list[str]:
        """Every image file below the directory."""
        return [name for name in self.root.files() if name.lower().endswith(IMAGE_SUFFIXES)]

    def relative(self, path: Any) -> str:
        """The canonical form of a path found in a row; BadRowError if it leaves the directory."""
        if not isinstance(path, str) or not path:
            raise BadRowError("missing_field", "an image path is empty")
        if path.startswith("s3://") and not set("?#@") & set(path):
            return path
        if "://" in path:
            raise BadRowError("bad_image", f"image {path[:100]!r}: only paths and s3:// URIs are read")
        if path.startswith("/") and self.root.local:
            path = os.path.relpath(path, os.path.abspath(self.root.uri))
        if "\\" in path or not path.isprintable():
            raise BadRowError("bad_image", f"image {path[:100]!r}: the path holds a backslash or control characters")
        parts = os.path.normpath(path).replace(os.sep, "/").split("/")
        if ".." in parts or path.startswith("/"):
            raise BadRowError("bad_image", f"image {path[:100]!r} lies outside {self.root.uri}")
        return "/".join(parts)

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of an image; BadRowError if it is missing or larger than `limit` bytes.

        An object store that does not answer is no fault of the row: StorageError.
        """
        root, name = self.root, path
        if path.startswith("s3://"):
            directory, _, name = path.rpartition("/")
            try:
                root = Storage(directory)
            except ConfigError as error:
                raise BadRowError("bad_image", str(error)) from None
        try:
            size = root.size(name)
            if size is None:
                raise BadRowError("bad_image", f"image {path[:100]!r} is missing")
            if size > limit:
                raise BadRowError("image_too_large", f"image {path[:100]!r} has {size} bytes, limit {limit}")
            return root.read_bytes(name)
        except StorageError as error:
            if not root.local:
                raise
            raise BadRowError("bad_image", str(error)) from None


class TableReader:
    """What all sources share: tables whose rows hold a prompt, and perhaps images that rows name by path."""

    def __init__(self, tables: TableFiles, prompt_column: str, images: ImageFiles | None = None) -> None:
        self._tables, self._prompt_column = tables, prompt_column
        self._images = images or ImageFiles(tables.root.uri)

    @property
    def root(self) -> Storage:
        """The directory that table files lie in."""
        return self._tables.root

    def files(self) -> list[str]:
        """The table files, relative to the root, sorted. InputError if there are none."""
        return self._tables.names()

    def plan(self, unit_rows: int) -> list[dict[str, Any]]:
        """Units of about `unit_rows` rows. InputError for a file that is damaged or lacks a column."""
        return self._tables.plan(unit_rows)

    def rows(self, unit: dict[str, Any], prompts_only: bool = False) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """(file, row number, row) of a unit, streamed; with `prompts_only` just the prompt's column."""
        return self._tables.rows(unit, [self._prompt_column] if prompts_only else None)

    def prompt(self, row: dict[str, Any]) -> Any:
        """The prompt of a row."""
        return row.get(self._prompt_column)

    def image_bytes(self, file: str, limit: int) -> bytes:
        """The bytes of an image file. BadRowError if it is missing or above the limit."""
        return self._images.read(file, limit)
