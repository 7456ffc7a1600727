#!/usr/bin/env bash
# The tests that take a Slurm, on one of their own: as root on Debian or Ubuntu, in an environment that has envs/slurm.txt.
#
#     PYTHON=.venv/bin/python tests/slurm/run.sh
#
# Says why, and succeeds, where no Slurm can be had.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
scratch=$(mktemp -d)
skip() {
    echo "Slurm tests skipped: $1"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "only root can start a Slurm"
[ ! -e /etc/slurm/slurm.conf ] || skip "there is a Slurm here already (/etc/slurm/slurm.conf)"
if ! command -v slurmctld >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    timeout 300 sh -c "apt-get update && apt-get install --yes --no-install-recommends slurm-wlm munge" \
        >"$scratch/apt.log" 2>&1 || skip "apt cannot install slurm-wlm: $(tail -n 1 "$scratch/apt.log")"
fi
trap '"$here/single-node.sh" down "$scratch"; rm -rf "$scratch"' EXIT
"$here/single-node.sh" up "$scratch"
cd "$here/../.."
"${PYTHON:-python}" -m pytest -m slurm --numprocesses 4 --dist load tests/slurm tests/test_benchmarks.py
