#!/usr/bin/env bash
# Train with one process per GPU (on the CPU: per GPUS, over gloo).
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Across machines, run it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
exec "$(dirname "${BASH_SOURCE[0]}")/_dist.sh" train "$@"
