//! What the documents say works: every command, definition and query in them is run, or named here with the reason.

use crate::cluster;
use anyhow::{Context, bail, ensure};
use culvert_tests::gateway::program;
use culvert_tests::process::Process;
use culvert_tests::{Scratch, wait_for, workspace};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

/// Commands that no test of this module runs, and why. One that no document shows any more is a fault.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "cargo xtask demo",
        "builds an optimised program, minutes; `demo.rs` runs what it starts",
    ),
    (
        "cargo xtask demo --input mine.jsonl --key-field id",
        "as cargo xtask demo",
    ),
    (
        "cargo xtask damage",
        "minutes to hours; the outbox's own tests run a part of it",
    ),
    ("cargo xtask damage sled --seed 7", "as cargo xtask damage"),
    ("culvert fsck", "`damage.rs` runs it on damaged outboxes"),
    ("culvert fsck --repair", "as culvert fsck"),
    ("culvert fsck --accept-loss plant/readings/0", "as culvert fsck"),
    ("cargo xtask test", "runs this test"),
    (
        "cargo xtask prepare",
        "installs and fetches; comes before this test",
    ),
    ("cargo xtask check", "lints, in CI by itself"),
    ("culvert demo", "run by `demo.rs`, with fewer records"),
    ("culvert chaos", "run by `demo.rs`, for half a minute"),
    (
        "culvert chaos --seed 7 --minutes 10 --rate 10000",
        "as culvert chaos",
    ),
    ("culvert chaos --only kill,freeze", "as culvert chaos"),
    (
        "cargo xtask deb",
        "builds a release; its package is tried in a container by `cargo xtask deb --try-it`",
    ),
    (
        "culvert pki issue gateway plant-culvert-0",
        "as culvert pki issue gateway plant-1, with another name",
    ),
    ("culvert install", "run by `gateway/tests/cli.rs`, into a folder"),
    ("culvert install plant --site plant", "as culvert install"),
    (
        "culvert check --config /etc/culvert/plant/culvert.toml",
        "as culvert install",
    ),
    (
        "cargo xtask chaos --seed 7 --minutes 10",
        "minutes; `chaos/tests/short.rs` runs what it starts",
    ),
    (
        "cargo xtask chaos --seed 1017 --minutes 0",
        "as cargo xtask chaos --seed 7 --minutes 10",
    ),
    (
        "cargo xtask chaos --seed 1017 --dry",
        "as cargo xtask chaos --seed 7 --minutes 10",
    ),
    (
        "cargo xtask chaos --schedule found.txt",
        "as cargo xtask chaos --seed 7 --minutes 10",
    ),
    (
        "cargo xtask soak storm",
        "minutes, and most of the machine; the same datagrams, fewer of them, in `hostile.rs`",
    ),
    ("cargo xtask bench all", "40 minutes, and the machine for itself"),
    (
        "cargo xtask bench mirror --quick",
        "minutes, and the machine for itself",
    ),
    ("cargo xtask bench micro", "as cargo xtask bench mirror --quick"),
    ("cargo xtask bench plugins", "as cargo xtask bench all"),
    (
        "cargo xtask fuzz",
        "builds everything with coverage; `fuzz/tests` runs the targets",
    ),
    ("cargo xtask fuzz --hours 1 frame message", "as cargo xtask fuzz"),
    ("cargo xtask fuzz --light", "as cargo xtask fuzz"),
    ("cargo xtask fuzz --cpu-seconds 600", "as cargo xtask fuzz"),
    (
        "culvert plugin keygen acme",
        "run by `gateway/tests/cli.rs`, with what signs and verifies",
    ),
    (
        "culvert plugin sign order-check.wasm --key acme.key",
        "as culvert plugin keygen acme",
    ),
    (
        "culvert plugin verify order-check.wasm --key acme.pub",
        "as culvert plugin keygen acme",
    ),
    (
        "culvert plugin replay orders.failure",
        "run by `gateway/tests/cli.rs`, with a failure that was recorded",
    ),
    (
        "culvert plugin new --lang rust check-amounts",
        "run by `toolchains.rs`, for each language",
    ),
    (
        "culvert plugin build check-amounts",
        "run by `toolchains.rs`, for each language",
    ),
    (
        "culvert plugin test check-amounts",
        "run by `toolchains.rs`, for each language",
    ),
    (
        "docker compose up -d --build --wait",
        "needs a container engine; run by `tests/docker_network_test.sh`",
    ),
    (
        "docker compose logs -f verifier",
        "shows for ever what `tests/docker_network_test.sh` reads",
    ),
    (
        "docker compose exec gw3 culvert status --streams",
        "as docker compose up -d --build --wait",
    ),
    (
        "docker compose exec gw3 culvert prove --wait 30s",
        "as docker compose up -d --build --wait",
    ),
    (
        "docker compose --profile front up -d --wait",
        "needs a container engine, and a port of this host",
    ),
    (
        "curl --insecure https://localhost:8443/metrics",
        "as docker compose --profile front up -d --wait",
    ),
    (
        "docker network disconnect culvert_link12 culvert-gw1-1",
        "as docker compose up -d --build --wait",
    ),
    (
        "docker network connect --alias gw1 --ip 10.77.12.101 culvert_link12 culvert-gw1-1",
        "as docker compose up -d --build --wait",
    ),
    (
        "docker kill --signal KILL culvert-gw2-1 && docker start culvert-gw2-1",
        "as docker compose up -d --build --wait",
    ),
    (
        "docker pause culvert-gw3-1 && sleep 20 && docker unpause culvert-gw3-1",
        "as docker compose up -d --build --wait",
    ),
    (
        "docker compose rm -sf gw1 && docker volume rm culvert_gw1 && docker compose up -d --wait gw1",
        "as docker compose up -d --build --wait",
    ),
    (
        "docker compose run --rm isolation",
        "as docker compose up -d --build --wait",
    ),
    (
        "docker network connect culvert_network3 culvert-kafka1-1",
        "as docker compose up -d --build --wait",
    ),
    (
        "docker network disconnect culvert_network3 culvert-kafka1-1",
        "as docker compose up -d --build --wait",
    ),
];

/// Commands that are run with options that shorten them.
const SHORTENED: &[(&str, &str)] = &[
    ("culvert demo --directory my-demo", "--records 4000 --rate 4000"),
    (
        "culvert demo --bootstrap-source kafka-a:9092 --properties-source a.properties \
         --bootstrap-target kafka-b:9092 --properties-target b.properties",
        "--records 4000 --rate 4000",
    ),
    (
        "culvert plugin bench order-check --sample orders.jsonl",
        "--seconds 0.1",
    ),
];

/// `culvert.toml` where a document leaves it to its reader.
const OWN: &str = r#"gateway = "plant-1"
site = "plant"
state = "state"
telemetry.listen = "127.0.0.1:0"
tunnel.listen = "127.0.0.1:0"

[identity]
certificate = "certs/gateways/plant-1.pem"
key = "certs/gateways/plant-1.key"
ca = ["certs/ca.pem"]
trust_domain = "example.org"

[[peer]]
site = "hub"
gateways = ["gw2"]
address = ["127.0.0.1:9"]
"#;

#[test]
fn every_command_is_run_here_or_named_with_a_reason() -> anyhow::Result<()> {
    let run = [
        OWN_GATEWAY,
        FIRST_STEPS,
        RECEIPTS,
        BETWEEN_CLUSTERS,
        THREE_NETWORKS,
        PLUGINS,
        BOOK,
    ]
    .concat();
    let shown: BTreeSet<String> = pages()?
        .iter()
        .flat_map(|page| page.commands())
        .filter(|command| !command.starts_with("cargo test") && !command.starts_with("cargo build"))
        .collect();
    let known: BTreeSet<String> = run
        .iter()
        .chain(NOT_RUN.iter().map(|(command, _)| command))
        .map(|command| (*command).to_owned())
        .collect();
    let unknown: Vec<_> = shown.difference(&known).collect();
    ensure!(
        unknown.is_empty(),
        "shown, and neither run nor excused: {unknown:#?}"
    );
    let gone: Vec<_> = known.difference(&shown).collect();
    ensure!(
        gone.is_empty(),
        "run or excused, and not shown any more: {gone:#?}"
    );
    Ok(())
}

#[test]
fn every_mention_of_a_command_names_options_that_it_has() -> anyhow::Result<()> {
    let mut helps = Helps::default();
    let (mut mentions, mut faults) = (0, Vec::new());
    for page in pages()? {
        for said in page.mentions() {
            mentions += 1;
            let fault = helps.fault(&said)?;
            faults.extend(fault.map(|fault| format!("{}: `{said}`: {fault}", page.path)));
        }
    }
    for verb in helps.verbs()? {
        for said in examples(&helps.of(&verb)?) {
            mentions += 1;
            let fault = helps.fault(&said)?;
            faults.extend(fault.map(|fault| format!("help of {verb:?}: `{said}`: {fault}")));
        }
    }
    ensure!(faults.is_empty(), "{faults:#?}");
    ensure!(mentions > 50, "only {mentions} mentions were found");
    Ok(())
}

#[test]
fn every_definition_is_valid() -> anyhow::Result<()> {
    let mut count = 0;
    for page in pages()? {
        for definition in page.blocks("json") {
            let sites = sites_of(&serde_json::from_str(&definition)?);
            let gateway = format!(
                "{}\n[plugins]\ndirectory = {:?}\n[kafka]\nbootstrap.servers = \"kafka.example.org:9092\"\n",
                knowing(&sites),
                workspace().join("target/plugins/tests"),
            );
            valid(&gateway, Some(&definition)).with_context(|| page.path.clone())?;
            count += 1;
        }
        for table in page.blocks("toml") {
            let gateway = if table.starts_with("gateway") {
                table
            } else {
                format!("{}\n{table}", knowing(&BTreeSet::new()))
            };
            valid(&gateway, None).with_context(|| page.path.clone())?;
        }
    }
    ensure!(count >= 2, "only {count} definitions were found");
    Ok(())
}

/// The other sites that a definition names.
fn sites_of(definition: &Value) -> BTreeSet<String> {
    let settings = definition.get("config").unwrap_or(definition);
    ["culvert.from", "culvert.via"]
        .iter()
        .filter_map(|key| settings.get(key)?.as_str().map(str::to_owned))
        .collect()
}

/// A gateway that has these sites for peers.
fn knowing(sites: &BTreeSet<String>) -> String {
    let peer = |site: &String| {
        format!(
            "[[peer]]\nsite = \"{site}\"\ngateways = [\"gw-{site}\"]\naddress = \"{site}.example.org:7443\"\n"
        )
    };
    let peers: String = sites.iter().map(peer).collect();
    format!(
        "gateway = \"own\"\nsite = \"own\"\nstate = \"state\"\n\
         identity = {{ certificate = \"culvert.toml\", key = \"culvert.toml\", ca = \"culvert.toml\" }}\n{peers}"
    )
}

/// `culvert check` finds nothing wrong but files of its reader's own host.
fn valid(gateway: &str, connector: Option<&str>) -> anyhow::Result<()> {
    const OF_THE_HOST: [&str; 2] = ["CULVERT-C001", "CULVERT-C008"];
    let scratch = Scratch::new("definitions")?;
    scratch.write("culvert.toml", gateway)?;
    if let Some(connector) = connector {
        scratch.write("connectors/shown.json", connector)?;
    }
    let said = culvert(scratch.path(), "culvert check --output json")?;
    let verdict: Value = serde_json::from_slice(&said.stdout)
        .with_context(|| String::from_utf8_lossy(&said.stderr).into_owned())?;
    let mistakes = verdict["mistakes"]
        .as_array()
        .context("a verdict lists mistakes")?;
    let ours: Vec<&Value> = mistakes
        .iter()
        .filter(|mistake| !OF_THE_HOST.iter().any(|code| mistake["code"] == *code))
        .collect();
    ensure!(
        ours.is_empty(),
        "{ours:#?}\n{gateway}\n{}",
        connector.unwrap_or_default()
    );
    Ok(())
}

/// `README.md`, a gateway of one's own.
const OWN_GATEWAY: &[&str] = &[
    "culvert pki init --trust-domain example.org",
    "culvert pki issue gateway plant-1",
    "culvert check && culvert run",
    "culvert status",
];

#[test]
fn a_gateway_of_ones_own_runs() -> anyhow::Result<()> {
    let scratch = Scratch::new("own")?;
    scratch.write("culvert.toml", OWN)?;
    fs::create_dir(scratch.path().join("connectors"))?;
    let [init, issue, run, status] = OWN_GATEWAY else {
        bail!("four commands")
    };
    succeeds(scratch.path(), init)?;
    succeeds(scratch.path(), issue)?;
    let gateway = started(scratch.path(), run, "own")?;
    answers(scratch.path(), status).with_context(|| gateway.tail())?;
    Ok(())
}

/// `docs/guide/first-steps.md`, without any service; and what `README.md` says of a gateway that runs.
const FIRST_STEPS: &[&str] = &[
    "culvert demo --directory my-demo",
    "cd my-demo/gw3 && culvert run",
    "cd my-demo/gw3 && culvert status --streams",
    "culvert prove --wait 30s",
    "culvert generate --to - --count 5",
    "culvert verify --sqlite delivered.db",
];

#[test]
fn the_first_steps_lead_to_three_gateways() -> anyhow::Result<()> {
    let scratch = Scratch::new("first-steps")?;
    let [demo, run, status, prove, generate, verify] = FIRST_STEPS else {
        bail!("six commands")
    };
    succeeds(scratch.path(), demo)?;
    // "Each runs by itself."
    let gateways: Vec<Process> = ["gw2", "gw3", "gw1"]
        .into_iter()
        .map(|name| started(scratch.path(), &run.replace("gw3", name), name))
        .collect::<Result<_, _>>()?;
    let of_the_sink = scratch.path().join("my-demo/gw3");
    answers(scratch.path(), status).with_context(|| gateways[1].tail())?;
    succeeds(&of_the_sink, prove)?;
    let five = succeeds(&of_the_sink, generate)?;
    ensure!(five.lines().count() == 5, "{five}");
    let verified = succeeds(&of_the_sink, verify)?;
    ensure!(verified.contains("clean"), "{verified}");
    receipts(&of_the_sink, &scratch.path().join("my-demo/certs/ca.pem"))?;
    drop(gateways);
    queries(&of_the_sink.join("delivered.db"))
}

/// `docs/guide/receipts.md`, at the sink of the first steps.
const RECEIPTS: &[&str] = &[
    "culvert prove --receipt november.json",
    "culvert prove --receipt part.json --stream site1/orders/0 --from 100 --to 200",
    "culvert prove --verify november.json --ca ca.pem",
    "culvert prove --receipt december.json",
    "culvert prove --verify december.json --ca ca.pem --after november.json",
];

fn receipts(sink: &Path, authority: &Path) -> anyhow::Result<()> {
    let [november, part, verify, december, follow] = RECEIPTS else {
        bail!("five commands")
    };
    // The part is made last: a receipt of its own would stand between the two months.
    for made in [november, december, part] {
        let said = succeeds(sink, made)?;
        ensure!(said.contains("signed by both ends"), "{said}");
    }
    let elsewhere = Scratch::new("auditor")?;
    for file in ["november.json", "december.json"] {
        fs::copy(sink.join(file), elsewhere.path().join(file))?;
    }
    fs::copy(authority, elsewhere.path().join("ca.pem"))?;
    for checked in [verify, follow] {
        let said = succeeds(elsewhere.path(), checked)?;
        ensure!(
            said.contains("none missing, none doubled") && said.contains("proven by the given authorities"),
            "{said}"
        );
    }
    Ok(())
}

/// Every query in a document, against what the demo's sink has written.
fn queries(file: &Path) -> anyhow::Result<()> {
    let database = rusqlite::Connection::open(file)?;
    let mut run = 0;
    for page in pages()? {
        for query in page.blocks("sql").iter().flat_map(|block| block.lines()) {
            let mut statement = database
                .prepare(query)
                .with_context(|| format!("{}: {query}", page.path))?;
            let mut rows = statement.query(())?;
            let row = rows
                .next()?
                .with_context(|| format!("{}: no rows: {query}", page.path))?;
            ensure!(
                row.get::<_, rusqlite::types::Value>(0)? != rusqlite::types::Value::Null,
                "{}: NULL: {query}",
                page.path
            );
            run += 1;
        }
    }
    ensure!(run >= 2, "only {run} queries were found");
    Ok(())
}

/// `docs/guide/first-steps.md`, with clusters of one's own.
const BETWEEN_CLUSTERS: &[&str] = &[
    "culvert demo --bootstrap-source kafka-a:9092 --properties-source a.properties \
       --bootstrap-target kafka-b:9092 --properties-target b.properties",
];

#[test]
fn the_demo_goes_between_clusters_of_ones_own() -> anyhow::Result<()> {
    let scratch = Scratch::new("clusters")?;
    for file in ["a.properties", "b.properties"] {
        scratch.write(file, "socket.keepalive.enable=true\n")?;
    }
    succeeds(scratch.path(), BETWEEN_CLUSTERS[0]).map(drop)
}

/// `examples/three-networks`.
const THREE_NETWORKS: &[&str] = &[
    "culvert pki init --trust-domain example.org",
    "for name in gw1 gw2 gw3; do culvert pki issue gateway $name; done",
    "culvert check --config gw1/culvert.toml",
];

#[test]
fn the_example_of_three_networks_is_valid() -> anyhow::Result<()> {
    let scratch = Scratch::new("example")?;
    copy(&workspace().join("examples/three-networks"), scratch.path())?;
    for command in THREE_NETWORKS {
        succeeds(scratch.path(), command)?;
    }
    for name in ["gw2", "gw3"] {
        succeeds(scratch.path(), &THREE_NETWORKS[2].replace("gw1", name))?;
    }
    Ok(())
}

/// `docs/guide/plugins`, `docs/guide/transforms.md`.
const PLUGINS: &[&str] = &[
    "culvert plugin list",
    "culvert plugin inspect connect-transforms",
    "culvert plugin test file-sink --set format=json --runs 1",
];

#[test]
fn the_plugins_that_the_guide_names_are_there() -> anyhow::Result<()> {
    let scratch = Scratch::new("plugins-listed")?;
    let listed = succeeds(scratch.path(), PLUGINS[0])?;
    for name in [
        "order-check",
        "field-policy",
        "avro",
        "protobuf",
        "json",
        "connect-transforms",
    ] {
        ensure!(listed.contains(name), "{name} is not in {listed}");
    }
    let inspected = succeeds(scratch.path(), PLUGINS[1])?;
    for key in ["InsertField.static.field", "TimestampConverter.target.type"] {
        ensure!(inspected.contains(key), "{key} is not in {inspected}");
    }
    let tried = succeeds(scratch.path(), PLUGINS[2])?;
    for part in ["PROMISE        CLAIMED  ATTACKS  RESULT", "transactional  yes"] {
        ensure!(tried.contains(part), "{part} is not in {tried}");
    }
    Ok(())
}

/// `docs/guide/plugins`, what authors are shown. `roles.md` shows the source of the plugins in `plugins/book`.
const BOOK: &[&str] = &[
    "culvert plugin test lines-in.wasm --runs 1",
    "culvert plugin test file-each.wasm --runs 1",
    "culvert plugin test table-codec.wasm --set columns=id,name",
    "culvert plugin inspect ./order-check.wasm",
    "culvert plugin pack made-elsewhere.wasm",
    "culvert plugin inspect order-check",
    "culvert plugin bench order-check --sample orders.jsonl",
];

#[test]
fn what_the_book_shows_authors_works() -> anyhow::Result<()> {
    let scratch = Scratch::new("book")?;
    let built = workspace().join("target/plugins");
    for (file, name) in [
        ("tests/lines-in.wasm", "lines-in.wasm"),
        ("tests/file-each.wasm", "file-each.wasm"),
        ("tests/table-codec.wasm", "table-codec.wasm"),
        ("order-check.wasm", "order-check.wasm"),
        ("unpacked/order-check.wasm", "made-elsewhere.wasm"),
    ] {
        fs::copy(built.join(file), scratch.path().join(name)).with_context(|| file.to_owned())?;
    }
    let orders = succeeds(scratch.path(), "culvert generate --to - --count 50")?;
    scratch.write("orders.jsonl", &orders)?;
    let [source, sink, codec, inspect, pack, named, bench] = BOOK else {
        bail!("seven commands")
    };
    let promises = ["replayable  yes", "idempotent  yes", "deterministic  yes"];
    for (command, promise) in [source, sink, codec].into_iter().zip(promises) {
        let tried = succeeds(scratch.path(), command)?;
        for part in [promise, "all of it held"] {
            ensure!(tried.contains(part), "{part} is not in {tried}");
        }
    }
    for command in [inspect, named] {
        let inspected = succeeds(scratch.path(), command)?;
        ensure!(inspected.contains("role      transform"), "{inspected}");
    }
    succeeds(scratch.path(), pack)?;
    let packed = succeeds(scratch.path(), &inspect.replace("order-check", "made-elsewhere"))?;
    ensure!(packed.contains("order-check 0.1.0"), "{packed}");
    let measured = succeeds(scratch.path(), bench)?;
    ensure!(measured.contains("RECORDS/S"), "{measured}");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target)?;
        } else {
            fs::copy(source, target)?;
        }
    }
    Ok(())
}

// ----- running ---------------------------------------------------------------------------------------------------

/// The command as a shell runs it, with the program under test as `culvert`.
fn shell(directory: &Path, command: &str) -> anyhow::Result<Command> {
    let more = SHORTENED.iter().find(|(shown, _)| *shown == command);
    let more = more.map_or("", |(_, more)| *more);
    let run = format!("{command} {more}")
        .replace("kafka-a:9092", &lazily(command, "kafka-a", cluster::source))
        .replace("kafka-b:9092", &lazily(command, "kafka-b", cluster::target));
    let program = program()?;
    let programs = program.parent().context("the program is in a directory")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &run])
        .current_dir(directory)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env_remove("RUST_LOG");
    Ok(shell)
}

/// The address of a cluster, which is started only for a command that names it.
fn lazily(command: &str, name: &str, address: fn() -> String) -> String {
    if command.contains(name) {
        address()
    } else {
        String::new()
    }
}

fn culvert(directory: &Path, command: &str) -> anyhow::Result<Output> {
    shell(directory, command)?
        .output()
        .with_context(|| format!("run {command}"))
}

/// Runs a command that ends well. Answers what it said on standard output.
fn succeeds(directory: &Path, command: &str) -> anyhow::Result<String> {
    let output = culvert(directory, command)?;
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    ensure!(
        output.status.success(),
        "{command}: {}\n{out}{err}",
        output.status
    );
    Ok(out)
}

/// Waits until a question to a gateway that starts is answered well.
fn answers(directory: &Path, command: &str) -> anyhow::Result<()> {
    wait_for(DEADLINE, command, || {
        culvert(directory, command).ok()?.status.success().then_some(())
    })
}

/// Starts a command that does not end.
fn started(directory: &Path, command: &str, name: &str) -> anyhow::Result<Process> {
    let log = directory.join(format!("{name}.log"));
    // The shell becomes the program, so that it ends with the test.
    let command = match command.rsplit_once("culvert run") {
        Some((before, after)) => format!("{before}exec culvert run{after}"),
        None => command.to_owned(),
    };
    Process::spawn(name, &shell(directory, &command)?, &log)
}

// ----- reading ---------------------------------------------------------------------------------------------------

/// One document.
struct Page {
    /// From the root of the workspace.
    path: String,
    text: String,
}

/// The documents that show how to do something.
fn pages() -> anyhow::Result<Vec<Page>> {
    let mut paths = vec![PathBuf::from("README.md"), "CONTRIBUTING.md".into()];
    for folder in ["docs", "examples"] {
        walk(Path::new(folder), &mut paths)?;
    }
    paths.sort();
    let read = |path: PathBuf| -> anyhow::Result<Page> {
        Ok(Page {
            text: fs::read_to_string(workspace().join(&path))?,
            path: path.display().to_string(),
        })
    };
    paths.into_iter().map(read).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(workspace().join(folder))? {
        let name = folder.join(entry?.file_name());
        if workspace().join(&name).is_dir() {
            walk(&name, paths)?;
        } else if name.extension().is_some_and(|ending| ending == "md") {
            paths.push(name);
        }
    }
    Ok(())
}

impl Page {
    /// What stands in fences of this language.
    fn blocks(&self, language: &str) -> Vec<String> {
        let mut blocks = Vec::new();
        let mut open: Option<(bool, String)> = None;
        for line in self.text.lines() {
            match (&mut open, line.trim().strip_prefix("```")) {
                (None, Some(said)) => open = Some((said == language, String::new())),
                (Some(_), Some(_)) => blocks.extend(
                    open.take()
                        .filter(|(is_wanted, _)| *is_wanted)
                        .map(|(_, text)| text),
                ),
                (Some((_, text)), None) => *text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        blocks
    }

    /// The lines outside fences.
    fn prose(&self) -> Vec<&str> {
        let mut fenced = false;
        let outside = |line: &&str| {
            let fence = line.trim().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        };
        self.text.lines().filter(outside).collect()
    }

    /// Commands to be typed: behind `$ ` in a console, or indented by four and beginning with a program of ours.
    fn commands(&self) -> Vec<String> {
        let console = self.blocks("console").join("").replace("\\\n", " ");
        let typed = console.lines().filter_map(|line| line.strip_prefix("$ "));
        let prose = self.prose();
        let indented = prose.iter().filter_map(|line| line.strip_prefix("    "));
        let ours = indented.filter(|line| {
            ["culvert ", "cargo ", "for "]
                .iter()
                .any(|word| line.starts_with(word))
        });
        typed.chain(ours).map(command).collect()
    }

    /// Everything that names a command of the program with a verb, to be typed or not.
    fn mentions(&self) -> Vec<String> {
        let prose = self.prose().join("\n");
        let spans = prose.split('`').skip(1).step_by(2);
        let said = spans.filter(|span| span.starts_with("culvert ") && !span.contains('\n'));
        let typed = self.commands();
        let typed = typed
            .iter()
            .filter_map(|command| Some(&command[command.find("culvert ")?..]));
        said.chain(typed).map(command).collect()
    }
}

/// A line without what stands beside the command: a comment, or an explanation behind several spaces.
fn command(line: &str) -> String {
    let line = line.split(" # ").next().unwrap_or_default().trim_end();
    let words: Vec<&str> = line.split(' ').collect();
    let continued = line.contains("  --");
    if continued {
        return words
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
    }
    line.split("  ").next().unwrap_or_default().trim_end().to_owned()
}

/// The examples that a help text gives.
fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().filter_map(|line| line.strip_prefix("  "));
    lines
        .filter(|line| line.starts_with("culvert "))
        .map(command)
        .collect()
}

/// What each verb says of itself, asked once.
#[derive(Default)]
struct Helps(BTreeMap<String, String>);

impl Helps {
    fn of(&mut self, verb: &str) -> anyhow::Result<String> {
        if let Some(known) = self.0.get(verb) {
            return Ok(known.clone());
        }
        let arguments = verb.split_whitespace().chain(["--help"]);
        let output = Command::new(program()?).args(arguments).output()?;
        ensure!(output.status.success(), "culvert {verb} --help");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        self.0.insert(verb.to_owned(), help.clone());
        Ok(help)
    }

    /// Every verb and what is under it, the program itself first.
    fn verbs(&mut self) -> anyhow::Result<Vec<String>> {
        let mut verbs = vec![String::new()];
        let mut next = 0;
        while next < verbs.len() {
            let verb = verbs[next].clone();
            for under in under(&self.of(&verb)?) {
                verbs.push(format!("{verb} {under}").trim().to_owned());
            }
            next += 1;
        }
        Ok(verbs)
    }

    /// What is wrong with a command: a verb or an option that there is none of.
    fn fault(&mut self, said: &str) -> anyhow::Result<Option<String>> {
        let said = said.split([';', '|', '>']).next().unwrap_or_default();
        let said = said.split("&&").next().unwrap_or_default();
        let mut words = said.split_whitespace().skip(1).peekable();
        let mut verb = String::new();
        loop {
            let known = under(&self.of(&verb)?);
            match words.peek() {
                Some(word) if known.iter().any(|known| known == word) => {
                    verb = format!("{verb} {word}").trim().to_owned();
                    words.next();
                }
                Some(word) if !known.is_empty() && is_word(word) && !HIDDEN.contains(word) => {
                    return Ok(Some(format!("there is no verb {word}")));
                }
                _ => break,
            }
        }
        let help = self.of(&verb)?;
        let options = words.filter(|word| word.starts_with("--"));
        let mut names = options.map(|word| word.split('=').next().unwrap_or(word));
        Ok(names
            .find(|name| {
                !help.contains(&format!("{name} "))
                    && !help.contains(&format!("{name}\n"))
                    && *name != "--version"
            })
            .map(|name| format!("culvert {verb} has no {name}")))
    }
}

/// Verbs that the help leaves out: the program is told them by its own error texts.
const HIDDEN: &[&str] = &["outbox"];

fn is_word(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase())
}

/// The verbs under one, by its help.
fn under(help: &str) -> Vec<String> {
    let list = help.split_once("\nCommands:\n").map_or("", |(_, list)| list);
    let entries = list.lines().take_while(|line| !line.is_empty());
    let names = entries.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}
