#!/bin/sh
# Starts SeaweedFS with one bucket, and one user who may use that bucket and nothing else. Only the S3 port listens
# outside the container: the others know no passwords.
set -eu

umask 077
cat > /tmp/s3.json <<JSON
{"identities": [{
  "name": "penstock",
  "credentials": [{"accessKey": "penstock", "secretKey": "$(cat /run/secrets/s3_secret_key)"}],
  "actions": ["Read:penstock", "Write:penstock", "List:penstock", "Tagging:penstock"]
}]}
JSON

# The server answers at once where the bucket is there already, and is asked again until it has started.
(
  until echo "s3.bucket.create -name penstock" | weed -logdir=/tmp shell -master 127.0.0.1:9333 -filer 127.0.0.1:8888 \
    2>&1 | grep -E "create bucket|already exists"; do sleep 1; done
) &

exec weed -logtostderr=true server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir=/data -volume.max=0 \
  -master.volumeSizeLimitMB=1024 -master.telemetry=false -filer -s3 -s3.ip.bind=0.0.0.0 -s3.port=9000 -s3.config=/tmp/s3.json \
  -s3.port.iceberg=0 -s3.port.lance=0
