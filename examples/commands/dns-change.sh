#!/bin/sh
# Points a name in Route 53 at the destination's load balancer, and back at the source's on rollback.
#
#   HOSTED_ZONE=Z0123456789 RECORD=shop.example.com SERVICE=Service/web \
#   sts-migrate run … --cutover-command examples/commands/dns-change.sh
#
# SERVICE says whose address it is, `Service/NAME` or `Ingress/NAME`. Give the record a short time to live
# (TTL, 60 seconds if it is not set) a day before: clients keep the old address for as long as the old one says.
# Needs the AWS CLI with the right to change the zone's records.
set -eu
: "${HOSTED_ZONE:?is not set: the id of the hosted zone}"
: "${RECORD:?is not set: the name to change}"
: "${SERVICE:?is not set: Service/NAME or Ingress/NAME}"

line=$(printf '%s\n' "$STS_MIGRATE_ADDRESSES" | grep "^$SERVICE ") || {
    echo "$SERVICE has no address; there are:" >&2
    printf '%s\n' "$STS_MIGRATE_ADDRESSES" >&2
    exit 1
}
# Kind/name, old addresses, new addresses; `back` is behind the command on rollback.
set -- "${1:-forward}" $line
case "$1" in
forward) address=$4 ;;
back) address=$3 ;;
*) echo "what does \`$1\` mean?" >&2 && exit 1 ;;
esac
if [ "$address" = - ]; then
    echo "$SERVICE has no address in the cluster that $RECORD is to lead to" >&2
    exit 1
fi

change=$(aws route53 change-resource-record-sets --hosted-zone-id "$HOSTED_ZONE" --query ChangeInfo.Id --output text \
    --change-batch "{\"Changes\": [{\"Action\": \"UPSERT\", \"ResourceRecordSet\": {\"Name\": \"$RECORD\",
        \"Type\": \"CNAME\", \"TTL\": ${TTL:-60}, \"ResourceRecords\": [{\"Value\": \"$address\"}]}}]}")
aws route53 wait resource-record-sets-changed --id "$change"
echo "$RECORD leads to $address"
