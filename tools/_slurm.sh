#!/usr/bin/env bash
# Shared by slurm_train.sh and slurm_test.sh: _slurm.sh PARTITION JOB_NAME train|test ARGUMENTS
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
partition=$1 name=$2 job=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
((per_node <= gpus)) || per_node=$gpus
command -v srun >/dev/null || { echo "slurm_$job.sh: no srun here; on one machine use tools/dist_$job.sh" >&2; exit 1; }
# SRUN_ARGS is split into words on purpose.
# shellcheck disable=SC2086
exec srun -p "$partition" --job-name="$name" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$tools/$job.py" "$@" --launcher slurm
