"""Servers of buckets on this machine: gcp-storage-emulator for gs://, moto for s3://.

    python -m benchmarks.bucket_server gs      # or s3; needs requirements-test.txt

prints the environment by which a command in another shell finds gs://bucket (s3://bucket), which
is in memory and lives until Ctrl-C.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

BUCKET = "bucket"
PACKAGE = os.fspath(Path(__file__).resolve().parents[1])
PATIENCE = 60  # seconds for a server to come
# Credentials that say that they are none.
S3 = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
GS = {"GOOGLE_AUTH_TOKEN_FOR_TESTING": "test"}


@contextlib.contextmanager
def bucket_server(kind: str) -> Iterator[dict[str, str]]:
    """A server with an empty bucket, `kind`://bucket, that is gone afterwards.

    Args:
      kind: "gs" or "s3".

    Yields:
      The environment by which clients find it: gcsfs, google-cloud-storage and TensorStore; s3fs,
      boto and (through `clapjax.training.orbax_s3`) TensorStore. TensorFlow's own file systems
      cannot be pointed at it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    if kind == "gs":
        command = ["benchmarks.bucket_server", "gs", "--port", str(port)]
        environment = GS | {"STORAGE_EMULATOR_HOST": url, "TENSORSTORE_GCS_HTTP_URL": url}
    else:
        command = ["moto.server", "-H", "127.0.0.1", "-p", str(port)]
        environment = S3 | {"AWS_ENDPOINT_URL": url}
    server = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=os.environ | environment | {"PYTHONPATH": PACKAGE},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(server, port)
        if kind == "s3":
            make = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
            urllib.request.urlopen(make, timeout=PATIENCE).close()
        yield environment
    finally:
        server.kill()
        server.wait()


def _wait_for(server: subprocess.Popen, port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(
                "the bucket server has not come; is requirements-test.txt installed?"
            )
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)


def serve_gs(port: int) -> None:
    """gcp-storage-emulator, with a header of Google's that it leaves out and TensorStore reads."""
    from gcp_storage_emulator.handlers import objects
    from gcp_storage_emulator.server import create_server

    original = objects.download

    def download(request, response, storage, *args, **kwargs) -> None:
        original(request, response, storage, *args, **kwargs)
        if response.status.value < 300:
            named = request.params["bucket_name"], request.params["object_id"]
            response["X-Goog-Generation"] = storage.get_file_obj(*named)["generation"]

    objects.download = download
    create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET).run()


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("gs", "s3"))
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.port is not None:
        serve_gs(args.port)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server ends with it
    with bucket_server(args.kind) as environment, contextlib.suppress(KeyboardInterrupt):
        for name, value in environment.items():
            print(f"export {name}={value}")
        print(f"# {args.kind}://{BUCKET} is there until Ctrl-C", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
