"""Lets Orbax keep checkpoints in S3, which of buckets knows Google's alone.

TensorStore has a driver for S3, and Orbax's way for buckets (objects at their place, and one more
when all are there) suits it; only what Orbax takes for a bucket has to be told.
"""

import functools
import os

from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

S3 = "s3://"
REGION = "us-east-1"  # where none is named; a server that is not Amazon's has none


@functools.cache
def set_up() -> None:
    """Lets TensorStore write and read below s3:// in all of this process; once."""
    original = gcs_utils.get_kvstore_for_gcs

    def store(place: str) -> dict:
        return s3_store(place) if str(place).startswith(S3) else original(place)

    def in_bucket(folder: str) -> bool:
        return folder.startswith(("gs://", S3))

    def normal(path: str) -> str:
        scheme, _, place = path.rpartition("://")
        return f"{scheme}://{os.path.normpath(place)}" if scheme else os.path.normpath(path)

    gcs_utils._GCS_PATH_PREFIX = ("gs://", S3)  # of what it takes for a bucket
    gcs_utils.get_kvstore_for_gcs = store
    tensorstore_utils._use_gcs_driver = in_bucket
    tensorstore_utils._normalize_path = normal


def s3_store(place: str) -> dict:
    """TensorStore's name for a place in S3: that of AWS_ENDPOINT_URL and AWS_REGION, as boto's."""
    bucket, _, path = place.removeprefix(S3).partition("/")
    store = {"driver": "s3", "bucket": bucket, "path": path}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or REGION
        store |= {"endpoint": endpoint, "aws_region": region}
    if "AWS_ACCESS_KEY_ID" in os.environ:  # else it complains of files that are not there
        store["aws_credentials"] = {"type": "environment"}
    return store
