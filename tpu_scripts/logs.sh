#!/usr/bin/env bash
# Follows a run's log; every line is headed by the worker's host name.
#
#   logs.sh --name N --zone Z --worker all
#
#   --name, --zone, --project, --internal-ip, --slices, --dry-run   see create.sh
#   --run RUN      name of the run (train)
#   --worker W     number of a worker, or all (0)
#   --lines LINES  how many of the last lines to begin with (50)
#   --no-follow    do not wait for more
set -euo pipefail
# shellcheck source=tpu_scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

RUN=train WORKER=0 TAIL=50 NO_FOLLOW=""
parse_flags "--run=RUN --worker=WORKER --lines=TAIL --no-follow!NO_FOLLOW" "$@"
need TPU_NAME TPU_ZONE
((!${#REST[@]})) || die "unknown argument ${REST[0]}"

follow=(follow)
[[ ! $NO_FOLLOW ]] || follow=()
on_workers "$WORKER" bash on_worker.sh log "$RUN" "$TAIL" ${follow[@]+"${follow[@]}"}
