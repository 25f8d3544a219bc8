#!/usr/bin/env bash
# Test with one process per GPU (on the CPU: per GPUS, over gloo).
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# Across machines, run it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
exec "$(dirname "${BASH_SOURCE[0]}")/_dist.sh" test "$@"
