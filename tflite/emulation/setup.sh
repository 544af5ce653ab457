#!/bin/sh
# setup.sh DEST [TARGET...]: put other Linuxes into a folder, ARM ones to emulate; all where none is
# named.
#   armv7x  32-bit, Python 3.9,  numpy 1.19, tflite-runtime 2.12.0: the newest ARMv7 wheel with XNNPACK
#   armv7   32-bit, Python 3.11, numpy 1.24, tflite-runtime 2.14.0: this wheel has no XNNPACK
#   arm64   64-bit, Python 3.11, numpy 1.24, ai-edge-litert 2.3.0:  XNNPACK
#   x86     not emulated, Python 3.11, numpy 1.24, tflite-runtime 2.14.0: XNNPACK for float32 alone
# Debian packages are unpacked, not installed: no root, no container, no change to this machine.
# What is there already is kept; what an earlier run left unfinished is made again.
# Exit code 3: this machine or its network cannot have them; the message says why.
# DEBIAN_MIRROR and PYTHON (one that has pip) replace what is found.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
recipe=$(cat "$here/setup.sh" "$here/python.sh" "$here/icount.c" | cksum)

main() {
  [ $# -ge 1 ] || { echo "usage: setup.sh DEST [armv7x] [armv7] [arm64] [x86]" >&2; exit 2; }
  dest=$1; shift
  [ $# -ge 1 ] || set -- armv7x armv7 arm64 x86
  for target in "$@"; do
    case $target in armv7x|armv7|arm64|x86) ;;
      *) echo "setup.sh: expected armv7x, armv7, arm64 or x86, got $target" >&2; exit 2 ;; esac
  done
  mkdir -p "$dest" || exit 1
  dest=$(cd "$dest" && pwd)
  check_host
  exec 9> "$dest/.lock"
  flock 9
  build=$dest/.build
  cache=$dest/.cache
  rm -rf "$build"
  is_done qemu || make_qemu
  for target in "$@"; do is_done "$target" || "make_$target"; done
  rm -rf "$build"
  echo "ready in $dest: $*"
}

unavailable() { echo "setup.sh: no ARM emulation here: $1" >&2; exit 3; }

check_host() {
  [ "$(uname -s) $(uname -m)" = "Linux x86_64" ] ||
    unavailable "expected Linux x86_64, this is $(uname -s) $(uname -m)"
  command -v apt-get > /dev/null || unavailable "expected apt-get (Debian, Ubuntu)"
  missing=
  command -v cc > /dev/null || missing="$missing gcc libc6-dev"
  command -v flock > /dev/null || missing="$missing util-linux"
  [ -e $keyring ] || missing="$missing debian-archive-keyring"
  python=
  for candidate in "${PYTHON:-python3}" /usr/bin/python3; do # a virtual environment may lack pip
    [ -n "$python" ] || ! "$candidate" -m pip --version > /dev/null 2>&1 || python=$candidate
  done
  [ -n "$python" ] || missing="$missing python3-pip"
  [ -z "$missing" ] || unavailable "run: sudo apt-get install$missing"
  # shellcheck disable=SC2016
  mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 2> /dev/null |
    grep -m 1 '/debian/*$' || echo http://deb.debian.org/debian)}
}

is_done() { [ "$(cat "$dest/$1/.recipe" 2> /dev/null)" = "$recipe" ]; }

finish() { # finish NAME: only now does it count
  echo "$recipe" > "$build/$1/.recipe"
  rm -rf "${dest:?}/$1"
  mv "$build/$1" "$dest/$1"
}

debs() { # debs SUITE ARCHITECTURE ROOT PACKAGE...: download once, unpack into ROOT
  suite=$1 architecture=$2 root=$3; shift 3
  store=$cache/$suite-$architecture-$(echo "$*" | cksum | cut -d ' ' -f 1)
  [ -d "$store" ] || from_mirror "$mirror" "$@" || from_mirror http://archive.debian.org/debian "$@" ||
    unavailable "cannot download $suite packages from $mirror (DEBIAN_MIRROR, http_proxy)"
  mkdir -p "$root"
  for deb in "$store"/*.deb; do dpkg-deb -x "$deb" "$root"; done
}

from_mirror() { # apt with settings of its own: another suite and architecture, and no root
  apt=$build/apt; rm -rf "$apt"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/empty" "$apt/debs"
  : > "$apt/status"
  echo "deb [signed-by=$keyring] $1 $suite main" > "$apt/sources.list"; shift
  cat > "$apt/apt.conf" << CONF
APT::Architecture "$architecture"; APT::Architectures { "$architecture"; };
APT::Sandbox::User ""; APT::Update::Error-Mode "any";
Acquire::Languages "none"; Acquire::Retries "3";
Dir::State "$apt"; Dir::State::status "$apt/status"; Dir::Cache "$apt/cache"; Dir::Log "$apt";
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "$apt/empty";
Dir::Etc::preferencesparts "$apt/empty"; Dir::Etc::Main "/dev/null"; Dir::Etc::Parts "$apt/empty";
CONF
  (
    export APT_CONFIG="$apt/apt.conf"
    cd "$apt/debs" && apt-get -qq update && apt-get -qq download "$@"
  ) || return 1
  mkdir -p "$cache"
  mv "$apt/debs" "$store"
}

wheel() { # wheel NAME==VERSION PYTHON PLATFORM SHA256 ROOT
  store=$cache/wheel-$4
  if [ ! -d "$store" ]; then
    mkdir -p "$build/wheel" "$cache"
    echo "$1 --hash=sha256:$4" > "$build/requirements.txt"
    "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
      --python-version "$2" --platform "$3" --dest "$build/wheel" -r "$build/requirements.txt" ||
      unavailable "pip cannot download $1 for $3"
    mv "$build/wheel" "$store"
  fi
  mkdir -p "$5/opt/python"
  for file in "$store"/*.whl; do "$python" -m zipfile -e "$file" "$5/opt/python"; done
}

cpu_files() { # cpu_files ROOT ARCHITECTURE PART FEATURES: four cores for XNNPACK to read about, so
  # that it chooses its kernels by these files and not by the host's
  system=$1/sys/devices/system/cpu
  mkdir -p "$1/proc" "$system"
  for name in possible present online; do echo 0-3 > "$system/$name"; done
  echo 3 > "$system/kernel_max"
  for core in 0 1 2 3; do
    printf '%s\t: %s\n' processor $core Features "$4" "CPU implementer" 0x41 \
      "CPU architecture" "$2" "CPU variant" 0x0 "CPU part" "$3" "CPU revision" 1
    echo
    topology=$system/cpu$core/topology
    mkdir -p "$topology"
    echo 0 > "$topology/physical_package_id"
    echo $core > "$topology/core_id"
    echo 0-3 > "$topology/core_siblings_list"
  done > "$1/proc/cpuinfo"
}

cpu_files_32() { # RK3288
  cpu_files "$1" 7 0xc0d \
    "half thumb fastmult vfp edsp thumbee neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"
}

finish_target() { # finish_target TARGET: add the launcher, and run it once: compiles what it imports, too
  cp "$here/python.sh" "$build/$1/python"
  chmod +x "$build/$1/python"
  ln -sfn "$dest/qemu" "$build/qemu"
  cat > "$build/check.py" << 'CHECK'
import argparse, csv, ctypes, json, platform, zipfile
import numpy, PIL.Image
try:
    import ai_edge_litert as runtime, ai_edge_litert.interpreter
except ImportError:
    import tflite_runtime as runtime, tflite_runtime.interpreter
print("Python", platform.python_version(), "numpy", numpy.__version__,
      runtime.__name__, runtime.__version__, "on", platform.machine())
CHECK
  printf '%s: ' "$1"
  KERAS_PARC_ARM=$build "$here/run_arm" "$1" "$build/check.py" ||
    { echo "setup.sh: $1 was unpacked but does not run" >&2; exit 1; }
  finish "$1"
}

make_qemu() { # with its own C library, so that the host's version does not matter
  debs bookworm amd64 "$build/qemu" qemu-user libc6 libcapstone4 liburing2 libnuma1 libglib2.0-0 \
    libpcre2-8-0 libgnutls30 libp11-kit0 libidn2-0 libunistring2 libtasn1-6 libnettle8 libhogweed6 \
    libgmp10 libffi8 libgcc-s1 zlib1g
  find "$build/qemu/usr/bin" -name 'qemu-*' ! -name qemu-arm ! -name qemu-aarch64 -delete
  cc -O2 -shared -fPIC -o "$build/qemu/libicount.so" "$here/icount.c"
  finish qemu
}

bookworm_python="python3.11-minimal libpython3.11-minimal libpython3.11-stdlib python3-numpy
  python3-pil libblas3 liblapack3 libgfortran5 libstdc++6 libgcc-s1 libc6 zlib1g libexpat1 libffi8
  libbz2-1.0 liblzma5 libjpeg62-turbo libopenjp2-7 libtiff6 libimagequant0 libgomp1 libxcb1 libxau6
  libxdmcp6 libbsd0 libmd0 libwebp7 libzstd1 libjbig0 libdeflate0 liblerc4"

make_armv7x() { # Python and numpy of Debian 11; the wheel needs the C and C++ libraries of Debian 12
  debs bullseye armhf "$build/armv7x" python3.9-minimal libpython3.9-minimal libpython3.9-stdlib \
    python3-numpy python3-pil libblas3 liblapack3 libgfortran5 zlib1g libexpat1 libffi7 libbz2-1.0 \
    liblzma5 libjpeg62-turbo libtiff5 libimagequant0 libgomp1 libxcb1 libxau6 libxdmcp6 libbsd0 \
    libmd0 libwebp6 libzstd1 libjbig0 libdeflate0
  debs bookworm armhf "$build/armv7x" libc6 libstdc++6 libgcc-s1
  wheel tflite-runtime==2.12.0 3.9 manylinux2014_armv7l \
    1b39d956ce27cb7efcdd5fa8edf8c46388d856f68fda3563125641a44158c193 "$build/armv7x"
  cpu_files_32 "$build/armv7x"
  finish_target armv7x
}

make_armv7() {
  # shellcheck disable=SC2086
  debs bookworm armhf "$build/armv7" $bookworm_python
  wheel tflite-runtime==2.14.0 3.11 manylinux_2_34_armv7l \
    c4e66a74165b18089c86788400af19fa551768ac782d231a9beae2f6434f7949 "$build/armv7"
  cpu_files_32 "$build/armv7"
  finish_target armv7
}

make_x86() { # in numpy 1, which this wheel was built for
  # shellcheck disable=SC2086
  debs bookworm amd64 "$build/x86" $bookworm_python
  wheel tflite-runtime==2.14.0 3.11 manylinux2014_x86_64 \
    195ab752e7e57329a68e54dd3dd5439fad888b9bff1be0f0dc042a3237a90e4d "$build/x86"
  finish_target x86
}

make_arm64() {
  # shellcheck disable=SC2086
  debs bookworm arm64 "$build/arm64" $bookworm_python
  wheel ai-edge-litert==2.3.0 3.11 manylinux_2_27_aarch64 \
    853fc608f96da87bd5f3458465dfb9abbf18d5ae6b94eceacead407146f175ae "$build/arm64"
  cpu_files "$build/arm64" 8 0xd07 "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
  finish_target arm64
}

main "$@"
