#!/bin/sh
# mediapipe.sh DEST: make a virtual environment with MediaPipe in a folder; keep it where it is there.
# It is no dependency of the package: it brings OpenCV and matplotlib, half a gigabyte.
# Exit code 3: this machine or its network cannot have it; the last line says why.
# PYTHON replaces the python3 that is found.
set -eu
requirement=mediapipe==1.2.2

[ $# -eq 1 ] || { echo "usage: mediapipe.sh DEST" >&2; exit 2; }
dest=$1
mkdir -p "$dest"
unavailable() { echo "mediapipe.sh: no MediaPipe here: $1" >&2; exit 3; }

if command -v flock > /dev/null; then # two test runs at once
  exec 9> "$dest/.lock"
  flock 9
fi
if [ "$(cat "$dest/.recipe" 2> /dev/null)" != "$requirement" ]; then
  rm -f "$dest/.recipe"
  "${PYTHON:-python3}" -m venv --clear "$dest/venv" || unavailable "python3 -m venv fails"
  "$dest/venv/bin/pip" install --quiet --disable-pip-version-check "$requirement" ||
    unavailable "pip install $requirement fails"
  echo "$requirement" > "$dest/.recipe"
fi
# The library is loaded late, at the first task.
message=$("$dest/venv/bin/python" -c "
from mediapipe.tasks.python.core import mediapipe_c_bindings
mediapipe_c_bindings.load_raw_library()" 2>&1) ||
  unavailable "$(echo "$message" | tail -n 1): sudo apt-get install libegl1 libgles2"
echo "ready in $dest"
