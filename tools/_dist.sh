#!/usr/bin/env bash
# Shared by dist_train.sh and dist_test.sh: start tools/{train,test}.py in several processes.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
job=$1
shift
positional=1 usage="tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]"
if [ "$job" = test ]; then
    positional=2 usage="tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]"
fi
if [ $# -le $positional ] || ! [[ ${*:positional+1:1} =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: $usage" >&2
    exit 2
fi
given=("${@:1:positional}")
processes=${*:positional+1:1}
shift $((positional + 1))

# PYTHON, else the clone's own environment, else what is active.
python=${PYTHON:-python}
[ -n "${PYTHON:-}" ] || [ -n "${VIRTUAL_ENV:-}" ] || ! [ -x "$tools/../.venv/bin/python" ] || python=$tools/../.venv/bin/python

nodes=${NNODES:-1}
if [ -z "${PORT:-}" ]; then
    # Every machine must name the same port, so a free one can be picked only where there is one machine.
    [ "$nodes" = 1 ] || { echo "dist_$job.sh: with NNODES=$nodes set PORT, the same on each machine" >&2; exit 2; }
    PORT=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
fi
if [ "$nodes" != 1 ]; then
    case ${MASTER_ADDR:-} in
        '' | localhost | 127.*)
            echo "dist_$job.sh: with NNODES=$nodes set MASTER_ADDR to an address of the first machine that the others reach" >&2
            exit 2
            ;;
    esac
fi
# With RDZV=c10d machines may come and go (NNODES=1:4), and processes that fail start again, MAX_RESTARTS times in all.
if [ -n "${RDZV:-}" ]; then
    meeting=(--rdzv_backend "$RDZV" --rdzv_endpoint "${MASTER_ADDR:-127.0.0.1}:$PORT" --rdzv_id "${RDZV_ID:-emo_mm}"
        --max_restarts "${MAX_RESTARTS:-3}")
else
    meeting=(--node_rank "${NODE_RANK:-0}" --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "$PORT")
fi
exec "$python" -m torch.distributed.run --nnodes "$nodes" "${meeting[@]}" --nproc_per_node "$processes" \
    "$tools/$job.py" "${given[@]}" --launcher pytorch "$@"
