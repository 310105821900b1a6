#!/bin/sh
# Counts the rows of all tables of a PostgreSQL before its pod goes down, and again in the destination:
# no table may be missing or have fewer rows. (Rows that clients delete between the count and the stop
# of the pod look like a loss: stop writing first, or look and type the command again.)
#
#   sts-migrate run … --before-pod-command examples/commands/row-count.sh \
#                     --verify-command examples/commands/row-count.sh
#
# The counts are kept in ROW_COUNT_DIR, here if it is not set. PGUSER and PGDATABASE say what is counted,
# both `postgres` if they are not set. Needs kubectl with the migration's contexts.
set -eu

QUERY="SELECT format('%I.%I', schemaname, relname),
              (xpath('/row/rows/text()', query_to_xml(
                  format('SELECT count(*) AS rows FROM %I.%I', schemaname, relname), false, true, '')))[1]
       FROM pg_stat_user_tables ORDER BY 1"
before="${ROW_COUNT_DIR:-.}/row-count-$STS_MIGRATE_MIGRATION-$STS_MIGRATE_POD"

count() { # context, namespace
    kubectl --context "$1" -n "$2" exec "$STS_MIGRATE_POD" -- \
        psql --no-psqlrc --username "${PGUSER:-postgres}" --dbname "${PGDATABASE:-postgres}" \
        --set ON_ERROR_STOP=1 --no-align --tuples-only --field-separator ' ' --command "$QUERY"
}

case "$STS_MIGRATE_STEP" in
before-pod)
    count "$STS_MIGRATE_SOURCE_CONTEXT" "$STS_MIGRATE_SOURCE_NAMESPACE" > "$before.new"
    mv "$before.new" "$before"
    echo "$STS_MIGRATE_POD: $(wc -l < "$before") tables counted"
    ;;
verify)
    if [ ! -e "$before" ]; then
        echo "$STS_MIGRATE_POD: there is no count from before ($before)" >&2
        exit 1
    fi
    count "$STS_MIGRATE_DESTINATION_CONTEXT" "$STS_MIGRATE_DESTINATION_NAMESPACE" > "$before.after"
    awk -v pod="$STS_MIGRATE_POD" '
        FILENAME == ARGV[1] { before[$1] = $2; next }
        { after[$1] = $2 }
        END {
            for (table in before)
                if (after[table] == "" || after[table] + 0 < before[table] + 0) {
                    printf "%s: %s had %d rows and has %s\n", pod, table, before[table], after[table] == "" ? "none: it is missing" : after[table]
                    wrong = 1
                }
            if (!wrong) print pod ": no rows are missing"
            exit wrong
        }' "$before" "$before.after"
    ;;
esac
