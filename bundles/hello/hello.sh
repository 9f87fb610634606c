# Prints where it is. It runs as the only program of the container `hello`.

# The first of these files that exists: cgroup v2 and v1 call the same limit by different names.
first() {
    for file; do
        [ -r "$file" ] && cat "$file" && return
    done
    echo unknown
}

line() { printf '  %-10s %s\n' "$1" "$2"; }

cg=/sys/fs/cgroup
memory=$(first $cg/memory.max $cg/memory/memory.limit_in_bytes)
pids=$(first $cg/pids.max $cg/pids/pids.max)
if [ -r $cg/cpu.max ]; then
    read -r quota period <$cg/cpu.max
else
    quota=$(first $cg/cpu/cpu.cfs_quota_us $cg/cpu,cpuacct/cpu.cfs_quota_us)
    period=$(first $cg/cpu/cpu.cfs_period_us $cg/cpu,cpuacct/cpu.cfs_period_us)
fi
case $memory in *[!0-9]*) ;; *) memory="$((memory / 1048576)) MiB" ;; esac
case $quota in *[!0-9]*) cpu=$quota ;; *) cpu="$((quota * 100 / period)) % of one core" ;; esac
caps=$(sed -n 's/^CapEff:\t//p' /proc/self/status)
grep -q '^[^ ]* / [^ ]* ro' /proc/mounts && root=read-only || root=writable
set -- /proc/[0-9]*
processes=$#

echo
echo "  Hello from inside a container."
echo
line hostname "$(hostname)"
line process "pid $$, $processes in sight"
line user "uid $(id -u), capabilities $caps"
line kernel "$(uname -sr), shared with the host"
line root "/ is $root and holds $(echo *)"
line network "$(cd /sys/class/net && echo *)"
line memory "at most $memory"
line cpu "at most $cpu"
line pids "at most $pids"
line files "at most $(ulimit -n) open"
echo
