"""Runs on the workers: real detached processes on two folders, and the loop that restarts them."""

import json
import sys

import pytest

from tests.tpu_scripts.conftest import NAMES, wait_for

QUICK = ("--poll=0.1",)


@pytest.fixture
def slice_(cloud):
    """A slice after setup.sh."""
    cloud.install()
    return cloud


def _python(code: str) -> list[str]:
    """A command for the workers, which knows `home`, `worker` (number) and `tries` (of starts)."""
    head = (
        "import os, pathlib, signal, sys, time; home = pathlib.Path(os.environ['HOME']); "
        "worker = int(home.name); log = home.parents[1] / f'tries{worker}'; "
        "log.open('a').write('x'); tries = len(log.read_text())\n"
    )
    return ["--", sys.executable, "-S", "-c", head + code]


def _tries(cloud) -> list[int]:
    """How often each worker's command was started."""
    return [len((cloud.root / f"tries{i}").read_text()) for i in range(len(cloud.homes))]


def test_arguments_arrive_as_they_were_given(slice_):
    odd = [
        "a b",
        "it's",
        '"',
        "$HOME",
        "`x`",
        "*",
        "",
        "--flag",
        "two\nlines",
        "back\\slash",
        "ü;&|",
    ]
    code = "import json; print(json.dumps([os.getcwd(), os.environ['PATH'], *sys.argv[1:]]))"
    done = slice_.run("launch.sh", *NAMES, *QUICK, "--wait", *_python(code), *odd)
    assert done.returncode == 0, done.stderr
    for home in slice_.homes:
        line = (home / "clapjax_runs" / "train" / "log").read_text().splitlines()[-2]
        folder, path, *arguments = json.loads(line)
        assert arguments == odd
        assert folder == f"{home}/clapjax" and path.startswith(f"{home}/clapjax_env/bin:")


def test_a_run_is_detached_followed_and_stopped_with_sigterm(slice_):
    code = (
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(75)))\n"
        "print('step 1', flush=True); time.sleep(600)"
    )
    done = slice_.run("launch.sh", *NAMES, "--run=a", *_python(code))
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["clapjax-start new"] * 2
    again = slice_.run("launch.sh", *NAMES, "--run=a", *_python(code))
    assert again.returncode == 0 and again.stdout.splitlines() == ["clapjax-start running"] * 2
    other = slice_.run("launch.sh", *NAMES, "--run=a", "--", "true")
    assert other.returncode == 2 and "another command runs as a" in other.stderr
    assert slice_.run("stop.sh", *NAMES, "--run=a").returncode == 0
    logs = slice_.run("logs.sh", *NAMES, "--run=a", "--worker=1", "--no-follow", "--lines=3")
    assert [line.partition(": ")[2] for line in logs.stdout.splitlines()][:2] == ["step 1", "saved"]
    assert logs.stdout.splitlines()[2].endswith("exit status 75")
    assert _tries(slice_) == [1, 1]


def test_what_ignores_sigterm_is_killed(slice_):
    code = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); (home / 'ready').touch(); time.sleep(600)"
    )
    slice_.run("launch.sh", *NAMES, *_python(code))
    for home in slice_.homes:
        wait_for(home / "ready")
    assert slice_.run("stop.sh", *NAMES, "--grace=1").returncode == 0
    slice_.run("launch.sh", *NAMES, *QUICK, "--wait", *_python("pass"))  # nothing is in its way
    assert _tries(slice_) == [2, 2]


def test_a_start_that_gcloud_repeats_starts_once(slice_):
    slice_.replies({"on_worker.sh start": ["again"]})
    done = slice_.run("launch.sh", *NAMES, *QUICK, "--wait", *_python("pass"))
    assert done.returncode == 0 and done.stdout.splitlines() == ["clapjax-start new"] * 4
    assert _tries(slice_) == [1, 1]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("sys.exit(75)", 75),
        ("sys.exit(3 * worker)", 3),  # one fails, the other succeeds
        ("sys.exit(3 * worker) if worker else time.sleep(600)", 3),  # the other would hang
        ("sys.exit(75) if worker else time.sleep(600)", 75),
        ("sys.exit(75 - 65 * worker)", 10),  # an error is not hidden by "start me again"
        ("sys.exit(10 + 65 * worker)", 10),
        ("os.kill(os.getpid(), signal.SIGKILL) if worker else None", 137),
        # The worker vanishes with all of the run's processes, as in a reboot.
        ("os.killpg(0, signal.SIGKILL) if worker else None", 75),
        ("os.killpg(0, signal.SIGKILL) if worker else os.abort()", 75),  # so JAX ends the others
        ("os.kill(os.getpid(), signal.SIGKILL) if worker else os.abort()", 137),
        ("os.kill(os.getpid(), signal.SIGKILL) if worker else sys.exit(3)", 3),
        ("os.abort()", 134),
    ],
)
def test_one_worker_decides_for_all(slice_, code, status):
    grace = "--grace=0" if "sleep" in code else "--grace=300"
    done = slice_.run("launch.sh", *NAMES, "--poll=0.1", grace, "--wait", *_python(code))
    assert done.returncode == status
    assert ("start: " in done.stdout) == (status not in (0, 75))  # the logs of an error
    lost = status == 137 or "killpg" in code
    assert (" was lost: start again\n" in done.stderr) == (lost or "getpid" in code)
    slice_.run("launch.sh", *NAMES, *QUICK, "--wait", *_python("pass"))
    assert _tries(slice_) == [2, 2]  # the first run's processes had all ended


def test_the_others_get_time_to_end_by_themselves(slice_):
    code = "time.sleep(1 - worker); (home / 'end').touch(); sys.exit(75)"
    done = slice_.run("launch.sh", *NAMES, *QUICK, "--wait", *_python(code))
    assert done.returncode == 75 and "ended with: 75 75" in done.stderr
    assert all((home / "end").exists() for home in slice_.homes)


def test_a_start_that_fails_on_one_worker_is_taken_back(slice_):
    (slice_.homes[1] / "clapjax").rmdir()
    done = slice_.run("launch.sh", *NAMES, *_python("time.sleep(600)"))
    assert done.returncode == 2 and "no ~/clapjax; run setup.sh first" in done.stderr
    assert slice_.verbs() == ["start", "stop"]
    (slice_.homes[1] / "clapjax").mkdir()
    assert slice_.run("launch.sh", *NAMES, "--", "true").stdout.count("clapjax-start new") == 2


def test_a_run_left_on_some_workers_only_is_stopped(slice_):
    code = "time.sleep(600 * (worker or tries > 1))"
    slice_.run("launch.sh", *NAMES, *_python(code))
    wait_for(slice_.homes[0] / "clapjax_runs" / "train" / "status")
    done = slice_.run("launch.sh", *NAMES, *_python(code))
    assert done.returncode == 75 and "still running on some workers only" in done.stderr
    assert slice_.run("launch.sh", *NAMES, "--", "true").stdout.count("clapjax-start new") == 2


def test_workers_that_do_not_answer(slice_):
    slice_.replies({"on_worker.sh status": [[255, "no route"]] * 2})
    done = slice_.run("launch.sh", *NAMES, *QUICK, "--wait", *_python("pass"))
    assert done.returncode == 0 and "no answer from every worker (2 of 20): no route" in done.stderr
    slice_.replies({"on_worker.sh status": [[255, "no route"]] * 3})
    done = slice_.run("launch.sh", *NAMES, *QUICK, "--max-missed=2", "--wait", *_python("pass"))
    assert done.returncode == 69


# --- the loop -------------------------------------------------------------------------------


def _loop(cloud, *arguments):
    """restart.sh, quick."""
    kind = ("--type=t", "--runtime=r", "--source", cloud.source)
    return cloud.run("restart.sh", *NAMES, *kind, *QUICK, "--delay=0", *arguments)


def test_the_loop_creates_restarts_on_75_and_ends_with_success(cloud):
    cloud.replies({"describe": [[1, "ERROR: NOT_FOUND: Resource was not found"], [0, "ACTIVE"]]})
    done = _loop(cloud, "--spot", *_python("sys.exit(75 if tries < 3 else 0)"))
    assert done.returncode == 0, done.stderr
    assert _tries(cloud) == [3, 3]
    verbs = [verb for verb in cloud.verbs() if verb != "status"]
    made = ["describe", "create", "describe", "scp", "setup", "start"]
    assert verbs == [*made, *["describe", "ready", "start"] * 2]
    assert [call[-3:] for call in cloud.calls() if "create" in call] == [
        ["--accelerator-type=t", "--runtime-version=r", "--spot"]
    ]


REMAKE = ["delete", "create", "describe", "scp", "setup", "start"]


def test_the_loop_brings_a_slice_back_that_goes_away_during_a_run(slice_):
    states = ["ACTIVE", "SUSPENDING", "SUSPENDING", "SUSPENDED"]
    slice_.replies(
        {
            "describe": [[0, state] for state in states],
            "on_worker.sh status": [[255, "no route"]],
        }
    )
    done = _loop(slice_, *_python("time.sleep(600 * (tries == 1))"))
    assert done.returncode == 0, done.stderr
    assert _tries(slice_) == [2, 2]
    lost = ["describe", "ready", "start", "status", "describe"]
    verbs = slice_.verbs()
    expected = [*lost, "describe", "describe", *REMAKE]  # looks again until nothing moves
    assert verbs[: len(expected)] == expected and set(verbs[len(expected) :]) == {"status"}
    delete = next(call for call in slice_.calls() if "delete" in call)
    assert delete[4:] == ["pod", "--zone=z-1", "--force", "--quiet"]
    assert "create" not in verbs[: verbs.index("delete")]


def test_the_loop_brings_a_slice_back_that_went_away_before(slice_):
    slice_.replies({"describe": [[0, "SUSPENDED"]]})
    assert _loop(slice_, *_python("pass")).returncode == 0
    assert slice_.verbs()[:-1] == ["describe", *REMAKE] and _tries(slice_) == [1, 1]


def test_the_loop_waits_for_a_request_in_the_queue_and_sets_up_what_is_bare(cloud):
    cloud.replies({"describe": [[0, "WAITING_FOR_RESOURCES"], [0, "PROVISIONING"]]})
    assert _loop(cloud, *_python("pass")).returncode == 0
    assert cloud.verbs()[:6] == [*["describe"] * 3, "scp", "setup", "start"]
    for home in cloud.homes:
        (home / "clapjax_runs" / "ready").unlink()  # as where setup was interrupted
    (cloud.root / "calls.jsonl").unlink()
    assert _loop(cloud, *_python("pass")).returncode == 0
    assert cloud.verbs()[:5] == ["describe", "ready", "scp", "setup", "start"]


def test_the_loop_stops_at_a_real_error(slice_):
    done = _loop(slice_, *_python("print('boom'); sys.exit(4 * worker)"))
    assert done.returncode == 4 and _tries(slice_) == [1, 1]
    assert "boom" in done.stdout  # the end of the log
    assert [verb for verb in slice_.verbs() if verb != "status"] == [
        *("describe", "ready", "start", "log", "describe")  # the last: was it preempted? no
    ]


def test_an_error_because_the_slice_goes_away_is_a_preemption(slice_):
    states = ["ACTIVE", "SUSPENDING", "SUSPENDED", "ACTIVE"]
    slice_.replies({"describe": [[0, state] for state in states]})
    done = _loop(slice_, *_python("sys.exit(134 if tries == 1 else 0)"))
    assert done.returncode == 0, done.stderr
    assert _tries(slice_) == [2, 2] and slice_.verbs().count("create") == 1


def test_the_loop_starts_again_what_was_killed_beside_others_that_abort(slice_):
    code = "os.kill(os.getpid(), signal.SIGKILL) if worker else os.abort()"
    done = _loop(slice_, *_python(f"if tries < 4: {code}"))
    assert done.returncode == 0, done.stderr
    assert _tries(slice_) == [4, 4] and done.stderr.count(" was lost: start again\n") == 3


def test_the_loop_gives_up_where_it_is_killed_again_and_again(slice_):
    code = "os.kill(os.getpid(), signal.SIGKILL) if worker else os.abort()"
    done = _loop(slice_, "--max-killed=2", *_python(code))
    assert done.returncode == 137 and _tries(slice_) == [2, 2]
    assert "killed 2 times in a row soon after its start; does memory do?" in done.stderr


@pytest.mark.parametrize(("state", "status"), [("FAILED", 2), ("ACTIVE", 75)])
def test_the_loop_gives_up(slice_, state, status):
    slice_.replies({"describe": [[0, state]] * 9})
    done = _loop(slice_, "--max-restarts=2", *_python("sys.exit(75)"))
    assert done.returncode == status
    if state == "ACTIVE":
        assert _tries(slice_) == [3, 3] and "started again 2 times" in done.stderr
    else:
        assert "start" not in slice_.verbs() and "is FAILED" in done.stderr


def test_a_loop_started_anew_takes_up_the_run(slice_):
    code = "[time.sleep(0.05) for _ in range(600) if not (home / 'go').exists()]"
    slice_.run("launch.sh", *NAMES, *_python(code))
    for home in slice_.homes:
        wait_for(slice_.root / f"tries{home.name}")
    # Between two looks of the loop, which finds the run going, it comes to its end.
    slice_.program("sleep", f"touch {' '.join(f'{home}/go' for home in slice_.homes)}")
    assert _loop(slice_, *_python(code)).returncode == 0
    assert slice_.verbs().count("start") == 2 and _tries(slice_) == [1, 1]
