#!/bin/sh
# Writes the data of the installation of compose.yaml into a new folder: deploy/backup.sh /backups/2026-11-29
#
# Redis and the object store belong together, so that everything stops meanwhile, and then starts again. The secrets are
# in the folder too: keep it closed. COMPOSE is the command of Compose with its options, `docker compose` by default.
set -eu
case "${1:?usage: deploy/backup.sh NEW_FOLDER}" in
  /*) to=$1 ;;
  *) to=$PWD/$1 ;;
esac
cd "$(dirname "$0")/.."
compose() { ${COMPOSE:-docker compose} "$@"; }

# The volumes are those of the containers: one of a wrong name would be made, and be saved empty.
redis=$(compose ps -aq redis)
objects=$(compose ps -aq objects)
: "${redis:?there is no such container}" "${objects:?there is no such container}"
mkdir -p "$(dirname "$to")"
mkdir -m 0700 "$to" # a folder that is there may have the last backup, or be open to others

save() {
  docker run --rm --user 0 --entrypoint tar --volumes-from "$1:ro" -v "$to":/to \
    valkey/valkey:8.1-alpine -C /data -cf "/to/$2" .
}
trap 'compose start' EXIT
trap 'exit 1' HUP INT TERM
compose stop
save "$redis" redis.tar
save "$objects" objects.tar
tar -C deploy -cf "$to/secrets.tar" secrets

tar -tf "$to/redis.tar" | grep -q appendonlydir
tar -tf "$to/objects.tar" | grep -q filerldb
echo "complete: $to"
