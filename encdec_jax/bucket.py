"""Buckets of object stores (S3, Google Cloud Storage, Azure), by obstore: the few things that runs and tokens need.

An object is written whole or not at all. What makes a claim exclusive are conditional writes: `create` succeeds for one
of all who try, and `replace` only where the object still is as its writer has seen it. A request that fails is sent
again for some time; where the answer of one that had succeeded was lost, the object's content says so.

Keys and endpoints come from the environment, by the stores' own variables (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL,
GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, ...) or the machine's role. They are never written down.
"""

from __future__ import annotations

import importlib
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from encdec_jax.errors import UserError
from encdec_jax.files import environment, sha256_file

PATIENCE = timedelta(seconds=60)  # that a request is sent again for
ANSWER = timedelta(seconds=30)  # that one request may take without a byte
PART = 1 << 24  # bytes that are asked for at a time
_AT_ONCE = 8  # requests in flight for one file

Tag = Mapping[str, str | None]  # of one state of an object


@dataclass(frozen=True)
class Listed:
    """An object, as a listing shows it.

    Attributes:
      size: bytes.
      tag: another for each state of the object.
      changed: when it was written, by the store's clock; seconds since the epoch.
    """

    size: int
    tag: str
    changed: float


class Damaged(OSError):
    """An object that is not what it was when it was written: nothing that asking again would mend."""


class Bucket:
    """The objects below a URL, by their keys from there on. What fails raises an `OSError`, in one line without keys.

    Attributes:
      url: where they are.
    """

    def __init__(self, url: str) -> None:
        """Nothing is asked yet.

        Raises:
          UserError: obstore is not installed, or the environment lacks what the store needs.
        """
        try:
            self._of: Any = importlib.import_module("obstore")
        except ImportError as error:
            raise UserError(
                f"{url} needs obstore, which is not installed: in a checkout, pip install '.[bucket]'"
            ) from error
        self.url = url
        plain = any((environment(name) or "").startswith("http://") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
        try:
            self._store = self._of.store.from_url(
                url,
                client_options={"timeout": ANSWER, **({"allow_http": True} if plain else {})},
                retry_config={"max_retries": 1000, "retry_timeout": PATIENCE},
            )
        except Exception as error:
            raise UserError(f"{url} is not accepted: {_said(error)}") from error

    def list(self, folder: str) -> dict[str, Listed]:
        """All objects whose keys begin with a folder's name, by their keys."""
        with self._asking("list", folder):
            return dict(_entry(one) for chunk in self._of.list(self._store, prefix=folder or None) for one in chunk)

    def beside(self, folder: str) -> dict[str, Listed]:
        """The objects in a folder itself, not those in folders of it."""
        with self._asking("list", folder):
            return dict(map(_entry, self._of.list_with_delimiter(self._store, folder)["objects"]))

    def read(self, key: str) -> tuple[bytes, Tag] | None:
        """An object and the tag of its state; None if there is none."""
        try:
            with self._asking("read", key):
                got = self._of.get(self._store, key)
                return bytes(got.bytes()), {name: got.meta.get(name) for name in ("e_tag", "version")}
        except FileNotFoundError:
            return None

    def fetch(self, key: str, path: Path, size: int, sha256: str | None = None) -> None:
        """Copy an object to a file, range by range; the file is there whole or not at all.

        Raises:
          Damaged: the object has another size or SHA-256.
          OSError: it is missing, or can't be read.
        """
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        path.parent.mkdir(parents=True, exist_ok=True)

        def get(begin: int) -> None:
            end = min(begin + PART, size)
            raw = bytes(self._of.get_range(self._store, key, start=begin, end=end))
            if len(raw) != end - begin:
                raise Damaged(f"{self.url}/{key} is shorter than {size} bytes")
            os.pwrite(handle, raw, begin)

        try:
            with part.open("xb") as file, ThreadPoolExecutor(_AT_ONCE) as threads, self._asking("read", key):
                handle = file.fileno()
                list(threads.map(get, range(0, size, PART)))
            if sha256 is not None and sha256_file(part) != sha256:
                raise Damaged(f"{self.url}/{key} is damaged: it has another SHA-256 than its manifest; remove it")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def write(self, key: str, data: bytes | Path) -> None:
        """Write an object whole, of bytes or of a file, whatever is there."""
        with self._asking("write", key):
            self._of.put(self._store, key, data)

    def create(self, key: str, data: bytes) -> Tag | None:
        """Write an object that is not there yet; None if it is. Of many who try, each with other data, one succeeds."""
        return self._put(key, data, "create", self._of.exceptions.AlreadyExistsError)

    def replace(self, key: str, data: bytes, tag: Tag) -> Tag | None:
        """Write an object that is still in the state of the tag; None if it is not, or is gone."""
        state = {name: value for name, value in tag.items() if value is not None}
        return self._put(key, data, state, self._of.exceptions.PreconditionError)

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, if they are there."""
        with self._asking("remove", keys[0] if keys else ""):
            for begin in range(0, len(keys), 1000):
                try:
                    self._of.delete(self._store, list(keys[begin : begin + 1000]))
                except FileNotFoundError:  # of S3 alone it is no error to remove what is not there
                    for key in keys[begin : begin + 1000]:
                        with suppress(FileNotFoundError):
                            self._of.delete(self._store, key)

    def _put(self, key: str, data: bytes, mode: Any, refused: type[Exception]) -> Tag | None:
        try:
            with self._asking("write", key):
                made: Tag = self._of.put(self._store, key, data, mode=mode, use_multipart=False)
                return dict(made)
        except refused:
            there = self.read(key)  # of a request that was sent twice, the second is refused though the first was not
            return there[1] if there is not None and there[0] == data else None

    @contextmanager
    def _asking(self, what: str, key: str) -> Iterator[None]:
        """Make of obstore's errors an `OSError` of one line; of those that are an answer, nothing."""
        answers = self._of.exceptions
        try:
            yield
        except (OSError, answers.AlreadyExistsError, answers.PreconditionError):
            raise
        except answers.BaseError as error:
            raise OSError(f"can't {what} {self.url}/{key}: {_said(error)}") from error


@cache
def bucket(url: str) -> Bucket:
    """The bucket of a URL; one for the process."""
    return Bucket(url)


def _entry(one: Any) -> tuple[str, Listed]:
    return one["path"], Listed(one["size"], one["e_tag"] or str(one["last_modified"]), one["last_modified"].timestamp())


def _said(error: Exception) -> str:
    """The first line of an error, without what may be signed in an address."""
    return re.sub(r"\?\S*", "", (str(error).splitlines() or [type(error).__name__])[0])
