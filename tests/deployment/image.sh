#!/usr/bin/env bash
# Run an image's root as a container engine would: read-only, without a network, as its own user, with /tmp in memory
# and a persistent /models. Prints the server's result for a picture, and its exit status.
#
#     unshare --mount --net --pid --fork --kill-child image.sh ROOT MODELS USER PICTURE
set -euo pipefail
root=$1 models=$2 user=$3 picture=$4

ip link set lo up
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind "$models" "$root/models"
mount -t tmpfs tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/urandom" c 1 9
cp "$picture" "$root/tmp/picture.jpg"

inside=(
    chroot --userspec="$user" "$root" /usr/bin/env -i HOME=/tmp PATH=/opt/posewire/bin:/usr/local/bin:/usr/bin:/bin
    POSEWIRE_MODELS=/models PYTHONDONTWRITEBYTECODE=1 POSEWIRE_DRAIN_SECONDS=0
)

"${inside[@]}" posewire serve >&2 &
server=$!
for _ in $(seq 120); do
    kill -0 $server
    "${inside[@]}" python -c "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz')" 2>/dev/null && break
    sleep 0.5
done
"${inside[@]}" python -c "
from urllib.request import Request, urlopen
picture = open('/tmp/picture.jpg', 'rb').read()
print(urlopen(Request('http://127.0.0.1:8000/pose?min_score=0.1', picture, {'Content-Type': 'image/jpeg'})).read().decode())"
kill -TERM $server
wait $server && status=0 || status=$?
echo $status
