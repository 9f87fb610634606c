# Shows that root in here is nobody out there.

line() { printf '  %-18s %s\n' "$1" "$2"; }
read -r inside outside count </proc/self/uid_map

echo
line "user in here" "$(id -un), uid $(id -u)"
line "on the host" "uid $outside ($count ids from there)"
[ "$(stat -c %u /bin/busybox)" = 65534 ] && owner="nobody: the host's root has no name in here" || owner="$(stat -c %U /bin/busybox)"
line "owner of /bin" "$owner"
echo x >/tmp/mine
line "owner of /tmp/mine" "$(stat -c '%U (uid %u)' /tmp/mine)"
echo
