#!/bin/sh
# Creates the bucket and the user of Penstock. It runs at each start, so every step can be repeated.
set -eu
mc mb --ignore-existing store/penstock
mc admin policy create store penstock /etc/penstock/policy.json
mc admin user add store penstock "$S3_SECRET_KEY"
# `attach` fails when the policy is attached already, so check first (the image has no grep).
case "$(mc admin user info store penstock)" in
  *"PolicyName: "*penstock*) ;;
  *) mc admin policy attach store penstock --user penstock ;;
esac
