#!/usr/bin/env bash
# Puts the official Signal library, the outside oracle of connector/e2ee, into the cache:
#   ${XDG_CACHE_HOME:-$HOME/.cache}/postern/libsignal-oracle-<version>
# One folder a version, made whole or not at all; running it again does nothing. No install script of
# any package is run: the packages carry prebuilt binaries.
set -euo pipefail
cd "$(dirname "$0")"

CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/postern"
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

command -v node >/dev/null 2>&1 || die "node is not installed (Node.js 20 or newer)"
command -v npm >/dev/null 2>&1 || die "npm is not installed"

mkdir -p "$CACHE"
for dir in v*/; do
  version="${dir#v}"; version="${version%/}"
  target="$CACHE/libsignal-oracle-$version"
  lock="$(cksum < "$dir/package-lock.json")"
  if [ -f "$target/.complete" ] && [ "$(cat "$target/.complete")" = "$lock" ]; then
    continue
  fi
  printf '==> installing the official libsignal-client %s into the cache (once)\n' "$version"
  fresh="$(mktemp -d "$CACHE/.libsignal-oracle-$version.XXXXXX")"
  trap 'rm -rf "$fresh"' EXIT
  cp "$dir/package.json" "$dir/package-lock.json" "$fresh/"
  (cd "$fresh" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
    die "installing libsignal-client $version failed"
  printf '%s\n' "$lock" > "$fresh/.complete"
  rm -rf "$target"
  mv "$fresh" "$target"
  trap - EXIT
done
