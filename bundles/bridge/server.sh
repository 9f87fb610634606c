# A web server with an address of its own.
mkdir /tmp/www
echo "Served by $(hostname), $(ip -4 -o address show dev eth0 | awk '{ print $4 }')." >/tmp/www/index.html
exec httpd -f -p 80 -h /tmp/www
