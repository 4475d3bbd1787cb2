#!/usr/bin/env bash
# Makes the fixtures of captured.rs anew: builds walks.c for arm64 with and without signed return addresses, and stops each program at every instruction of a
# stretch under qemu-aarch64; gdb writes down registers, stack and its own walk. Needs gcc-aarch64-linux-gnu, qemu-user and gdb-multiarch of Debian 12.
set -euo pipefail
cd "$(dirname "$0")"
for kind in plain signed; do
    protection=none
    [ "$kind" = plain ] || protection=standard
    whole="$(mktemp)"
    aarch64-linux-gnu-gcc -O2 -fomit-frame-pointer -fno-optimize-sibling-calls -fasynchronous-unwind-tables -nostdlib -static -ffreestanding \
        "-mbranch-protection=$protection" -Wl,--build-id=none,-z,noseparate-code,-z,max-page-size=4096 -o "$whole" walks.c
    aarch64-linux-gnu-objcopy -R .comment "$whole" "$kind.elf"
    chmod -x "$kind.elf"
    port=12391
    qemu-aarch64 -cpu max,sve=off -g "$port" "$whole" &
    gdb-multiarch -q -batch -nx -ex "set confirm off" -ex "file $whole" -ex "target remote :$port" -ex "python kind = '$kind'" -x capture.py | grep -E "^(stop|word|frames) " > "$kind.txt"
    wait
    rm "$whole"
done
