#!/usr/bin/env bash
# The compose demo under faults: each network is disconnected, each service killed, the brokers restarted, gateways lose their
# disks; then every record must be there once, whole and in order, and no forbidden path open.
#
#   tests/docker_network_test.sh                builds the image from these sources
#   CULVERT_BUILD=prebuilt tests/docker_network_test.sh         takes target/release/culvert, or what CULVERT_BINARY names
#
# Needs an engine with `docker compose` and leaves nothing behind. It runs beside a demo that is up: under a name and in
# addresses of its own. Below 10 minutes; the exit status is 0 only when everything held, and 3 where it cannot run.
set -euo pipefail
cd "$(dirname "$0")/.."

export COMPOSE_PROJECT_NAME=culvert-test
export DEMO_SUBNET=${TEST_SUBNET:-10.79} HTTPS_PORT=${TEST_HTTPS_PORT:-18443}
readonly RECORDS=100002 RATE=${TEST_RATE:-300} # records: a multiple of 6, for three partitions of two topics
export COMPOSE_ANSI=never COMPOSE_PROGRESS=plain NO_COLOR=1
readonly PROFILES="front prometheus" # services of profiles whose images can be had everywhere
readonly TIME_MAX=${TEST_SECONDS:-590} HOLD=4
readonly GATEWAYS="gw1 gw2 gw3" MEMORY_MAX=$((128 * 1024 * 1024))
ENGINE_IMAGES=(apache/kafka:"${KAFKA_VERSION:-4.3.1}" nginx:"${NGINX_VERSION:-stable}" prom/prometheus:"${PROMETHEUS_VERSION:-v3.5.0}")

# ----- saying and waiting ------------------------------------------------------------------------------------------------

# What is said is seen also while a command is tried whose own output is not.
exec 3>&1
say() { printf '%4d s  %s\n' "$SECONDS" "$*" >&3; }

fail() {
    say "FAILED: $*"
    docker compose ps -a >&3 || true
    docker compose logs --tail 15 gw1 gw2 gw3 generator verifier kafka1 kafka3 2>&1 | cut -c1-300 >&3 || true
    exit 1
}

in_time() { [ "$SECONDS" -lt "$TIME_MAX" ] || fail "more than $TIME_MAX s"; }

# Waits until a command succeeds.
until_ok() { # SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        in_time
        [ "$SECONDS" -lt "$end" ] || fail "$what"
        sleep 1
    done
}

container() { docker compose ps -aq "$1"; }

healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$(container "$1")")" = healthy ]; }

# How many records the verifier has read; it must not have found anything wrong.
count=0
look() {
    local said
    said=$(docker compose exec -T verifier /usr/bin/culvert demo health /tmp/beat --within 90s 2>&1) || true
    case $said in
        *'NOT CLEAN'*) fail "the verifier says: $said" ;;
        *' records'*) count=$(grep -oE '[0-9,]+ records' <<<"$said" | tr -d ',' | awk '{ sum += $1 } END { print sum }') ;;
        *) return 1 ;;
    esac
}

more_than() { look && [ "$count" -gt "$1" ]; }

# After a fault records must flow again, unless all have arrived.
flows() {
    until_ok 120 "the verifier says nothing after: $1" look
    [ "$count" -ge "$RECORDS" ] || until_ok 120 "no record arrives after: $1" more_than "$count"
    sample_memory
    say "$1; $count records have arrived"
}

# ----- memory ------------------------------------------------------------------------------------------------------------

declare -A most
# What the kernel counts for each gateway, without files that it may drop. One look at all: it takes two seconds.
sample_memory() {
    local name used gateway
    while read -r name used; do
        gateway=${name#"$COMPOSE_PROJECT_NAME-"}
        gateway=${gateway%-1}
        used=$(bytes "$used")
        [ "$used" -le "${most[$gateway]:-0}" ] || most[$gateway]=$used
    done < <(docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' $(docker compose ps -q $GATEWAYS) 2>/dev/null | cut -d/ -f1)
}

bytes() { numfmt --from=iec-i "${1%B}" 2>/dev/null || echo 0; } # 19.48MiB

# ----- faults ------------------------------------------------------------------------------------------------------------

# Takes every container out of a network, and puts each back with its name and address.
disconnect() { # NETWORK
    local network=${COMPOSE_PROJECT_NAME}_$1 members id name address service
    members=$(docker network inspect -f '{{range $id, $it := .Containers}}{{$id}} {{$it.IPv4Address}}{{"\n"}}{{end}}' "$network")
    while read -r id address; do
        [ -z "$id" ] || docker network disconnect "$network" "$id"
    done <<<"$members"
    sleep "$HOLD"
    while read -r id address; do
        [ -n "$id" ] || continue
        service=$(docker inspect -f '{{index .Config.Labels "com.docker.compose.service"}}' "$id")
        docker network connect --alias "$service" --ip "${address%/*}" "$network" "$id"
    done <<<"$members"
}

# SIGKILL to process 1. Where it can be seen from here, the engine does not know who did it, and its restart policy acts.
crash() { # SERVICE
    local id pid
    id=$(container "$1")
    pid=$(docker inspect -f '{{.State.Pid}}' "$id")
    if grep -q "$id" "/proc/$pid/cgroup" 2>/dev/null && kill -9 "$pid" 2>/dev/null; then
        until_ok 30 "$1 is not started again" restarted "$id" "$pid"
    else
        docker kill -s KILL "$id" >/dev/null
        docker start "$id" >/dev/null
    fi
    until_ok 180 "$1 is not healthy after it was killed" healthy "$1"
}

restarted() { local pid; pid=$(docker inspect -f '{{.State.Pid}}' "$1") && [ "$pid" != "$2" ] && [ "$pid" != 0 ]; }

# Brokers up to 4.3.1 may forget to end a transaction whose end was asked for as they died (KAFKA-20734, docs/connectors/kafka.md):
# with one broker that stops the sink for good. Gateway 3 is frozen for a moment before, so that none is being ended.
without_commits() { # COMMAND...
    docker compose pause gw3 >/dev/null 2>&1
    sleep 2
    "$@"
    docker compose unpause gw3 >/dev/null 2>&1
}

stop_broker_hard() { docker kill -s KILL "$(container "$1")" >/dev/null && docker start "$(container "$1")" >/dev/null; }

# A gateway and its disk are gone: what the sink has not got is read again.
lose_disk() { # GATEWAY...
    local gateway
    docker compose rm -sf "$@" >/dev/null 2>&1
    for gateway in "$@"; do docker volume rm "${COMPOSE_PROJECT_NAME}_$gateway" >/dev/null; done
    docker compose up -d --no-deps --no-build --wait "$@" >/dev/null 2>&1
}

isolation() { # MORE-OPTIONS...
    docker compose run --rm -T isolation demo verify-isolation --project "$COMPOSE_PROJECT_NAME" "$@" 2>/dev/null
}

# ----- profiles ----------------------------------------------------------------------------------------------------------

# What a browser on this host gets.
page() { curl -fsS --max-time 5 --cacert "$settings.ca" "https://localhost:$HTTPS_PORT$1"; }

all_scraped() { [ "$(page '/prometheus/api/v1/query?query=up' | grep -o '"gateway":"gw[123]"[^]]*,"1"\]' | wc -l)" -eq 3 ]; }

rules_loaded() { page /prometheus/api/v1/rules | grep -q CulvertStreamsHalted; }

with_profiles() {
    docker compose up -d --no-deps --no-build --wait $PROFILES >/dev/null 2>&1 || fail "$PROFILES do not start"
    docker compose cp front:/certs/proxy/web-ca.pem "$settings.ca" >/dev/null 2>&1 || fail "the proxy has no authority's certificate"
    page /readyz >/dev/null || fail "gateway 2 is not ready behind the proxy"
    until_ok 60 "Prometheus has not read all gateways" all_scraped
    rules_loaded || fail "Prometheus has no rules"
    if found=$(isolation); then fail "the paths that profiles open were not found"; fi
    isolation --accept "${PROFILES// /,}" || fail "more is open than what the profiles open"
    say "$PROFILES were started: they read all gateways, and the $(grep -c "^opened on purpose" <<<"$found") paths that they open are found"
    docker compose rm -sf $PROFILES >/dev/null 2>&1
}

# ----- the test ------------------------------------------------------------------------------------------------------------

settings=$(mktemp)
printf 'DEMO_RECORDS=%s\nDEMO_RATE=%s\n' "$RECORDS" "$RATE" >"$settings"
export DEMO_SETTINGS=$settings

clean_up() {
    docker compose --profile tools down -v -t 2 --remove-orphans >/dev/null 2>&1 || true
}
end() { clean_up; rm -f "$settings" "$settings.ca"; }
trap end EXIT
trap 'exit 130' INT TERM

docker version --format '{{.Server.Version}}' >/dev/null || { echo "no container engine answers" >&2; exit 3; }
docker compose version >/dev/null || { echo "docker compose is not installed" >&2; exit 3; }
for image in "${ENGINE_IMAGES[@]}"; do
    docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image" >/dev/null || { echo "no image $image" >&2; exit 3; }
done
clean_up

docker compose build >/dev/null 2>&1 || docker compose build
say "the image is built: $(docker image inspect -f '{{.Size}}' "culvert:${CULVERT_TAG:-demo}" | numfmt --to=iec-i --suffix=B)"
SECONDS=0
docker compose up -d --wait >/dev/null 2>&1 || fail "not everything is healthy"
say "up and healthy"
until_ok 120 "no record arrives" more_than 0
sample_memory

isolation || fail "a forbidden path is open"
docker network connect "${COMPOSE_PROJECT_NAME}_network3" "$(container kafka1)"
if found=$(isolation); then fail "a path that was opened on purpose was not found"; fi
docker network disconnect "${COMPOSE_PROJECT_NAME}_network3" "$(container kafka1)"
strange=$(docker compose run --rm -T isolation demo verify-isolation --project nobody 2>&1) && fail "nobody's demo is apart"
grep -q CULVERT-D002 <<<"$strange" || fail "nobody's demo: $strange"
say "no forbidden path is open; with Kafka 1 put into network 3, $(grep -c '^OPEN' <<<"$found") are found"

for network in network1 network2 network3 link12 link23; do
    disconnect "$network"
    flows "$network was disconnected for $HOLD s"
done

for service in gw1 gw2 gw3 generator verifier proxy kafka1; do
    crash "$service"
    flows "$service was killed"
done
without_commits stop_broker_hard kafka3
until_ok 180 "kafka3 is not healthy after it was killed" healthy kafka3
flows "kafka3 was killed"

docker compose restart -t 30 kafka1 >/dev/null 2>&1
until_ok 180 "kafka1 is not healthy after a restart" healthy kafka1
without_commits docker compose restart -t 30 kafka3 >/dev/null 2>&1
until_ok 180 "kafka3 is not healthy after a restart" healthy kafka3
flows "both brokers were restarted"

lose_disk gw1 gw2
flows "gateways 1 and 2 lost their disks, and what was on its way is replayed"

say "waiting for the last record"
all_written() { docker compose exec -T generator /usr/bin/culvert demo health /tmp/beat | grep -q '^100,002 of 100,002'; }
until_ok "$TIME_MAX" "the generator did not write all" all_written
until_ok 180 "not every record arrives" more_than $((RECORDS - 1))

docker compose exec -T gw3 /usr/bin/culvert prove --wait 60s || fail "the proof is not complete"
for topic in orders sensors; do
    docker compose exec -T verifier /usr/bin/culvert verify --properties /etc/culvert/verifier.properties --topic "$topic" \
        --expect $((RECORDS / 2)) || fail "topic $topic is not as it should be"
done
isolation || fail "a forbidden path is open after the faults"
with_profiles

sample_memory
for gateway in $GATEWAYS; do
    id=$(container "$gateway")
    [ "$(docker inspect -f '{{.State.OOMKilled}}' "$id")" = false ] || fail "$gateway ran out of memory"
    limit=$(docker inspect -f '{{.HostConfig.Memory}}' "$id")
    [ "$limit" -eq "$MEMORY_MAX" ] && [ "${most[$gateway]}" -lt "$MEMORY_MAX" ] || fail "$gateway: memory ${most[$gateway]} of $limit"
    say "$gateway used $((most[$gateway] / 1048576)) MiB of memory at most, of 128"
done
in_time
say "PASSED: $RECORDS Avro records, each once, through 5 networks cut, 8 services killed, 2 brokers restarted, 2 disks lost"
