# Looks around in the pod that it shares with `web`, and asks it for its page.
until page=$(wget -qO- http://127.0.0.1:8080/ 2>/dev/null); do sleep 0.1; done
echo "  hostname    $(hostname)"
for dir in /proc/[0-9]*; do
    echo "  process     $(basename "$dir")  $(tr '\0' ' ' <"$dir/cmdline")"
done
echo "  page        $page"
