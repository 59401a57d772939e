#!/usr/bin/env bash
# Starts a command on every worker, detached: it outlives the connection. jax.distributed finds the
# other workers by itself. The command runs in ~/clapjax with ~/clapjax_env first on the PATH.
#
#   launch.sh --name N --zone Z -- clapjax train --config configs/laion_clap.py \
#     --data_dir gs://my-bucket/records --workdir gs://my-bucket/runs/laion
#
#   --name, --zone, --project, --internal-ip, --slices, --dry-run   see create.sh
#   --run RUN           name of the run; its log is ~/clapjax_runs/RUN/log on each worker (train)
#   --wait              stay until it has ended on every worker
#   --poll SECONDS      how often to look (30)
#   --grace SECONDS     where one worker failed, time for the others to end before they are stopped (300)
#   --max-missed POLLS  give up where the workers do not answer that often in a row (20)
#
# Exit status with --wait: 0 every worker ended with 0; 75 start it again (preempted, or a worker
# exited with 75 or vanished, and none with an error other than the abort by which JAX ends a worker
# whose peer is gone); 137 the same, but a worker's command was killed; 69 no answer; else a failed
# worker's.
set -euo pipefail
# shellcheck source=tpu_scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

RUN=train WAIT="" POLL=30 GRACE=300 MAX_MISSED=20
parse_flags "--run=RUN --wait!WAIT --poll=POLL --grace=GRACE --max-missed=MAX_MISSED" "$@"
need TPU_NAME TPU_ZONE
((${#REST[@]})) || die "no command given; see launch.sh --help"

# stop_all [TOKEN]: on every worker that can be reached, what the start with this token started.
stop_all() { on_workers all bash on_worker.sh stop "$RUN" 60 "$@" </dev/null || say "not every worker stopped"; }

# verdict STATUS...: one exit status for all workers; an error that is no "start me again" wins. An
# abort (134) is JAX's, of a worker whose peer is gone, where another one was lost or killed (137).
verdict() {
  local status again=0 killed=0 aborted=0
  for status in "$@"; do
    case $status in
      running | 0) ;;
      lost | "$EX_TEMPFAIL") again=$EX_TEMPFAIL ;;
      137) killed=137 ;;
      134) aborted=134 ;;
      *) echo "$status" && return ;;
    esac
  done
  if ((killed)); then echo "$killed"; elif ((again)); then echo "$again"; else echo "$aborted"; fi
}

wait_for_run() {
  local answer statuses result missed=0 failed_at=""
  while sleep "$POLL"; do
    if ! answer=$(on_workers all bash on_worker.sh status "$RUN" 2>&1 </dev/null); then
      ! preempted || return "$EX_TEMPFAIL"
      missed=$((missed + 1))
      say "no answer from every worker ($missed of $MAX_MISSED): ${answer##*$'\n'}"
      ((missed < MAX_MISSED)) || return 69
      continue
    fi
    missed=0
    statuses=$(sed -n 's/^clapjax-status //p' <<<"$answer")
    # shellcheck disable=SC2086 # one word per worker
    result=$(verdict $statuses)
    [[ $statuses == *running* ]] || break
    if ((result)); then
      failed_at=${failed_at:-$SECONDS}
      ((SECONDS - failed_at < GRACE)) || { stop_all && break; }
    fi
  done
  say "workers ended with: ${statuses//$'\n'/ }"
  while read -r host; do
    [[ ! $host ]] || say "$host was lost: start again"
  done < <(sed -n 's/^clapjax-lost //p' <<<"$answer")
  return "$result"
}

token=$(date +%s).$$
status=0
answer=$(on_workers all bash on_worker.sh start "$RUN" "$token" "${REST[@]}") || status=$?
printf '%s\n' "$answer"
[[ ! $DRY_RUN ]] || exit 0
if ((status)); then
  say "did not start on every worker (status $status); stopping it where it did"
  stop_all "$token"
  exit "$status"
fi
if [[ $answer == *"clapjax-start new"* && $answer == *"clapjax-start running"* ]]; then
  say "was still running on some workers only; stopped it on all"
  stop_all
  exit "$EX_TEMPFAIL"
fi
[[ $WAIT ]] || exit 0
wait_for_run || status=$?
if ((status != 0 && status != EX_TEMPFAIL && status != 69)); then
  on_workers all bash on_worker.sh log "$RUN" 20 </dev/null || say "no log from every worker"
fi
exit "$status"
