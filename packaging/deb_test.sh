#!/bin/sh
# A package is installed, upgraded with its state, removed and purged, in a container of Debian.
#
#   packaging/deb_test.sh OLD.deb NEW.deb [image]
#
# Needs an engine (docker) and the image, debian:bookworm-slim unless named. The container has no network and is removed.
# systemd does not run in it: that services are restarted by an upgrade is not tried here.
set -eu

old=$(realpath "$1")
new=$(realpath "$2")
image=${3:-debian:bookworm-slim}
name="culvert-deb-$$"

say() { echo "deb: $*"; }
inside() { docker exec "$name" "$@"; }
fail() {
    echo "deb: FAILED: $*" >&2
    exit 1
}

trap 'docker rm -f "$name" >/dev/null 2>&1 || true' EXIT
docker run -d --name "$name" --network none --init -v "$old:/old.deb:ro" -v "$new:/new.deb:ro" "$image" sleep 600 >/dev/null

# Starts both gateways for a moment; the state that they leave is what an upgrade must keep.
run_until() { # COUNT
    inside sh -c "
        for gateway in plant cloud; do
            culvert run --config /etc/culvert/\$gateway/culvert.toml 2>>/tmp/gateways.log &
            pids=\"\$pids \$!\"
        done
        for _ in \$(seq 300); do
            if culvert verify --sqlite /var/lib/culvert/cloud/delivered.db --expect $1 >/dev/null 2>&1; then
                kill \$pids
                wait
                exit 0
            fi
            sleep 0.2
        done
        cat /tmp/gateways.log >&2
        exit 1" || fail "$1 records did not arrive"
}

# A gateway's culvert.toml: NAME, PEER, the tunnel's port, that of telemetry, and more of the peer.
configure() {
    inside mkdir -p "/etc/culvert/$1/connectors" "/var/lib/culvert/$1"
    docker exec -i "$name" sh -c "cat >/etc/culvert/$1/culvert.toml" <<TOML
gateway = "$1"
site = "$1"
state = "/var/lib/culvert/$1"
[identity]
certificate = "../certs/gateways/$1.pem"
key = "../certs/gateways/$1.key"
ca = ["../certs/ca.pem"]
trust_domain = "example.org"
[tunnel]
listen = "127.0.0.1:$3"
[telemetry]
listen = "127.0.0.1:$4"
[[peer]]
site = "$2"
gateways = ["$2"]
$5
TOML
}

say "install $(basename "$old")"
inside dpkg -i /old.deb >/dev/null || fail "dpkg -i"
inside test -f /usr/lib/systemd/system/culvert@.service || fail "no unit"
[ "$(inside stat -c '%a %G' /etc/culvert)" = "750 culvert" ] || fail "/etc/culvert is open, or of another group"
inside sh -c 'culvert install plant --root /tmp/none --dry-run >/dev/null' || fail "the program does not run"

inside sh -c 'cd /etc/culvert && culvert pki --directory certs init --trust-domain example.org &&
    culvert pki --directory certs issue gateway plant && culvert pki --directory certs issue gateway cloud' >/dev/null
configure plant cloud 7001 9001 '[[grant]]
to = "cloud"
topics = ["orders"]'
configure cloud plant 7002 9002 'address = ["127.0.0.1:7001"]'
docker exec -i "$name" sh -c 'cat >/etc/culvert/plant/connectors/in.json' <<'JSON'
{"name": "in", "connector.class": "io.culvert.generator.GeneratorSource", "topic": "orders", "count": "1000"}
JSON
docker exec -i "$name" sh -c 'cat >/etc/culvert/cloud/connectors/out.json' <<'JSON'
{"name": "out", "connector.class": "io.culvert.sqlite.SqliteSink", "topics": "orders", "culvert.from": "plant",
 "sqlite.path": "/var/lib/culvert/cloud/delivered.db"}
JSON
run_until 1000
before=$(inside culvert --version)

say "upgrade to $(basename "$new")"
inside dpkg -i /new.deb >/dev/null || fail "dpkg -i, the second time"
after=$(inside dpkg-query -W -f '${Version}' culvert)
inside sed -i 's/"1000"/"2000"/' /etc/culvert/plant/connectors/in.json
run_until 2000
say "$before is $after now; 2000 records, each once"

say "remove"
inside dpkg -r culvert >/dev/null
inside test ! -e /usr/bin/culvert || fail "the program is still there"
inside test -d /var/lib/culvert/plant || fail "removing took the state"
inside test -f /etc/culvert/plant/culvert.toml || fail "removing took the configuration"

say "purge"
inside dpkg -P culvert >/dev/null
left=$(inside sh -c 'find / -xdev -iname "*culvert*" -not -path "/proc/*" -not -path "/tmp/*" 2>/dev/null' || true)
[ -z "$left" ] || fail "left behind: $left"
[ -z "$(inside getent group culvert || true)" ] || fail "the group is left behind"
say "done"
