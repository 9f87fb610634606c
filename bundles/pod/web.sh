# A web server. The pod's other container reaches it at its own loopback.
mkdir /tmp/www
echo "Served from the container web, hostname $(hostname)." >/tmp/www/index.html
exec httpd -f -p 127.0.0.1:8080 -h /tmp/www
