"""A folder as a bucket s3://bucket that takes its time to answer: to read, and no more.

    python -m benchmarks.slow_bucket FOLDER [--delay 0.06]

Prints the address that it answers at; AWS_ENDPOINT_URL points clients there (`environment`).
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

BUCKET = "bucket"


@contextlib.contextmanager
def slow_bucket(folder: Path, delay: float) -> Iterator[dict[str, str]]:
    """The environment in which s3://bucket is a folder, whose server takes `delay` s an answer."""
    command = [sys.executable, "-m", "benchmarks.slow_bucket", str(folder), "--delay", str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "reader",
            "AWS_SECRET_ACCESS_KEY": "reader",
            "AWS_DEFAULT_REGION": "us-east-1",
            "EPATH_USE_TF": "false",  # TensorFlow's own client knows no s3://
        }
    finally:
        process.terminate()
        process.wait()


def _listing(root: Path, prefix: str, delimiter: str) -> str:
    """S3's ListObjectsV2."""
    keys, folders = [], set()
    for file in sorted(root.rglob("*")):
        key = file.relative_to(root).as_posix()
        if not file.is_file() or not key.startswith(prefix):
            continue
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if found:
            folders.add(prefix + head + delimiter)
        else:
            keys.append((key, file.stat().st_size))
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>&quot;1&quot;</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key, size in keys
    )
    commons = "".join(
        f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        for name in sorted(folders)
    )
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>"
        f"<KeyCount>{len(keys) + len(folders)}</KeyCount>{contents}{commons}</ListBucketResult>"
    )


async def serve(root: Path, delay: float) -> None:
    """Answers until it is ended."""
    from aiohttp import web

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(delay)
        bucket, _, key = request.path.lstrip("/").partition("/")
        file = root / key
        if bucket == BUCKET and key and file.is_file():
            return web.FileResponse(file)  # ranges too
        if bucket == BUCKET and not key and "list-type" in request.query:
            query = request.query
            text = _listing(root, query.get("prefix", ""), query.get("delimiter", ""))
            return web.Response(text=text, content_type="application/xml")
        return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serves a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay", type=float, default=0.06, help="s before each answer")
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(args.folder.resolve(), args.delay))


if __name__ == "__main__":
    main()
