#!/bin/sh
# python [ARGUMENT...]: the Python of this folder with the libraries of this folder, on any Linux of
# its architecture, however old the system's own libraries are. setup.sh puts it into every target.
set -euf
root=$(cd "$(dirname "$0")" && pwd)
set +f
for path in "$root"/usr/lib/*-linux-*; do triplet=$(basename "$path"); done
for path in "$root"/lib/*-linux-*/ld-linux-*; do loader=$path; done
for path in "$root"/usr/bin/python3.*; do python=$path; done
set -f

libraries=$root/lib/$triplet
for part in "" /blas /lapack; do libraries=$libraries:$root/usr/lib/$triplet$part; done

export PYTHONHOME="$root/usr" PYTHONPATH="$root/opt/python" PYTHONNOUSERSITE=1
# EMULATOR: the command that runs foreign programs, one word a line, so that paths may hold spaces.
IFS='
'
exec ${EMULATOR:-} "$loader" --inhibit-cache --library-path "$libraries" "$python" "$@"
