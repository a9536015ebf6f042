#!/bin/sh
# Makes testdata/vectors.txt with nothing but openssl: one encrypted attachment a line, its info, key, plaintext and
# file in hex, separated by tabs.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

hex() { od -An -v -tx1 | tr -d ' \n'; }
unhex() { octal=$(sed 's/../0x& /g'); for byte in $octal; do printf "\\$(printf %03o "$byte")"; done; }

for kind in "Image" "Video" "Audio" "Document" "Link Thumbnail" "Image Thumbnail" "Video Thumbnail" "Document Thumbnail"; do
  for length in 0 1 15 16 17 100; do
    info="WhatsApp $kind Keys"
    key=$(printf '%s %s' "$kind" "$length" | openssl dgst -sha256 -r | cut -c1-64)
    head -c "$length" /dev/zero | openssl enc -aes-128-ctr -K 000102030405060708090a0b0c0d0e0f -iv "$(printf %s "$key" | cut -c1-32)" >"$work/plain"
    okm=$(openssl kdf -keylen 112 -kdfopt digest:SHA256 -kdfopt "hexkey:$key" -kdfopt "info:$info" HKDF | tr -d ':\n')
    iv=$(printf %s "$okm" | cut -c1-32)
    openssl enc -aes-256-cbc -K "$(printf %s "$okm" | cut -c33-96)" -iv "$iv" -in "$work/plain" -out "$work/body"
    { printf %s "$iv" | unhex; cat "$work/body"; } |
      openssl dgst -sha256 -mac HMAC -macopt "hexkey:$(printf %s "$okm" | cut -c97-160)" -binary | head -c 10 >"$work/mac"
    printf '%s\t%s\t%s\t%s\n' "$info" "$key" "$(hex <"$work/plain")" "$(cat "$work/body" "$work/mac" | hex)"
  done
done >vectors.txt
