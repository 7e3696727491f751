//! What a connector's settings say of its converters.

use super::*;

/// A generator with these settings of converters has exactly these mistakes.
#[track_caller]
fn check_converters(settings: &str, expected: &[&str]) {
    let definition = format!("{{\"name\": \"c\", \"connector.class\": \"GeneratorSource\",\n{settings}}}");
    let site = Site::new(HEAD)
        .variable("REGISTRY_USER", "ann:secret")
        .connector("c.json", &definition);
    assert_eq!(site.mistakes(), expected, "{settings}");
}

const AVRO: &str = "\"value.converter\": \"io.confluent.connect.avro.AvroConverter\"";
const REGISTRY: &str = "\"value.converter.schema.registry.url\": \"http://127.0.0.1:8081\"";

#[test]
fn converters_by_their_names_in_kafka_connect_are_taken() {
    for plain in [
        "org.apache.kafka.connect.converters.ByteArrayConverter",
        "StringConverter",
    ] {
        check_converters(&format!("\"value.converter\": \"{plain}\""), &[]);
    }
    for envelopes in [
        "",
        ", \"value.converter.schemas.enable\": \"false\"",
        ", \"value.converter.schemas.enable\": \"true\"",
        ", \"value.converter.decimal.format\": \"NUMERIC\"",
    ] {
        check_converters(&format!("\"value.converter\": \"JsonConverter\"{envelopes}"), &[]);
    }
    check_converters(&format!("{AVRO}, {REGISTRY}"), &[]);
    for more in [
        "\"value.converter.value.subject.name.strategy\": \"RecordNameStrategy\"",
        "\"value.converter.auto.register.schemas\": \"false\"",
        "\"value.converter.basic.auth.credentials.source\": \"USER_INFO\", \
         \"value.converter.basic.auth.user.info\": \"${env:REGISTRY_USER}\"",
    ] {
        check_converters(&format!("{AVRO}, {REGISTRY}, {more}"), &[]);
    }
}

#[test]
fn what_is_wrong_with_a_converter_is_told() {
    let check = |settings: &str, key: &str, expected: &str| {
        // What is not there is in no line.
        let is_there = settings.contains(&format!("value.converter{key}\""));
        let line = if is_there { ":2" } else { "" };
        let expected = format!("connectors/c.json{line} value.converter{key} {expected}");
        check_converters(settings, &[&expected]);
    };
    let unknown = "CULVERT-C003 is no key of this converter";
    let own = "\"value.converter\": \"com.example.OwnConverter\"";
    check(
        own,
        "",
        "CULVERT-C010 no converter is called \"com.example.OwnConverter\"",
    );
    check(AVRO, ".schema.registry.url", "CULVERT-C005 is missing");
    check(
        "\"value.converter\": \"JsonConverter\", \"value.converter.decimal.format\": \"TEXT\"",
        ".decimal.format",
        "CULVERT-C011 \"TEXT\" is not valid",
    );
    check(
        "\"value.converter.schemas.enable\": \"false\"",
        ".schemas.enable",
        unknown,
    );
    let with = |more: &str| format!("{AVRO}, {REGISTRY}, \"value.converter.{more}");
    check(
        &with("auto.register.schema\": \"false\""),
        ".auto.register.schema",
        unknown,
    );
    check(
        &with("culvert.time.format\": \"iso\""),
        ".culvert.time.format",
        "CULVERT-C003 has nothing to say here",
    );
    let address = format!("{AVRO}, \"value.converter.schema.registry.url\": \"registry:8081\"");
    check(
        &address,
        ".schema.registry.url",
        "CULVERT-C004 \"registry:8081\" is no address",
    );
}

#[test]
fn what_is_written_is_named_by_a_subject_or_a_file() {
    let check = |settings: &str, expected: &[&str]| {
        let settings =
            format!("\"name\": \"c\", \"connector.class\": \"GeneratorSource\",\n{AVRO}, {settings}");
        let site = Site::new(HEAD).connector("c.json", &format!("{{{settings}}}"));
        std::fs::write(site.directory.path().join("order.avsc"), "\"long\"").expect("write the schema");
        assert_eq!(site.mistakes(), expected, "{settings}");
    };
    let with = |more: &str| format!("{REGISTRY}, {more}");
    check(&with("\"value.converter.use.latest.version\": \"true\""), &[]);
    check(
        &with("\"culvert.value.schema\": \"orders\", \"value.converter.culvert.time.format\": \"iso\""),
        &[],
    );
    check(&with("\"culvert.value.schema.file\": \"order.avsc\""), &[]);
    check(
        "\"culvert.value.schema.file\": \"order.avsc\", \"value.converter.culvert.time.format\": \"iso\"",
        &[],
    );
    let place = "connectors/c.json:2";
    let both = format!("{place} culvert.value.schema CULVERT-C006 is given beside a file");
    check(
        &with("\"culvert.value.schema\": \"orders\", \"culvert.value.schema.file\": \"order.avsc\""),
        &[&both],
    );
    let message = format!("{place} culvert.value.schema.message CULVERT-C006 is given");
    check(
        "\"culvert.value.schema.file\": \"order.avsc\", \"culvert.value.schema.message\": \"A\"",
        &[&message],
    );
    let strange = format!("{place} value.converter.culvert.time CULVERT-C003 is not a key of this plugin");
    check(
        &with("\"culvert.value.schema\": \"orders\", \"value.converter.culvert.time\": \"iso\""),
        &[&strange],
    );
    let registry = format!(
        "{place} value.converter.auto.register.schemas CULVERT-C003 is of a registry, and none is named"
    );
    check(
        "\"culvert.value.schema.file\": \"order.avsc\", \"value.converter.auto.register.schemas\": \"false\"",
        &[&registry],
    );
}

// ----- codecs by their names ---------------------------------------------------------------------------------------

/// A connector of this class with these settings, where the plugins of the book are, has exactly these mistakes.
#[track_caller]
fn check_codec(class: &str, settings: &[(&str, &str)], expected: &[&str]) {
    let plugins = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/plugins/tests");
    let mut definition = format!("{{\"name\": \"c\", \"connector.class\": \"{class}\"");
    for (key, value) in settings {
        write!(definition, ",\n\"{key}\": \"{value}\"").expect("a text grows");
    }
    definition.push('}');
    let site =
        Site::new(&format!("{HEAD}plugins.directory = \"{plugins}\"\n")).connector("c.json", &definition);
    std::fs::write(site.directory.path().join("order.avsc"), "\"long\"").expect("write the schema");
    let mistakes = site.mistakes();
    let said: Vec<&str> = mistakes
        .iter()
        .map(|said| said.split_once(' ').map_or("", |(_, said)| said))
        .collect();
    assert_eq!(said, expected, "{settings:?}");
}

const GENERATOR: &str = "GeneratorSource";
const TABLE: (&str, &str) = ("value.converter", "table-codec");
const BY_NAME: (&str, &str) = ("value.converter", "avro");
const URL: (&str, &str) = ("value.converter.schema.registry.url", "http://127.0.0.1:8081");

#[test]
fn a_codec_is_named_with_its_settings_and_all_that_is_wrong_is_said_together() {
    let columns = ("value.converter.columns", "id,name");
    check_codec(GENERATOR, &[TABLE, columns], &[]);
    check_codec(
        GENERATOR,
        &[
            TABLE,
            ("key.converter", "table-codec"),
            ("key.converter.columns", "id"),
        ],
        &[],
    );
    check_codec(
        GENERATOR,
        &[
            TABLE,
            ("value.converter.colums", "id"),
            ("value.converter.separator", "::"),
            ("culvert.value.carried", "xml"),
            ("culvert.value.schema", "rows"),
            ("value.converter.culvert.time.max", "2h"),
        ],
        &[
            "value.converter.colums CULVERT-C003 is not a key of this plugin",
            "value.converter.separator CULVERT-C011 \"::\" is not valid",
            "culvert.value.carried CULVERT-C004 \"xml\" is not one of its words",
            "culvert.value.schema CULVERT-C006 names a subject, and no registry keeps schemas of table-codec",
            "value.converter.culvert.time.max CULVERT-C004 \"2h\" is no time for a call",
        ],
    );
}

#[test]
fn what_is_called_no_codec_is_told_what_is() {
    check_codec(
        GENERATOR,
        &[("value.converter", "order-check")],
        &["value.converter CULVERT-C010 plugin order-check is a transform, and no codec"],
    );
    check_codec(
        GENERATOR,
        &[("value.converter", "table-codek")],
        &["value.converter CULVERT-C010 no converter is called \"table-codek\""],
    );
}

#[test]
fn a_bundled_codec_by_its_name_takes_the_registry_and_its_own_settings() {
    let iso = ("value.converter.time.format", "iso");
    check_codec(GENERATOR, &[BY_NAME, URL, iso], &[]);
    let file = ("culvert.value.schema.file", "order.avsc");
    check_codec(GENERATOR, &[BY_NAME, file, iso], &[]);
    check_codec(
        GENERATOR,
        &[BY_NAME],
        &["value.converter.schema.registry.url CULVERT-C005 is missing"],
    );
    check_codec(
        GENERATOR,
        &[BY_NAME, URL, ("value.converter.framing", "none")],
        &["value.converter.framing CULVERT-C003 is not a key of this plugin"],
    );
    check_codec(
        GENERATOR,
        &[BY_NAME, file, ("value.converter.use.latest.version", "false")],
        &["value.converter.use.latest.version CULVERT-C003 is of a registry, and none is named"],
    );
}

#[test]
fn where_json_crosses_the_sink_says_what_is_written() {
    let json = ("culvert.value.carried", "json");
    check_codec(GENERATOR, &[BY_NAME, URL, json], &[]);
    check_codec(
        GENERATOR,
        &[BY_NAME, URL, json, ("culvert.value.schema", "rows")],
        &["culvert.value.carried CULVERT-C006 is given beside a schema to write with"],
    );
    check_codec(
        GENERATOR,
        &[json],
        &["culvert.value.carried CULVERT-C003 has no converter to use it"],
    );
    let sink = |more: &[(&'static str, &'static str)], expected: &[&str]| {
        let own = [
            ("topics", "a"),
            ("culvert.from", "plant-2"),
            ("sqlite.path", "out.db"),
        ];
        let settings: Vec<_> = own
            .iter()
            .chain(&[BY_NAME, URL, json])
            .chain(more)
            .copied()
            .collect();
        let all = ["culvert.from CULVERT-C006 no [[peer]] has the site \"plant-2\""];
        check_codec("SqliteSink", &settings, &[expected, &all].concat());
    };
    sink(&[("culvert.value.schema", "rows")], &[]);
    sink(&[], &["culvert.value.schema CULVERT-C005 is missing"]);
}
