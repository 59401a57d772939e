"""What the clients of buckets raise, in one kind and one line."""

import contextlib
from collections.abc import Collection, Iterator

# Packages, with a dot, whose errors are of a bucket or of the way there; and kinds of the latter.
CLIENTS = ("gcsfs.", "s3fs.", "fsspec.", "aiohttp.", "aiobotocore.", "botocore.", "google.auth.")
UNREACHED = (
    *("ClientConnectionError", "ClientPayloadError", "ConnectionError", "HTTPClientError"),
    *("ProxyError", "TimeoutError", "TransportError"),
)


class BucketError(OSError):
    """What a bucket answers instead of what it is asked for, in one line.

    `passes`: whether it may be another time, as where it is out of order or cannot be reached.
    """

    passes = False


@contextlib.contextmanager
def telling_of(places: Collection[str]) -> Iterator[None]:
    """Within it what a client of buckets raises becomes a BucketError that names `places`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, FileNotFoundError | FileExistsError) or not _is_of_client(error):
            raise
        answer = error.__cause__ if hasattr(error.__cause__, "response") else error  # of s3fs
        said = " ".join(str(answer).split()) or type(answer).__name__
        passes = _passes(answer)
        do = (
            "it is out of order, or cannot be reached from here; try again later"
            if passes
            else "see that it is named rightly, and that these credentials may read and write there"
        )
        found = BucketError(f"{', '.join(places) or 'a bucket'}: {said[:300]}; {do}")
        found.passes = passes
        raise found from error


def _is_of_client(error: Exception) -> bool:
    """Whether a client of buckets raised it: a kind of its own, or another one in its code."""
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    modules = type(error).__module__, place.tb_frame.f_globals.get("__name__", "")
    return any(f"{module}.".startswith(CLIENTS) for module in modules)


def _passes(error: Exception) -> bool:
    """Whether the same request may be answered later."""
    answer = getattr(error, "response", None)  # of botocore, which has a dict
    told = answer.get("ResponseMetadata", {}) if isinstance(answer, dict) else {}
    code = told.get("HTTPStatusCode") or getattr(error, "code", None)
    if isinstance(code, int):
        return code >= 500 or code in (408, 429)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return not kinds.isdisjoint(UNREACHED)
