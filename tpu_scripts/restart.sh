#!/usr/bin/env bash
# Keeps a run going: creates and sets up the slice where there is none, starts the command on every
# worker, and does so again after every preemption, where a worker was lost or its command killed, and
# whenever the command exits with 75 (EX_TEMPFAIL, "start me again"). Ends when the command succeeds or
# fails for another reason.
# Run it where it can stay, e.g. in tmux; if it ends, the same call takes up the same run. The code
# is that of when it was called, after every preemption.
#
#   restart.sh --name N --zone Z --type v5litepod-256 --runtime v2-alpha-tpuv5-lite --spot \
#     -- clapjax train --config configs/laion_clap.py --data_dir gs://my-bucket/records \
#     --workdir gs://my-bucket/runs/laion
#
#   --name, --zone, --project, --internal-ip, --slices, --dry-run, --type, --runtime, --spot   see create.sh
#   --bucket, --python, --source                                                     see setup.sh
#   --run, --poll, --grace, --max-missed                                             see launch.sh
#   --max-restarts N  (1000)
#   --max-killed N    give up where the command is killed so often in a row within ten minutes of its
#                     start, as where memory does not do (5)
#   --delay SECONDS   between two starts (30)
#
# Exit status: 0 or the failed command's; 75 where --max-restarts was reached; 137 where --max-killed was.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tpu_scripts/lib.sh
source "$HERE/lib.sh"

export TPU_TYPE="${TPU_TYPE:-}" TPU_RUNTIME="${TPU_RUNTIME:-}" TPU_SPOT="${TPU_SPOT:-}"
export TPU_BUCKET="${TPU_BUCKET:-}" TPU_PYTHON="${TPU_PYTHON:-3.12}"
RUN=train POLL=30 GRACE=300 MAX_MISSED=20 MAX_RESTARTS=1000 MAX_KILLED=5 DELAY=30 SOURCE=${HERE%/*}
parse_flags "--type=TPU_TYPE --runtime=TPU_RUNTIME --spot!TPU_SPOT --bucket=TPU_BUCKET
  --python=TPU_PYTHON --source=SOURCE --run=RUN --poll=POLL --grace=GRACE --max-missed=MAX_MISSED
  --max-restarts=MAX_RESTARTS --max-killed=MAX_KILLED --delay=DELAY" "$@"
need TPU_NAME TPU_ZONE TPU_TYPE TPU_RUNTIME
((${#REST[@]})) || die "no command given; see restart.sh --help"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
pack "$SOURCE" "$scratch/clapjax.tar.gz"

# Brings the slice to life where it is not; the other scripts read the names from the environment.
make_ready() {
  local state=GONE # what a dry run shows
  [[ $DRY_RUN ]] || state=$(queue_state)
  case $state in
    ACTIVE) ! on_workers all test -f clapjax_runs/ready </dev/null || return 0 ;; # set up already
    UNKNOWN | SUSPENDING | DELETING) return "$EX_TEMPFAIL" ;; # look again later
    FAILED) die "the queued resource $TPU_NAME is FAILED; describe it with gcloud, then delete.sh" ;;
    SUSPENDED)
      say "$TPU_NAME is SUSPENDED: deleting it and asking again"
      "$HERE/delete.sh" --yes || return
      "$HERE/create.sh" --poll "$POLL" || return
      ;;
    GONE) "$HERE/create.sh" --poll "$POLL" || return ;;
    *) wait_until_active "$POLL" || return ;;
  esac
  "$HERE/setup.sh" --archive "$scratch/clapjax.tar.gz"
}

attempt() {
  make_ready || return
  "$HERE/launch.sh" --wait --run "$RUN" --poll "$POLL" --grace "$GRACE" --max-missed "$MAX_MISSED" \
    -- "${REST[@]}"
}

killed=0
for ((restarts = 0; ; restarts++)); do
  status=0 began=$SECONDS
  attempt || status=$?
  if ((status == 137)); then
    killed=$((SECONDS - began < 600 ? killed + 1 : 1))
    ((killed >= MAX_KILLED)) || status=$EX_TEMPFAIL
  else
    killed=0
  fi
  # What looks like an error may be the first sign that the slice goes away.
  if ((status != 0 && status != EX_TEMPFAIL)); then
    sleep "$POLL"
    ! preempted || status=$EX_TEMPFAIL
  fi
  ((status == EX_TEMPFAIL)) || break
  if ((restarts >= MAX_RESTARTS)); then
    say "started again $restarts times; that is enough"
    break
  fi
  say "starting again in $DELAY s (restart $((restarts + 1)))"
  sleep "$DELAY"
done
((status != 137)) || say "killed $killed times in a row soon after its start; does memory do?"
exit "$status"
