#!/bin/sh
# Has PostgreSQL write all it holds in memory to its volume before its pod goes down, so that it starts
# quickly in the destination. A replica makes a restartpoint instead.
#
#   sts-migrate run … --before-pod-command examples/commands/checkpoint.sh
#
# Needs kubectl with the migration's contexts. PGUSER names the user, `postgres` if it is not set.
set -eu

kubectl --context "$STS_MIGRATE_SOURCE_CONTEXT" -n "$STS_MIGRATE_SOURCE_NAMESPACE" exec "$STS_MIGRATE_POD" -- \
    psql --no-psqlrc --username "${PGUSER:-postgres}" --set ON_ERROR_STOP=1 --command CHECKPOINT
