#!/bin/sh
# Decrypts an encrypted attachment with nothing but openssl and prints the plaintext's SHA-256 in hex.
#   decrypt.sh FILE KEY_HEX INFO [OUT]
# INFO is the string of PROTOCOL.md 7.1, as "WhatsApp Image Keys". The plaintext stays in OUT if one is named.
set -eu
file=$1 key=$2 info=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=${4:-$work/plain}
unhex() { octal=$(sed 's/../0x& /g'); for byte in $octal; do printf "\\$(printf %03o "$byte")"; done; }

# 112 bytes of HKDF-SHA256 without a salt: IV, cipher key, MAC key, and 32 that nobody uses.
okm=$(openssl kdf -keylen 112 -kdfopt digest:SHA256 -kdfopt "hexkey:$key" -kdfopt "info:$info" HKDF | tr -d ':\n')
iv=$(printf %s "$okm" | cut -c1-32)
cipher=$(printf %s "$okm" | cut -c33-96)
mac=$(printf %s "$okm" | cut -c97-160)

size=$(wc -c <"$file")
body=$((size - 10))
[ "$body" -ge 16 ] || { echo "too short" >&2; exit 1; }
head -c "$body" "$file" >"$work/body"
have=$(tail -c 10 "$file" | od -An -v -tx1 | tr -d ' \n')

# The MAC is over the IV and the ciphertext.
want=$({ printf %s "$iv" | unhex; cat "$work/body"; } |
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$mac" -r | cut -c1-20)
[ "$want" = "$have" ] || { echo "wrong MAC" >&2; exit 1; }

openssl enc -d -aes-256-cbc -K "$cipher" -iv "$iv" -in "$work/body" -out "$out"
openssl dgst -sha256 -r "$out" | cut -c1-64
