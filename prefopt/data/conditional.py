"""Writes to an object store that succeed only if what is there is as expected: what pyarrow's file systems cannot do.

Credentials and endpoint come from the environment, as for all s3:// places. All functions raise ConfigError for a store
that is not S3 or without boto3, and StorageError if the store refuses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefopt.errors import ConfigError, StorageError

_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_ABSENT = {"NoSuchKey", "404"}


def put_if_absent(uri: str, target: str, data: bytes) -> bool:
    """Put an object (bucket/key) unless it is there; whether it was put."""
    return _put(uri, target, data, {"IfNoneMatch": "*"}) is not None


def replace_if(uri: str, target: str, data: bytes, etag: str) -> str | None:
    """Replace an object that still has this etag; the new etag, or None if it is gone or was changed."""
    return _put(uri, target, data, {"IfMatch": etag})


def get_tagged(uri: str, target: str) -> tuple[bytes, str] | None:
    """An object's content and etag; None if it is not there."""
    bucket, _, key = target.partition("/")
    with _client(uri, "read", key, _ABSENT) as client:
        answer = client.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), str(answer["ETag"])
    return None


def _put(uri: str, target: str, data: bytes, condition: dict[str, str]) -> str | None:
    bucket, _, key = target.partition("/")
    with _client(uri, "write", key, _TAKEN | _ABSENT if "IfMatch" in condition else _TAKEN) as client:
        return str(client.put_object(Bucket=bucket, Key=key, Body=data, **condition)["ETag"])
    return None


@contextmanager
def _client(uri: str, verb: str, key: str, expected: set[str]) -> Iterator[Any]:
    """A client of its own, since threads may not share a session. The block ends early at an expected answer."""
    if not uri.startswith("s3://"):
        raise ConfigError(f"{uri}: conditional writes are known for s3:// and local directories alone.")
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise ConfigError(f"{uri}: a registry on S3 needs boto3: pip install 'prefopt[s3]'.") from None
    try:
        yield boto3.session.Session().client("s3")
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in expected:
            raise StorageError(f"Cannot {verb} {key} in {uri}: {error}") from None
    except BotoCoreError as error:
        raise StorageError(f"Cannot {verb} {key} in {uri}: {error}") from None
