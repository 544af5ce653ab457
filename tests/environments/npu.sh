#!/bin/sh
# npu.sh DEST: make a virtual environment with Vela, Arm's compiler for Ethos-U, and with the
# interpreter of TensorFlow Lite for microcontrollers; keep it where it is there.
# Exit code 3: this machine or its network cannot have it; the last line says why.
# PYTHON replaces the python3 that is found.
set -eu
requirements="ethos-u-vela==5.2.0 tflite-micro==0.dev20261023182759"

[ $# -eq 1 ] || { echo "usage: npu.sh DEST" >&2; exit 2; }
dest=$1
mkdir -p "$dest"
unavailable() { echo "npu.sh: no Vela and TFLite Micro here: $1" >&2; exit 3; }

if command -v flock > /dev/null; then # two test runs at once
  exec 9> "$dest/.lock"
  flock 9
fi
if [ "$(cat "$dest/.recipe" 2> /dev/null)" != "$requirements" ]; then
  rm -f "$dest/.recipe"
  "${PYTHON:-python3}" -m venv --clear "$dest/venv" || unavailable "python3 -m venv fails"
  # shellcheck disable=SC2086 # several words
  "$dest/venv/bin/pip" install --quiet --disable-pip-version-check $requirements ||
    unavailable "pip install $requirements fails"
  echo "$requirements" > "$dest/.recipe"
fi
message=$("$dest/venv/bin/vela" --version 2>&1 &&
  "$dest/venv/bin/python" -c "from tflite_micro import runtime" 2>&1) ||
  unavailable "$(echo "$message" | tail -n 1)"
echo "ready in $dest"
