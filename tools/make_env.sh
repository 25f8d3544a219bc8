#!/usr/bin/env bash
# Make the Python environment of one OpenMMLab stack in the clone, and install emo_mm into it (editable).
#
#   tools/make_env.sh onedl      the OneDL forks, in .venv
#   tools/make_env.sh classic    OpenMMLab's last releases, in .venv-classic
#
# A second run does nothing. No compiler is needed: mmcv is installed without its compiled ops, and emo_mm/ops replaces them.
# With OPS=compiled mmcv is compiled; an interrupted compilation continues where it stopped, and the wheel is kept in a cache,
# so that the next clone does not compile it again.
#
#   OPS              torch (default) or compiled
#   FORCE            1: start over with an empty environment
#   PYTHON           the interpreter to start from; default: the first of python3.11, python3.12, python3 that is one of them
#   MAX_JOBS         compilers that run at once; default: one per core, as far as there are 2 GiB of memory for each
#   FORCE_CUDA       1, with FORCE=1: compile mmcv's CUDA ops although no GPU is visible (needs nvcc)
#   XDG_CACHE_HOME   the cache is $XDG_CACHE_HOME/emo_mm; default ~/.cache/emo_mm
set -euo pipefail

case "${1:-}" in
    onedl) venv_name=.venv target=env ;;
    classic) venv_name=.venv-classic target=env-classic ;;
    *) echo "usage: tools/make_env.sh onedl|classic" >&2; exit 2 ;;
esac
stack=$1
ops=${OPS:-torch}
case $ops in
    torch | compiled) ;;
    *) echo "make $target: OPS is $ops; it must be torch or compiled" >&2; exit 2 ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/$venv_name
pins=$root/requirements
stamp=$venv/.emo_mm-env
log=$venv/make_env.log
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/emo_mm
# Settings of the user that would break exact pins; where pip finds packages remains the user's choice.
unset PYTHONPATH PYTHONHOME PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_PREFIX PIP_USER PIP_CONSTRAINT PIP_NO_BUILD_ISOLATION MMCV_WITH_OPS
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

die() {
    echo "make $target: $*" >&2
    exit 1
}

# The environment is a function of these. The clone's place is among them, because a venv cannot be moved, and so is
# the list of what is installed: a package removed or changed by hand is restored by the next run.
fingerprint() {
    cd "$root"
    {
        (cd "$venv" && printf '%s\n' lib/python*/site-packages/*.dist-info)
        echo "$root $ops"
        cat "requirements/$stack.txt" requirements/mmcv-"$stack"*.txt requirements/{build,common,dev,deploy}.txt \
            setup.py emo_mm/version.py emo_mm/ops/finder.py tools/make_env.sh
    } | sha256sum | cut -d' ' -f1
}

exit_if_done() {
    if [ "${FORCE:-0}" != 1 ] && [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ]; then
        echo "make $target: $venv_name is up to date"
        exit 0
    fi
}
exit_if_done

# --- what the machine must have ---------------------------------------------------------------------------------------
apt_hint="apt-get install python3-venv"
[ "$ops" = torch ] || apt_hint="apt-get install g++ python3-venv python3-dev"
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3}; do
        if command -v "$candidate" >/dev/null && "$candidate" -c "$supported"; then
            command -v "$candidate"
            return
        fi
    done
    die "needs Python 3.11 or 3.12 (${PYTHON:-python3} is neither): $apt_hint, or name one with PYTHON=/path/to/python3.11"
}

python=$(find_python)
"$python" -c 'import venv, ensurepip' 2>/dev/null || die "$python has no venv module: $apt_hint"
if [ -x "$venv/bin/python" ] && ! "$venv/bin/python" -c "$supported"; then
    die "$venv_name holds another version of Python: rm -r $venv_name, then make $target"
fi

tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
mmcv_pins=$pins/mmcv-$stack.txt
[ "$ops" = torch ] || [ "$stack" = onedl ] || mmcv_pins=$pins/mmcv-classic-compiled.txt
mmcv=$(grep -v '^#' "$mmcv_pins")
if [ "$ops" = compiled ] && ! compgen -G "$cache/wheels/$tag-*/*mmcv-${mmcv##*==}-*.whl" >/dev/null; then
    command -v "${CXX:-c++}" >/dev/null || die "no C++ compiler to compile mmcv with: $apt_hint"
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        die "$python has no headers (Python.h) to compile mmcv with: $apt_hint"
fi

# --- steps, with a visible progress -----------------------------------------------------------------------------------
set -m # each step gets a process group, so that an interrupt ends its compilers too
step_pid=
trap '[ -z "$step_pid" ] || kill -TERM -- "-$step_pid" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM HUP

say() { echo "[$1/4] $2"; }

# Run a command into the log and print its progress every 20 seconds; if it fails, show the end of the log.
step() {
    local began=$SECONDS offset progress
    offset=$(($(wc -c <"$log") + 1))
    "$@" >>"$log" 2>&1 </dev/null &
    step_pid=$!
    while kill -0 "$step_pid" 2>/dev/null; do
        sleep 1
        (((SECONDS - began) % 20)) && continue
        # ninja writes [done/all]; pip names the current package
        progress=$(tail -c "+$offset" "$log" | tr '\r' '\n' |
            grep -aoE '^ *(\[[0-9]+/[0-9]+\]|(Collecting|Downloading|Installing collected) [A-Za-z0-9_.=-]+)' | tail -n 1) || true
        echo "      $((SECONDS - began)) s" $progress
    done
    if ! wait "$step_pid"; then
        step_pid=
        tail -n 25 "$log" >&2
        die "failed in: $*
    The whole log: $log. Fix the cause, then run \"make $target\" again; it continues from here."
    fi
    step_pid=
}

# Free memory bounds the compilers: an mmcv file takes up to 2 GiB.
default_jobs() {
    local cores memory
    cores=$(nproc 2>/dev/null || echo 2)
    memory=$(awk '/^MemAvailable/ {print int($2 / 2097152)}' /proc/meminfo 2>/dev/null || echo "$cores")
    echo $((memory < 1 ? 1 : memory < cores ? memory : cores))
}

# What mmcv is compiled for: "cpu", or "cuda<version>-<architectures>" where there is a GPU (or FORCE_CUDA=1) and the
# nvcc of torch's own CUDA major version; torch refuses any other.
device_of_build() {
    "$venv/bin/python" - 2>>"$log" <<'PY'
import os, re, subprocess
import torch
from torch.utils.cpp_extension import CUDA_HOME

device = 'cpu'
asked = os.environ.get('FORCE_CUDA') == '1' or torch.cuda.is_available()
if asked and CUDA_HOME and os.path.exists(f'{CUDA_HOME}/bin/nvcc') and torch.version.cuda:
    text = subprocess.run([f'{CUDA_HOME}/bin/nvcc', '--version'], capture_output=True, text=True).stdout
    release = re.search(r'release (\d+)\.', text)
    if release and release[1] == torch.version.cuda.split('.')[0]:
        seen = {'%d.%d' % torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
        arch = os.environ.get('TORCH_CUDA_ARCH_LIST') or '+'.join(sorted(seen)) or 'all'
        device = f'cuda{torch.version.cuda}-' + re.sub(r'[^\w.+]+', '_', arch)
print(device)
PY
}

# Compile and install mmcv; its wheel goes to the cache once its ops have run. The sources and objects stay in $build
# until then, so that ninja continues where it was interrupted.
compile_mmcv() {
    local build=$wheels/build-mmcv-$stack switches
    if [ ! -e "$build/unpacked" ]; then
        rm -rf "$build"
        mkdir -p "$build/src"
        step "$venv/bin/pip" download --no-deps --no-binary :all: --no-build-isolation --dest "$build" \
            -r "$mmcv_pins"
        tar -xzf "$build"/*.tar.gz -C "$build/src" --strip-components 1
        touch "$build/unpacked"
    fi
    # mmcv compiles CUDA ops when it sees a GPU, nvcc or not: without nvcc it must not see one.
    if [ "$device" = cpu ]; then switches=(CUDA_VISIBLE_DEVICES= FORCE_CUDA=0); else switches=(FORCE_CUDA=1); fi
    rm -rf "$build/out"
    step env "${switches[@]}" MMCV_WITH_OPS=1 MAX_JOBS="${MAX_JOBS:-$(default_jobs)}" PATH="$venv/bin:$PATH" \
        "$venv/bin/pip" wheel -v --no-deps --no-build-isolation --no-cache-dir --wheel-dir "$build/out" "$build/src"
    install_mmcv "$build"/out/*.whl
    mv -f "$build"/out/*.whl "$wheels/"
    rm -rf "$build"
}

install_mmcv() {
    step "$venv/bin/pip" install --no-deps --force-reinstall "$1"
    step "$venv/bin/python" -c 'import torch, mmcv.ops; mmcv.ops.nms(torch.ones(1, 4), torch.ones(1), 0.5)'
}

# --- the work ---------------------------------------------------------------------------------------------------------
mkdir -p "$cache/wheels" "$venv"
# One run per environment at a time; the second waits and then finds the work done.
if command -v flock >/dev/null; then
    exec 9>"$venv/.lock"
    flock 9
    exit_if_done
fi
rm -f "$stamp"
say 1 "making $venv_name with $("$python" --version) (log: $log)"
if [ "${FORCE:-0}" = 1 ]; then
    rm -rf "$venv"/{bin,include,lib,lib64,.mmcv}
fi
"$python" -m venv "$venv"
echo "=== make $target, $(date)" >>"$log"

say 2 "installing torch, the toolboxes and the development tools at the versions in requirements/ (about 7 GB)"
deploy=()
[ "$stack" = classic ] || deploy=(-r "$pins/deploy.txt") # tested with the default stack only
plain_mmcv=()
if [ "$ops" = torch ]; then
    plain_mmcv=(-r "$mmcv_pins")
    if [ -e "$venv/.mmcv" ]; then # compiled by an earlier run
        step "$venv/bin/python" -m pip uninstall -y onedl-mmcv mmcv
        rm -f "$venv/.mmcv"
    fi
fi
# Built apart from torch, as pip does by itself, mmcv gets no compiled ops.
step "$venv/bin/python" -m pip install --no-cache-dir \
    -r "$pins/$stack.txt" -r "$pins/dev.txt" "${deploy[@]}" "${plain_mmcv[@]}"

if [ "$ops" = torch ]; then
    say 3 "$mmcv: without compiled ops; emo_mm/ops replaces them"
else
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    device=$(device_of_build)
    wheels=$cache/wheels/$tag-torch$("$venv/bin/python" -c 'import torch; print(torch.__version__)')-$device
    mkdir -p "$wheels"
    mmcv_name=$(tr - _ <<<"${mmcv%%==*}")-${mmcv##*==}
    wheel_glob=$wheels/$mmcv_name-*.whl
    if command -v flock >/dev/null; then # two clones must not compile in the same folder
        exec 8>"$wheels/.lock"
        flock 8
    fi
    if ! compgen -G "$wheel_glob" >/dev/null; then
        say 3 "compiling $mmcv for $device: about 10 to 15 minutes on 2 cores"
        compile_mmcv
    elif [ -d "$site/$mmcv_name.dist-info" ] && [ "$(cat "$venv/.mmcv" 2>/dev/null)" = "$wheels" ]; then
        say 3 "$mmcv for $device is installed already"
    else
        say 3 "installing $mmcv for $device, compiled before, from $wheels"
        install_mmcv "$(compgen -G "$wheel_glob" | head -n 1)"
    fi
    exec 8>&-
    echo "$wheels" >"$venv/.mmcv"
fi

say 4 "installing emo_mm and checking the environment"
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
# opencv-python, which mmcv depends on, needs libGL; the headless build, installed over it, runs on a bare server.
if ! grep -qs '^headless = True' "$site/cv2/version.py"; then
    step "$venv/bin/pip" install --no-deps --force-reinstall "$(grep -h '^opencv-python-headless==' "$pins/$stack.txt")"
fi
step "$venv/bin/pip" install --no-deps --no-build-isolation -e "$root"
step "$venv/bin/python" -c "from emo_mm.doctor import require_tested_stack; require_tested_stack('$stack', '$ops')"
cd "$root" && fingerprint >"$stamp.new" && mv -f "$stamp.new" "$stamp"
echo "make $target: done; $venv_name/bin/emo-mm doctor shows what is installed"
