#!/bin/sh
# Puts what deploy/backup.sh has written into a new installation, before its first start: deploy/restore.sh FOLDER
#
# Where there is data already, it refuses, and leaves the secrets as they are. COMPOSE is the command of Compose, as for
# deploy/backup.sh.
set -eu
: "${1:?usage: deploy/restore.sh FOLDER}"
from=$(cd "$1" && pwd)
ls "$from/redis.tar" "$from/objects.tar" "$from/secrets.tar" > /dev/null
cd "$(dirname "$0")/.."
compose() { ${COMPOSE:-docker compose} "$@"; }
beside() { # runs a command where the data of a service is
  docker run --rm --user 0 --entrypoint sh --volumes-from "$(compose ps -aq "$1")" -v "$from":/from:ro \
    valkey/valkey:8.1-alpine -c "$2"
}

sh deploy/init.sh > /dev/null # a container is not made without its secrets; those of the backup replace them
compose create --no-recreate redis objects
for service in redis objects; do
  beside $service "test -z \"\$(ls -A /data)\" || { echo 'refused: $service has data already' >&2; exit 1; }"
done
tar -C deploy -xf "$from/secrets.tar"
for service in redis objects; do
  beside $service "tar -C /data -xf /from/$service.tar"
done
echo "restored; start with: docker compose up -d"
