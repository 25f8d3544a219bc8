#!/usr/bin/env bash
# Train under Slurm, one process per GPU.
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS are read from the environment.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]" >&2
    exit 2
fi
partition=$1 name=$2 config=$3 work_dir=$4
shift 4
exec "$(dirname "${BASH_SOURCE[0]}")/_slurm.sh" "$partition" "$name" train "$config" --work-dir "$work_dir" "$@"
