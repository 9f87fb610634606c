# Runs into each limit of config.json, to show that the kernel enforces it. Works on cgroup v1 and v2.
# Exit code 0 means that all three held.

failed=0
line() { printf '  %-10s %-32s %s\n' "$1" "$2" "$3"; }

echo

# Memory: 32 MiB. dd asks for a buffer of 200 MiB and fills it; the kernel kills it half-way. (With swap
# on the host the limit may push pages out instead: config.json limits memory, not swap.)
if dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; then
    line memory "200 MiB under a limit of 32" "got them: swap, or NOT HELD"
    failed=1
else
    line memory "200 MiB under a limit of 32" "killed"
fi

# CPU: a quarter of one core. A busy loop must get about 25 % of the time that passes.
time -o /tmp/cpu -f %P timeout 2 sh -c 'while :; do :; done'
percent=$(sed -n 's/%$//p' /tmp/cpu)
line cpu "a busy loop under 25 %" "got ${percent:-?} %"
[ "${percent:-100}" -le 40 ] || failed=1

# Processes: 16. Starting 40 must fail before all are there; the subshell ends at the first failed fork.
started=$( (for n in $(seq 40); do sleep 5 >/dev/null & echo; done) 2>/dev/null | wc -l)
line processes "40 more under a limit of 16" "got $started"
[ "$started" -lt 16 ] || failed=1

echo
exit $failed
