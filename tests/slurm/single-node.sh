#!/usr/bin/env bash
# A real Slurm of one node on the loopback device, for tests: as root, without systemd, cgroups or GPUs.
#
#     apt-get install --yes slurm-wlm munge
#     tests/slurm/single-node.sh up FOLDER      # its state, logs and pretended GPUs lie there
#     tests/slurm/single-node.sh down FOLDER
#
# Character devices stand for GPUs: so Slurm schedules them and sets CUDA_VISIBLE_DEVICES. There is no accounting
# (`sacct` answers nothing), and memory limits are counted, not enforced. Cores and GPUs are pretended to be four each,
# so that several controllers have jobs at a time.
set -euo pipefail
folder=$(realpath "${2:?usage: $0 up|down FOLDER}")
conf=/etc/slurm # also where a job step looks: the executor plugin drops SLURM_CONF from its environment
cores=4
gpus=4

write_config() {
    mkdir -p "$folder"/{log,run,state,spool} "$conf"
    host=$(hostname -s)
    for ((gpu = 0; gpu < gpus; gpu++)); do
        [ -e "$folder/gpu$gpu" ] || mknod "$folder/gpu$gpu" c 1 3
    done
    [ -s "$folder/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    cat >"$conf/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
CommunicationParameters=NoInAddrAny
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=1
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=30
MinJobAge=300
DefMemPerCPU=500
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo) Gres=gpu:$gpus State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=1-0 State=UP
CONF
    echo "NodeName=$host Name=gpu File=$folder/gpu[0-$((gpus - 1))]" >"$conf/gres.conf"
}

wait_for() {
    for _ in $(seq 100); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    echo "in vain: $*" >&2
    return 1
}

case $1 in
up)
    write_config
    mkdir -p /run/munge
    chmod 755 /run/munge "$folder"
    pgrep -x munged >/dev/null || munged --key-file="$folder/munge.key" --pid-file="$folder/run/munged.pid" \
        --log-file="$folder/log/munged.log" --seed-file="$folder/run/munged.seed"
    wait_for sh -c "munge -n | unmunge"
    slurmctld -c
    slurmd -c
    wait_for sh -c "sinfo --noheader --format %T | grep -E 'idle|mixed|allocated'"
    sinfo
    ;;
down)
    for daemon in slurmd slurmctld munged; do
        [ -s "$folder/run/$daemon.pid" ] || continue
        pid=$(cat "$folder/run/$daemon.pid")
        kill "$pid" || true
        wait_for sh -c "! kill -0 $pid" # it still writes into the folder
    done
    # With a configuration and no controller, every start of a Snakemake that has the plugin waits for ten seconds.
    rm -f "$conf/slurm.conf" "$conf/gres.conf"
    ;;
esac
