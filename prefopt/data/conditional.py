"""Writes to an object store that succeed only if nothing is there: what pyarrow's file systems cannot do."""

from prefopt.errors import ConfigError, StorageError

_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


def put_if_absent(uri: str, target: str, data: bytes) -> bool:
    """Put an object (bucket/key) unless it is there; whether it was put.

    Credentials and endpoint come from the environment, as for all s3:// places. Raises ConfigError for a store that is
    not S3, or without boto3; StorageError if the store refuses.
    """
    if not uri.startswith("s3://"):
        raise ConfigError(f"{uri}: conditional writes are known for s3:// and local directories alone.")
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise ConfigError(f"{uri}: a registry on S3 needs boto3: pip install 'prefopt[s3]'.") from None
    bucket, _, key = target.partition("/")
    try:
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _TAKEN:
            return False
        raise StorageError(f"Cannot write {key} in {uri}: {error}") from None
    except BotoCoreError as error:
        raise StorageError(f"Cannot write {key} in {uri}: {error}") from None
    return True
