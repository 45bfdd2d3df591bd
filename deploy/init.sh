#!/bin/sh
# Makes the secrets and the .env of compose.yaml, once: what is there already stays as it is.
set -eu
cd "$(dirname "$0")/.."

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# The folder is closed to others. Its files are not: containers read them as users who have other numbers here.
install -d -m 0700 deploy/secrets
for name in api_keys redis_password s3_secret_key webhook_secrets grafana_password; do
  file=deploy/secrets/$name
  [ -s "$file" ] && continue
  case $name in
    api_keys) printf 'me:pen_%s\n' "$(random)" ;;
    webhook_secrets) printf 'whsec_%s\n' "$(head -c 32 /dev/urandom | base64)" ;;
    *) printf '%s\n' "$(random)" ;;
  esac > "$file"
  chmod 0644 "$file"
done

[ -e .env ] || { cp deploy/.env.example .env && chmod 0600 .env; }
echo "The API key is in deploy/secrets/api_keys, behind the name 'me:'. Start with: docker compose up -d --build"
