#!/bin/sh
# Puts what deploy/backup.sh has written into a new installation, before its first start: deploy/restore.sh FOLDER
#
# It refuses where there is data already. COMPOSE is the command of Compose, as for deploy/backup.sh.
set -eu
: "${1:?usage: deploy/restore.sh FOLDER}"
from=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
compose() { ${COMPOSE:-docker compose} "$@"; }

tar -C deploy -xf "$from/secrets.tar"
sh deploy/init.sh
compose create redis objects
for service in redis objects; do
  docker run --rm --user 0 --entrypoint sh --volumes-from "$(compose ps -aq $service)" -v "$from":/from:ro \
    valkey/valkey:8.1-alpine -c "test -z \"\$(ls -A /data)\" && tar -C /data -xf /from/$service.tar"
done
echo "restored; start with: docker compose up -d"
