#!/bin/bash
# A batch over several GPUs with Slurm: one process a GPU, each its share of the runs, one file in the end.
#
#   sbatch experiments/slurm_batch.sh mine.toml results
#
# The processes find each other by Slurm's own variables. When the job runs out of time, or loses a node, submit it again with
# the third word --resume: what is done is kept, and the number of processes may be another one. On CPU nodes leave --gpus-per-task
# out, give --cpus-per-task, and use one task a node (or a socket): a process uses all cores it is bound to as devices.

#SBATCH --job-name=jaxbelt-batch
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=02:00:00
#SBATCH --signal=TERM@120        # two minutes before the end every process finishes its chunk and stops, resumable

set -euo pipefail
case_file=${1:?usage: sbatch slurm_batch.sh CASE.toml [FOLDER] [--resume]}
folder=${2:-.}                   # on a file system that all nodes see
more=${3:-}

# The proxies that some sites set would keep the processes from finding each other.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY

# --kill-on-bad-exit=0: where one process is lost, the others finish their own runs, and keep them.
srun --kill-on-bad-exit=0 jaxbelt batch "$case_file" --out "$folder" $more
