#!/usr/bin/env bash
# Puts jose, the outside oracle of connector/issuer, into the cache:
#   ${XDG_CACHE_HOME:-$HOME/.cache}/postern/jose-<version>
# Made whole or not at all; running it again does nothing. No install script of any package is run.
set -euo pipefail
cd "$(dirname "$0")"

CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/postern"
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

command -v node >/dev/null 2>&1 || die "node is not installed (Node.js 20 or newer)"
command -v npm >/dev/null 2>&1 || die "npm is not installed"

version="$(node -p 'require("./package.json").dependencies.jose')"
target="$CACHE/jose-$version"
lock="$(cksum < package-lock.json)"
if [ -f "$target/.complete" ] && [ "$(cat "$target/.complete")" = "$lock" ]; then
  exit 0
fi
printf '==> installing jose %s into the cache (once)\n' "$version"
mkdir -p "$CACHE"
fresh="$(mktemp -d "$CACHE/.jose-$version.XXXXXX")"
trap 'rm -rf "$fresh"' EXIT
cp package.json package-lock.json "$fresh/"
(cd "$fresh" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) || die "installing jose failed"
printf '%s\n' "$lock" > "$fresh/.complete"
rm -rf "$target"
mv "$fresh" "$target"
