#!/bin/sh
# Users (SCRAM) and rights (ACLs) of the gateway on a Kafka that checks both.
#
#   kafka-acls.sh print     the table of rights; asks no Kafka
#   kafka-acls.sh acls      give the rights of the table
#   kafka-acls.sh users     make the SCRAM users whose passwords are in the environment:
#                           LISTEN_PASSWORD, MATCH_PASSWORD, PUBLISH_PASSWORD, ALERTS_PASSWORD,
#                           OPERATOR_PASSWORD, READER_PASSWORD and, for each private stream,
#                           STREAM_<NAME>_PASSWORD, with capitals and _ for -
#                           (those that are not set are left as they are)
#
# Environment:
#   STREAMS           names of the private streams, as in "ourteam other-team"; none: ""
#   KAFKA_BOOTSTRAP   host:port of a broker                     (localhost:9092)
#   KAFKA_BIN         folder of kafka-acls.sh, kafka-configs.sh (/opt/kafka/bin)
#   KAFKA_ADMIN       client properties of an administrator, with his password; a file
#
# Giving a right twice does no harm. Nothing is taken away: do that with kafka-acls.sh --remove.
set -euf
# [a-z] means these 26 letters.
LC_ALL=C
export LC_ALL

bootstrap=${KAFKA_BOOTSTRAP:-localhost:9092}
bin=${KAFKA_BIN:-/opt/kafka/bin}
streams=${STREAMS:-}

for stream in $streams; do
    case $stream in
    [!a-z]* | *[!a-z0-9_-]*)
        echo "STREAMS: $stream: a stream's name has a-z, 0-9, _ and -" >&2
        exit 2
        ;;
    esac
done

# user | operations | resource | how its name is meant | name
#
# Every service looks whether all topics are there and makes those that are not: Describe, Create.
# Names of groups and transactions are those that the services use; Spark invents the rest of its own.
# What lies on mm.notices, mm.regionlog, mm.held, mm.deadletter, mm.retry, mm.verdicts, mm.lookups, mm.alarms,
# mm.ledger, mm.state and mm.marker holds or betrays private data: readers and streams must not have it.
# Operators give verdicts and send dead letters again.
table() {
    gateway_rows
    reader_rows mmgateway-reader
    for stream in $streams; do
        stream_rows "$stream"
    done
}

gateway_rows() {
    cat <<'ROWS'
mmgateway-listen  | Describe,Create | topic | prefixed | mm.
mmgateway-listen  | Describe,Create | topic | prefixed | alerts.
mmgateway-listen  | Read,Write | topic | literal | mm.notices
mmgateway-listen  | Read,Write | topic | literal | mm.regionlog
mmgateway-listen  | Read,Write | topic | literal | mm.regions
mmgateway-listen  | Write | topic | prefixed | mm.private.
mmgateway-listen  | Read,Write | topic | literal | mm.held
mmgateway-listen  | Read | topic | literal | mm.retry
mmgateway-listen  | Read,Write | topic | literal | mm.marker
mmgateway-listen  | Write | topic | literal | mm.alarms
mmgateway-listen  | Write | topic | literal | mm.deadletter
mmgateway-listen  | Write | topic | literal | mm.ledger
mmgateway-listen  | Describe,Write | transactional-id | literal | mmgateway-listen
mmgateway-listen  | Read | group | literal | mmgateway-reader
mmgateway-match   | Describe,Create | topic | prefixed | mm.
mmgateway-match   | Describe,Create,Read | topic | prefixed | alerts.
mmgateway-match   | Read | topic | literal | mm.regionlog
mmgateway-match   | Read | topic | literal | mm.verdicts
mmgateway-match   | Read,Write | topic | literal | mm.lookups
mmgateway-match   | Read,Write | topic | prefixed | mm.candidates.
mmgateway-match   | Read,Write | topic | prefixed | mm.private.
mmgateway-match   | Read,Write | topic | literal | mm.state
mmgateway-match   | Read,Write | topic | literal | mm.marker
mmgateway-match   | Write | topic | literal | mm.deadletter
mmgateway-match   | Read,Write | topic | literal | mm.ledger
mmgateway-match   | Write | topic | literal | mm.alarms
mmgateway-match   | Describe,Write | transactional-id | literal | mmgateway-match
mmgateway-match   | Read | group | literal | mmgateway-reader
mmgateway-match   | Read | group | literal | mmgateway-packets
mmgateway-match   | Read | group | prefixed | spark-kafka-source-
mmgateway-publish | Describe,Create | topic | prefixed | mm.
mmgateway-publish | Describe,Create | topic | prefixed | alerts.
mmgateway-publish | Read | topic | prefixed | mm.candidates.
mmgateway-publish | Read,Write | topic | literal | mm.voevents
mmgateway-publish | Read,Write | topic | prefixed | mm.private.
mmgateway-publish | Read,Write | topic | literal | mm.marker
mmgateway-publish | Read | topic | literal | mm.retry
mmgateway-publish | Write | topic | literal | mm.deadletter
mmgateway-publish | Write | topic | literal | mm.ledger
mmgateway-publish | Describe,Write | transactional-id | literal | mmgateway-publish
mmgateway-publish | Read | group | literal | mmgateway-reader
mmgateway-alerts  | Describe,Create,Write | topic | prefixed | alerts.
mmgateway-operator | Read | topic | prefixed | mm.
mmgateway-operator | Write | topic | literal | mm.verdicts
mmgateway-operator | Write | topic | literal | mm.lookups
mmgateway-operator | Write | topic | literal | mm.retry
mmgateway-operator | Write | topic | literal | mm.regionlog
mmgateway-operator | Write | topic | literal | mm.marker
mmgateway-operator | Read,Write | topic | prefixed | alerts.
mmgateway-operator | Describe,Write | transactional-id | literal | mmgateway-retry
mmgateway-operator | Read | group | literal | mmgateway-reader
mmgateway-operator | Read | group | literal | mmgateway-packets
mmgateway-operator | Read | group | prefixed | operator-
mmgateway-reader  | Read | group | prefixed | reader-
ROWS
}

# What everybody may read.
reader_rows() {
    cat <<ROWS
$1 | Read | topic | literal | mm.regions
$1 | Read | topic | prefixed | mm.candidates.
$1 | Read | topic | literal | mm.voevents
ROWS
}

# Names end in a dot, so that one stream's rights are not those of another whose name goes on.
stream_rows() {
    reader_rows "mmgateway-stream-$1"
    cat <<ROWS
mmgateway-stream-$1 | Read | topic | prefixed | mm.private.$1.
mmgateway-stream-$1 | Read | group | prefixed | stream.$1.
ROWS
}

admin() {
    tool=$1
    shift
    if [ -n "${KAFKA_ADMIN:-}" ]; then
        set -- --command-config "$KAFKA_ADMIN" "$@"
    fi
    "$bin/$tool" --bootstrap-server "$bootstrap" "$@"
}

give_rights() {
    table | while IFS='|' read -r user operations resource pattern name; do
        # Blanks around the columns go.
        set -- $user $operations $resource $pattern $name
        who=$1 what=$3 how=$4 which=$5
        options=
        for operation in $(echo "$2" | tr ',' ' '); do
            options="$options --operation $operation"
        done
        # shellcheck disable=SC2086
        admin kafka-acls.sh --add --allow-principal "User:$who" $options \
            "--$what" "$which" --resource-pattern-type "$how" </dev/null
    done
}

make_user() {
    user=$1 password=$2
    if [ -z "$password" ]; then
        echo "$user: no password given, left as it is" >&2
        return
    fi
    # By a file: a command line can be read by everybody on the machine.
    file=$(umask 077 && mktemp)
    trap 'rm -f "$file"' EXIT INT TERM
    printf 'SCRAM-SHA-512=iterations=8192,password=%s\n' "$password" >"$file"
    admin kafka-configs.sh --alter --entity-type users --entity-name "$user" --add-config-file "$file"
    rm -f "$file"
}

case ${1:-} in
print)
    table
    ;;
acls)
    give_rights
    ;;
users)
    make_user mmgateway-listen "${LISTEN_PASSWORD:-}"
    make_user mmgateway-match "${MATCH_PASSWORD:-}"
    make_user mmgateway-publish "${PUBLISH_PASSWORD:-}"
    make_user mmgateway-alerts "${ALERTS_PASSWORD:-}"
    make_user mmgateway-operator "${OPERATOR_PASSWORD:-}"
    make_user mmgateway-reader "${READER_PASSWORD:-}"
    for stream in $streams; do
        variable=STREAM_$(printf %s "$stream" | tr a-z- A-Z_)_PASSWORD
        make_user "mmgateway-stream-$stream" "$(printenv "$variable" || true)"
    done
    ;;
*)
    sed -n '2,20s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
