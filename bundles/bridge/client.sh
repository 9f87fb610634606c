# Asks the other container, then a server beyond the bridge, which says who asked.
# With its port: a static busybox knows no services by name.
get() {
    until page=$(wget -qO- "$1" 2>/dev/null); do sleep 0.1; done
    echo "  $2  $page"
}
echo "  client   $(ip -4 -o address show dev eth0 | awk '{ print $4 }')"
get http://10.88.0.11:80/ "bridge "
get http://192.0.2.1:80/cgi-bin/who "outside"
