#!/usr/bin/env bash
# Trains on the GPUs of a SLURM cluster: one process per node (or per GPU), requeued on exit status
# 75 (EX_TEMPFAIL, "start me again"). Three minutes before the time limit, and when the job is
# preempted, every process gets SIGTERM: training saves a checkpoint and exits with 75. Where a process
# was killed (137), of which JAX aborts the others (134), the job is requeued as well.
#
#   sbatch --nodes 4 --gpus-per-node 8 --cpus-per-task 64 --time 12:00:00 \
#     tpu_scripts/slurm_train.sh clapjax train --config configs/laion_clap.py ...
#
# One process per GPU: add --ntasks-per-node 8 (and divide --cpus-per-task). Every node must see the
# same folders. To end a job for good: scontrol update JobId=N Requeue=0, then scancel N.
#
#   --max-restarts N  (100)
#   --grace SECONDS   where one process has ended, time for the others (300)
#   --dry-run         print the srun command only
#   --help
#SBATCH --job-name=clapjax
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@180
set -euo pipefail

# SLURM runs a copy of this file from a folder of its own, so that it can share nothing with lib.sh.
say() { printf 'slurm_train.sh: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 2
}

MAX_RESTARTS=100 GRACE=300 DRY_RUN=""
while [[ ${1:-} == -* ]]; do
  case $1 in
    --help | -h) sed -n '2,/^#SBATCH/{/^#SBATCH/!s/^# \{0,1\}//p;}' "$0" && exit 0 ;;
    --dry-run) DRY_RUN=1 ;;
    --max-restarts) MAX_RESTARTS=${2:-} && shift ;;
    --grace) GRACE=${2:-} && shift ;;
    --) shift && break ;;
    *) die "unknown flag $1; see slurm_train.sh --help" ;;
  esac
  shift || die "the last flag needs a value"
done
(($#)) || die "no command given; see slurm_train.sh --help"
[[ ${SLURM_JOB_ID:-} || $DRY_RUN ]] || die "not in a SLURM job; submit it with sbatch"

# What each process runs. JAX takes the GPU of the process's number on the node unless it is told
# otherwise, also where the process has the node for itself. srun returns the highest status of all
# processes; a real error becomes one above 75, not to be hidden by another's 75.
# shellcheck disable=SC2016
TASK='
trap : TERM
IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES-$(nvidia-smi --list-gpus | sed "s/.*/gpu/" | paste -sd, -)}"
if ((${#gpus[@]} == 0)); then
  echo "slurm_train.sh: process $SLURM_PROCID sees no GPU; ask sbatch for --gpus-per-node" >&2
  exit 78
elif ((SLURM_NTASKS > SLURM_JOB_NUM_NODES)); then
  ids=$((${#gpus[@]} == 1 ? 0 : SLURM_LOCALID))
else
  ids=$(seq -s, 0 $((${#gpus[@]} - 1)))
fi
export JAX_LOCAL_DEVICE_IDS=${JAX_LOCAL_DEVICE_IDS:-$ids}
status=0
"$@" || status=$?
((status == 0)) || echo "slurm_train.sh: process $SLURM_PROCID exit status $status" >&2
((status == 0 || status >= 75)) || status=76
exit $status'

step=(srun --kill-on-bad-exit=0 "--wait=$GRACE" --gpu-bind=none
  ${SLURM_CPUS_PER_TASK:+"--cpus-per-task=$SLURM_CPUS_PER_TASK"} # srun does not take it from sbatch
  bash -c "$TASK" clapjax "$@")
if [[ $DRY_RUN ]]; then
  printf '%q ' "${step[@]}" && echo
  exit 0
fi

"${step[@]}" &
srun_pid=$!
# srun hands the signal to all its processes.
trap 'signalled=1; say "SIGTERM: asking every process to save"; kill -TERM "$srun_pid" || true' TERM
signalled=1
while [[ $signalled ]]; do # a signal ends `wait` before srun has ended
  signalled="" status=0
  wait "$srun_pid" || status=$?
done
trap '' TERM
say "exit status $status"
if ((status == 137)); then
  say "a process was killed; it may have run out of memory"
fi
if ((status == 75 || status == 137)); then
  if ((${SLURM_RESTART_COUNT:-0} >= MAX_RESTARTS)); then
    say "started again ${SLURM_RESTART_COUNT} times; that is enough"
  else
    scontrol requeue "$SLURM_JOB_ID" || say "not requeued; the same sbatch command resumes"
  fi
fi
exit "$status"
