#!/bin/sh
# Makes the bucket and the user of Penstock. Every step may be repeated: it runs at each start.
set -eu
mc mb --ignore-existing store/penstock
mc admin policy create store penstock /etc/penstock/policy.json
mc admin user add store penstock "$S3_SECRET_KEY"
# `attach` fails when nothing is left to do, so look first (the image has no grep).
case "$(mc admin user info store penstock)" in
  *"PolicyName: "*penstock*) ;;
  *) mc admin policy attach store penstock --user penstock ;;
esac
