#!/usr/bin/env bash
# Builds the image of the Dockerfile where there is no engine for containers and no registry to fetch bases from: Debian's packages make the
# bases, buildah runs the Dockerfile. The bases, and what the Dockerfile's steps have made before, are kept in the cache.
#
#   build.sh [--bases] [--fresh] [--out FILE]
#
# --bases makes only what is kept, --fresh makes that anew, --out writes the image as an archive for `docker load`. The last line of output is
# the image's id; `build.sh --environment` prints the flags with which buildah finds it.
set -euo pipefail
cd "$(dirname "$0")/../.."

SUITE=bookworm
NAME=localhost/postern
GO="$(go env GOVERSION)"
DIR="${XDG_CACHE_HOME:-$HOME/.cache}/postern/image-$SUITE-$GO"
export BUILDAH_ISOLATION=chroot TMPDIR="$DIR/tmp"
B=() # buildah with its store, see store


step() { printf '==> %s\n' "$*" >&2; }
die() { printf 'bridge/image/build.sh: %s\n' "$*" >&2; exit 1; }

# What is missing is installed, as root on Debian; else it is named.
tools() {
  [ "$(id -u)" = 0 ] || die "an image is built as root here: its files belong to several users, and its steps run in a changed root"
  local missing=()
  command -v buildah >/dev/null || missing+=(buildah)
  command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
  [ "${#missing[@]}" -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "these are missing, and there is no apt-get to install them: ${missing[*]}"
  step "installing ${missing[*]} (Debian packages)"
  apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || die "installing ${missing[*]} failed"
}

# permitted: without the kernel's leave for mounts nothing of this works, and it is better to say so.
permitted() {
  unshare --mount true 2>/dev/null ||
    die "THE KERNEL REFUSES: no mounts of one's own (unshare --mount). The container or sandbox that this runs in has to allow them (CAP_SYS_ADMIN)"
}

# store sets B. Layers that lie over each other are small, but not every kernel and every disk can have them; copies of everything can be had
# everywhere.
store() {
  local driver
  if [ ! -e "$DIR/driver" ]; then
    for driver in overlay vfs; do
      B=(buildah --root "$DIR/store" --runroot "$DIR/run" --storage-driver "$driver")
      if trial >/dev/null 2>&1; then echo "$driver" >"$DIR/driver"; break; fi
    done
    [ -e "$DIR/driver" ] || { trial || true; die "buildah can keep no images in $DIR"; }
  fi
  B=(buildah --root "$DIR/store" --runroot "$DIR/run" --storage-driver "$(cat "$DIR/driver")")
}

trial() {
  local c root
  c="$("${B[@]}" from scratch)" && root="$("${B[@]}" mount "$c")" && touch "$root/x" && "${B[@]}" umount "$c" && "${B[@]}" rm "$c"
}

# bases makes what takes the place of the Dockerfile's two FROM lines, once: a small Debian, and on it a C compiler with this machine's Go.
bases() {
  [ ! -e "$DIR/.complete" ] || return 0
  step "making the bases of the image: Debian $SUITE, and $GO (once; some minutes)"
  mmdebstrap --quiet --variant=minbase --include=ca-certificates "$SUITE" "$DIR/base.tar" || die "mmdebstrap could not make a Debian"
  local c
  c="$("${B[@]}" from scratch)"
  "${B[@]}" add -q "$c" "$DIR/base.tar" / >/dev/null
  "${B[@]}" commit -q "$c" localhost/runtime >/dev/null; "${B[@]}" rm "$c" >/dev/null
  rm "$DIR/base.tar"
  c="$("${B[@]}" from --pull-never localhost/runtime)"
  "${B[@]}" run "$c" -- sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null && rm -rf /var/lib/apt/lists/*' ||
    die "the C compiler could not be installed in the base"
  "${B[@]}" copy -q "$c" "$(go env GOROOT)" /usr/local/go >/dev/null
  "${B[@]}" config --env PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --env GOPATH=/go --env GOTOOLCHAIN=local "$c"
  "${B[@]}" commit -q "$c" localhost/builder >/dev/null; "${B[@]}" rm "$c" >/dev/null
  touch "$DIR/.complete"
}

image() {
  local modules version commit when
  modules="$(go env GOMODCACHE)/cache/download"
  version="$(git describe --tags --always --dirty 2>/dev/null || echo unknown)"
  commit="$(git rev-parse HEAD 2>/dev/null || echo unknown)"
  when="$(git log -1 --format=%cI 2>/dev/null || echo unknown)"
  local from=()
  "${B[@]}" rmi --prune >/dev/null 2>&1 || true # what earlier runs have left, and nobody uses
  # The modules that this machine has already need not be fetched again.
  if [ -d "$modules" ]; then from=(--volume "$modules:/modules:ro" --build-arg "GOPROXY=file:///modules,$(go env GOPROXY)"); fi
  "${B[@]}" build --quiet --layers --pull-never --format docker -t "$NAME" --iidfile "$DIR/tmp/id" \
    --build-arg BUILDER=localhost/builder --build-arg RUNTIME=localhost/runtime "${from[@]}" \
    --build-arg "VERSION=$version" --build-arg "COMMIT=$commit" --build-arg "BUILD_TIME=$when" . >&2
}

out="" only="" environment=""
while [ $# -gt 0 ]; do
  case "$1" in
    --bases) only=1; shift ;;
    --fresh) rm -rf "$DIR"; shift ;;
    --out) out="$(realpath -m "${2:?--out needs a file}")"; shift 2 ;;
    --environment) environment=1; shift ;;
    *) die "unknown argument $1" ;;
  esac
done
if [ -n "$environment" ]; then
  printf 'root=%s\nrunroot=%s\nstorage-driver=%s\n' "$DIR/store" "$DIR/run" "$(cat "$DIR/driver")"
  exit 0
fi
tools
permitted
mkdir -p "$DIR/tmp"
exec 9>"$DIR.lock"; flock 9 # one at a time: others wait
store
bases
[ -z "$only" ] || exit 0
step "building the image"
image
if [ -n "$out" ]; then
  step "writing $out"
  rm -f "$out"
  "${B[@]}" push -q "$NAME" "docker-archive:$out:postern:latest"
fi
cat "$DIR/tmp/id"
