#!/usr/bin/env bash
# Copies this checkout to every worker and installs it there; again after a change, for new code.
#
#   setup.sh --name N --zone Z
#
#   --name, --zone, --project, --internal-ip, --slices, --dry-run   see create.sh
#   --bucket BUCKET   mount it as ~/bucket on every worker, now and before every start (or TPU_BUCKET):
#                     clapjax needs it not, which takes gs://BUCKET/... by name
#   --python VERSION  for the environment ~/clapjax_env (3.12, or TPU_PYTHON)
#   --source DIR      git checkout to copy, as it is now but for what git ignores (that of this script)
#   --archive FILE    a clapjax.tar.gz of an earlier state instead
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tpu_scripts/lib.sh
source "$HERE/lib.sh"

TPU_BUCKET=${TPU_BUCKET:-} TPU_PYTHON=${TPU_PYTHON:-3.12} SOURCE=${HERE%/*} ARCHIVE=""
parse_flags "--bucket=TPU_BUCKET --python=TPU_PYTHON --source=SOURCE --archive=ARCHIVE" "$@"
need TPU_NAME TPU_ZONE
((!${#REST[@]})) || die "unknown argument ${REST[0]}"

if [[ ! $ARCHIVE ]]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  ARCHIVE=$scratch/clapjax.tar.gz
  pack "$SOURCE" "$ARCHIVE"
fi
run "${REACH[@]}" scp "$ARCHIVE" "$HERE/on_worker.sh" "$TPU_NAME:" "${PLACE[@]}" \
  ${TPU_INTERNAL_IP:+--internal-ip} ${NODES[@]+"${NODES[@]}"} --worker=all
on_workers all bash on_worker.sh setup "$TPU_PYTHON" "${TPU_BUCKET#gs://}"
