#!/bin/bash
# A request without curl: ask.sh METHOD HOST:PORT PATH. Prints the body; status 0 only for HTTP 200.
set -uo pipefail
export LC_ALL=C # lengths are bytes
method=$1 address=$2 path=$3 length=''
exec 3<>"/dev/tcp/${address%:*}/${address##*:}" || exit 1
printf '%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n' "$method" "$path" "$address" >&3
line() { IFS= read -r -t 5 line <&3 && line=${line%$'\r'}; }
piece() { IFS= read -r -t 5 -N "$1" piece <&3 && printf %s "$piece"; }

line || exit 1
status=${line#* } status=${status%% *}
while line && [ "$line" ]; do
    case ${line,,} in
        content-length:*) length=${line#*:} ;;
        transfer-encoding:*chunked*) length=chunks ;;
    esac
done
if [ "$length" = chunks ]; then
    while line && [ $((16#$line)) -gt 0 ]; do piece $((16#$line)) && line || exit 1; done
elif [ "${length:-0}" -gt 0 ]; then
    piece "${length// /}"
fi
[ "$status" = 200 ]
