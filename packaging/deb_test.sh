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

# Starts the gateway for a moment; the state it leaves is what an upgrade must keep.
run_until() { # COUNT
    inside sh -c "culvert run --config /etc/culvert/plant/culvert.toml 2>>/tmp/gateway.log & echo \$! >/tmp/pid
        for _ in \$(seq 300); do
            if culvert verify --sqlite /var/lib/culvert/plant/delivered.db --expect $1 >/dev/null 2>&1; then
                kill \$(cat /tmp/pid); wait \$(cat /tmp/pid); exit 0
            fi
            sleep 0.1
        done
        cat /tmp/gateway.log >&2; exit 1" || fail "$1 records did not arrive"
}

say "install $(basename "$old")"
inside dpkg -i /old.deb >/dev/null || fail "dpkg -i"
inside test -f /usr/lib/systemd/system/culvert@.service || fail "no unit"
[ "$(inside stat -c '%a %G' /etc/culvert)" = "750 culvert" ] || fail "/etc/culvert is open, or of another group"
inside sh -c 'culvert install plant --root /tmp/none --dry-run >/dev/null' || fail "the program does not run"

inside mkdir -p /etc/culvert/plant/connectors /var/lib/culvert/plant
docker exec -i "$name" sh -c 'cat >/etc/culvert/plant/culvert.toml' <<'TOML'
gateway = "plant"
site = "plant"
state = "/var/lib/culvert/plant"
TOML
docker exec -i "$name" sh -c 'cat >/etc/culvert/plant/connectors/in.json' <<'JSON'
{"name": "in", "connector.class": "io.culvert.generator.GeneratorSource", "topic": "orders", "count": "1000"}
JSON
docker exec -i "$name" sh -c 'cat >/etc/culvert/plant/connectors/out.json' <<'JSON'
{"name": "out", "connector.class": "io.culvert.sqlite.SqliteSink", "topics": "orders", "culvert.from": "plant",
 "sqlite.path": "/var/lib/culvert/plant/delivered.db"}
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
