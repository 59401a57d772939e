"""Creating, setting up, copying, deleting: the exact commands, and what the workers get."""

import subprocess

from tests.tpu_scripts.conftest import NAMES, PLACE

QUEUED = ("compute", "tpus", "queued-resources")
DESCRIBE = [*QUEUED, "describe", *PLACE, "--format=value(state.state)"]
KIND = ("--type=v5litepod-16", "--runtime=v2-alpha-tpuv5-lite")
CREATE = [
    *(*QUEUED, "create", *PLACE, "--node-id=pod"),
    *("--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"),
]


def test_create_waits_until_the_slice_is_active(cloud):
    states = [
        "ACCEPTED",
        "WAITING_FOR_RESOURCES",
        "WAITING_FOR_RESOURCES",
        "PROVISIONING",
        "ACTIVE",
    ]
    unknown = [1, "ERROR: (gcloud) UNAVAILABLE: try later"]
    cloud.replies({"describe": [[0, states[0]], unknown, *([0, state] for state in states[1:])]})
    done = cloud.run("create.sh", *NAMES, *KIND, "--spot", "--poll=0.01", "--", "--labels=a=b c")
    assert done.returncode == 0, done.stderr
    assert cloud.calls() == [[*CREATE, "--spot", "--labels=a=b c"], *[DESCRIBE] * 6]
    assert done.stderr.splitlines() == [
        "create.sh: pod is ACCEPTED",
        "create.sh: ERROR: (gcloud) UNAVAILABLE: try later",
        "create.sh: pod is UNKNOWN",
        "create.sh: pod is WAITING_FOR_RESOURCES",
        "create.sh: pod is PROVISIONING",
        "create.sh: pod is ACTIVE",
    ]


def test_create_without_spot_and_without_waiting(cloud):
    assert cloud.run("create.sh", *NAMES, *KIND, "--no-wait", "--project=p").returncode == 0
    place = CREATE.index("--zone=z-1") + 1
    assert cloud.calls() == [[*CREATE[:place], "--project=p", *CREATE[place:]]]


def test_several_slices_are_the_nodes_of_one_queued_resource(cloud):
    slices = "--slices=2"
    assert cloud.run("create.sh", *NAMES, *KIND, slices, "--no-wait").returncode == 0
    done = cloud.run("setup.sh", *NAMES, slices, "--source", cloud.source)
    assert done.returncode == 0, done.stderr
    done = cloud.run("launch.sh", *NAMES, slices, "--wait", "--poll=0.1", "true")
    assert done.returncode == 0, done.stderr
    create, scp, *ssh = cloud.calls()
    node = CREATE.index("--node-id=pod")
    expected = ["--node-prefix=pod", "--node-count=2"]
    assert create == [*CREATE[:node], *expected, *CREATE[node + 1 :]]
    assert scp[:4] == [*QUEUED, "scp"]
    assert scp[6:] == ["pod:", "--zone=z-1", "--node=all", "--worker=all"]
    for call in ssh:
        assert call[:-1] == [*QUEUED, "ssh", *PLACE, "--node=all", "--worker=all"]
    bad = cloud.run("stop.sh", *NAMES, "--slices=0")
    assert bad.returncode == 2 and "--slices (or TPU_SLICES) is a number from 1" in bad.stderr


def test_create_tells_failure_from_preemption(cloud):
    for state, status in {"FAILED": 1, "SUSPENDED": 75}.items():
        cloud.replies({"describe": [[0, state]]})
        assert cloud.run("create.sh", *NAMES, *KIND).returncode == status
    cloud.replies({"create": [[4, "quota"]]})
    assert cloud.run("create.sh", *NAMES, *KIND).returncode == 4  # and does not wait


def test_setup_puts_the_checkout_on_every_worker_and_installs_it(cloud):
    source = cloud.root / "a checkout"
    subprocess.run(["git", "init", "--quiet", source], check=True)
    (source / "configs").mkdir()
    (source / "deleted").touch()
    (source / ".gitignore").write_text("*.log\n")
    (source / "configs" / "it's new.py").write_text("old")
    subprocess.run(["git", "-C", source, "add", "."], check=True)
    (source / "deleted").unlink()
    (source / "configs" / "it's new.py").write_text("changed")
    (source / "untracked").write_text("also")
    (source / "big.log").write_text("not this")
    (cloud.homes[0] / "clapjax").mkdir()
    (cloud.homes[0] / "clapjax" / "stale.py").touch()

    done = cloud.run("setup.sh", *NAMES, "--bucket=gs://b", "--python=3.13", "--source", source)
    assert done.returncode == 0, done.stderr
    scp, ssh = cloud.calls()
    assert scp[:3] == ["compute", "tpus", "tpu-vm"] and scp[3] == "scp"
    assert scp[6:] == ["pod:", "--zone=z-1", "--worker=all"]
    assert ssh[-1] == "--command=bash on_worker.sh setup 3.13 b"
    installs, mounts = [], []
    for home in cloud.homes:
        copied = {str(f.relative_to(home / "clapjax")) for f in (home / "clapjax").rglob("*")}
        assert copied == {".gitignore", "configs", "configs/it's new.py", "untracked"}
        assert (home / "clapjax" / "configs" / "it's new.py").read_text() == "changed"
        env = f"{home}/clapjax_env"
        installs.append(["venv", "--quiet", "--python", "3.13", env])
        python, wanted = f"{env}/bin/python", f"{home}/clapjax[tpu,train,buckets]"
        installs.append(["pip", "install", "--quiet", "--python", python, wanted])
        mounts.append(["b", f"{home}/bucket"])
    assert cloud.calls("uv") == installs
    assert [call[-2:] for call in cloud.calls("gcsfuse")] == mounts

    # Started later, e.g. after a reboot, the bucket is mounted again; a second setup keeps the env.
    cloud.run("launch.sh", *NAMES, "true")
    assert [call[-2:] for call in cloud.calls("gcsfuse")] == mounts * 2
    assert cloud.run("setup.sh", *NAMES, "--source", source).returncode == 0
    assert [call[0] for call in cloud.calls("uv")] == ["venv", "pip"] * 2 + ["pip"] * 2
    cloud.run("launch.sh", *NAMES, "--run=other", "true")
    assert len(cloud.calls("gcsfuse")) == 4  # no bucket any more


def test_setup_fails_where_one_worker_does(cloud):
    cloud.replies({f"clapjax_env/bin/python {cloud.homes[0]}": [[9, "no such version"]]})
    done = cloud.run("setup.sh", *NAMES, "--source", cloud.source)
    assert done.returncode == 9 and "no such version" in done.stderr
    assert done.stdout.count("clapjax-setup") == 1  # the other one


def test_copy_here_and_on_the_workers(cloud):
    rsync = ["storage", "rsync", "--recursive", r"--exclude=.*\.orbax-checkpoint-tmp.*"]
    assert cloud.run("copy.sh", "a b", "gs://b/records").returncode == 0
    back = cloud.root / "new" / "folder"
    assert cloud.run("copy.sh", "--delete", "gs://b/runs", back).returncode == 0
    assert back.is_dir()
    assert cloud.run("copy.sh", *NAMES, "--worker=all", "gs://b/r", "it's/r").returncode == 0
    ssh = ["compute", "tpus", "tpu-vm", "ssh", *PLACE, "--worker=all"]
    calls = cloud.calls()
    assert calls[:4] == [
        [*rsync, "a b", "gs://b/records"],
        [*rsync, "--delete-unmatched-destination-objects", "gs://b/runs", str(back)],
        [*ssh, r"--command=mkdir -p -- 'it'\''s/r'"],
        [
            *ssh,
            r"--command=gcloud storage rsync --recursive '--exclude=.*\.orbax-checkpoint-tmp.*' "
            r"gs://b/r 'it'\''s/r'",
        ],
    ]
    assert calls[4:] == [[*rsync, "gs://b/r", "it's/r"]] * 2  # what the two workers ran
    assert all((home / "it's" / "r").is_dir() for home in cloud.homes)
    cloud.replies({"rsync": [[6, "denied"]]})
    assert cloud.run("copy.sh", "a", "gs://b").returncode == 6


def test_delete(cloud):
    assert cloud.run("delete.sh", *NAMES).returncode == 0
    assert cloud.run("delete.sh", *NAMES, "--yes").returncode == 0
    delete = [*QUEUED, "delete", *PLACE, "--force"]
    assert cloud.calls() == [delete, [*delete, "--quiet"]]
