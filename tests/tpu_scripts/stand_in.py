"""Stands in for gcloud (and for what a worker calls) on a test's PATH: records, plays back, acts.

Every call is a line of $STAND_IN/calls.jsonl: [name, argument, ...]. A reply for it is taken from
$STAND_IN/replies.json, {part of the command line: [[exit status, output], ...]}, first come first
served; "again" does the usual twice, as gcloud does where it lost a connection.
The usual: a slice whose workers' homes are the folders $STAND_IN/workers/*. Standard library only.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ.get("STAND_IN", "."))


def main(name: str, *arguments: str) -> int:
    """Answers one call; returns its exit status."""
    with open(ROOT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(ROOT / "calls.jsonl", "a") as file:
            print(json.dumps([name, *arguments]), file=file)
        reply = take_reply(" ".join([name, *arguments]))
    if isinstance(reply, list):
        print(reply[1], file=sys.stderr if reply[0] else sys.stdout)
        return reply[0]
    usual = {"gcloud": gcloud, "uv": uv, "mountpoint": lambda *_: 1}.get(name, lambda *_: 0)
    statuses = [usual(*arguments) for _ in range(2 if reply == "again" else 1)]
    return statuses[-1]


def take_reply(line: str):
    """The next reply to a command line, or None."""
    file = ROOT / "replies.json"
    replies = json.loads(file.read_text())
    for part, queue in replies.items():
        if part in line and queue:
            reply = queue.pop(0)
            file.write_text(json.dumps(replies))
            return reply
    return None


def gcloud(*arguments: str) -> int:
    """ssh and scp reach the workers, describe says ACTIVE, delete takes the workers away."""
    homes = sorted((ROOT / "workers").iterdir())
    if "describe" in arguments:
        print("ACTIVE")
    elif "scp" in arguments:
        first = arguments.index("scp") + 1
        last = next(i for i, item in enumerate(arguments) if item.endswith(":"))
        for home in homes:
            for source in arguments[first:last]:
                shutil.copy(source, home)
    elif "ssh" in arguments:
        flags = dict(
            item.split("=", 1) for item in arguments if item.startswith("--") and "=" in item
        )
        chosen = homes if flags["--worker"] == "all" else [homes[int(flags["--worker"])]]
        statuses = [over_ssh(home, flags["--command"]) for home in chosen]
        return next(filter(None, statuses), 0)  # the first failure, as gcloud does
    elif "delete" in arguments:
        for home in homes:
            end_processes(home)
            shutil.rmtree(home)
            home.mkdir()
    return 0


def over_ssh(home: Path, command: str) -> int:
    """A shell in a worker's home."""
    env = os.environ | {"HOME": str(home)}
    return subprocess.run(["bash", "-c", command], cwd=home, env=env).returncode


def end_processes(home: Path) -> None:
    """Kills the runs of a worker."""
    for file in home.glob("clapjax_runs/*/pid"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(file.read_text()), signal.SIGKILL)


def uv(verb: str, *arguments: str) -> int:
    """`uv venv ... FOLDER` makes an environment."""
    if verb == "venv":
        python = Path(arguments[-1]) / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
