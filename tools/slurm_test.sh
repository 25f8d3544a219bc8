#!/usr/bin/env bash
# Test under Slurm, one process per GPU.
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS are read from the environment.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]" >&2
    exit 2
fi
partition=$1 name=$2 config=$3 checkpoint=$4
shift 4
exec "$(dirname "${BASH_SOURCE[0]}")/_slurm.sh" "$partition" "$name" test "$config" "$checkpoint" "$@"
