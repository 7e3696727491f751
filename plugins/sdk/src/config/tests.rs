use super::*;
use crate::prelude::*;

/// What happens to what is in order.
#[derive(Choice, Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Add a field.
    Mark,
    OnlyCheck,
    #[config(name = "none")]
    Off,
}

#[derive(Config, Debug, PartialEq)]
struct Settings {
    /// What to do.
    ///
    /// More of it.
    #[config(default = "mark", importance = "high")]
    mode: Mode,
    #[config(default = 10, min = 1, max = 100, group = "Limits", aliases = ["items"])]
    max_items: i32,
    #[config(default = -1.5)]
    ratio: f64,
    #[config(name = "paths", default = "", example = "/a,/b")]
    wanted: Vec<String>,
    #[config(default = "5s")]
    pause: Duration,
    #[config(default = "1KiB", deprecated = "use max.items")]
    room: Size,
    note: Option<String>,
    #[config(one_of = ["eu", "us"])]
    region: String,
    #[config(display = "Key of the hash", min_length = 4)]
    key: Secret,
    #[config(default = true, internal)]
    strict: bool,
    #[config(url = ["https"])]
    address: Option<String>,
    port: Option<u16>,
}

const REQUIRED: [(&str, &str); 2] = [("region", "eu"), ("key", "secret")];

fn read_of(set: &[(&str, &str)]) -> Result<Settings, String> {
    let value = |&(name, value): &(&str, &str)| Value {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    let values: Vec<Value> = set.iter().chain(&REQUIRED).map(value).collect();
    read(&values).map_err(|mistakes: Mistakes| mistakes.to_string())
}

fn check(name: &str, value: &str, expected: Result<impl Fn(&Settings) -> bool, &str>) {
    match (read_of(&[(name, value)]), expected) {
        (Ok(settings), Ok(holds)) => assert!(holds(&settings), "{settings:?}"),
        (Err(said), Err(mistake)) => assert_eq!(said, mistake),
        (Ok(settings), Err(_)) => panic!("`{name}` = `{value}` was taken: {settings:?}"),
        (Err(said), Ok(_)) => panic!("`{name}` = `{value}`: {said}"),
    }
}

fn refused(name: &str, value: &str, mistake: &str) {
    check(name, value, Err::<fn(&Settings) -> bool, _>(mistake));
}

fn taken(name: &str, value: &str, holds: impl Fn(&Settings) -> bool) {
    check(name, value, Ok(holds));
}

#[test]
fn what_is_not_set_has_its_default() {
    let settings = read_of(&[]).unwrap();
    assert_eq!(settings.mode, Mode::Mark);
    assert_eq!(settings.max_items, 10);
    assert_eq!(settings.ratio, -1.5);
    assert_eq!(settings.wanted, Vec::<String>::new());
    assert_eq!(settings.pause, Duration::from_secs(5));
    assert_eq!(settings.room, Size(1024));
    assert_eq!(settings.note, None);
    assert!(settings.strict);
    assert_eq!(settings.key.reveal(), "secret");
}

#[test]
fn each_type_reads_its_texts_and_says_what_it_wants() {
    taken("mode", "only-check", |settings| settings.mode == Mode::OnlyCheck);
    taken("mode", "none", |settings| settings.mode == Mode::Off);
    refused(
        "mode",
        "off",
        "`mode` is `off`, and must be one of mark, only-check, none",
    );
    taken("items", "7", |settings| settings.max_items == 7);
    refused("max.items", "101", "`max.items` is 101, and must be 1 to 100");
    refused(
        "max.items",
        "ten",
        "`max.items` is `ten`, and must be a number of type i32",
    );
    refused("ratio", "NaN", "`ratio` is `NaN`, and must be a number");
    taken("paths", "/a, /b", |settings| settings.wanted == ["/a", "/b"]);
    taken("pause", "2m", |settings| {
        settings.pause == Duration::from_secs(120)
    });
    refused(
        "pause",
        "2",
        "`pause` is `2`, and must be a time such as 250ms, 5s, 2m, 1h",
    );
    taken("room", "2MB", |settings| settings.room == Size(2_000_000));
    refused(
        "room",
        "99999999TiB",
        "`room` is `99999999TiB`, and must be a size such as 100, 64KiB, 1GB",
    );
    taken("note", "", |settings| settings.note.is_none());
    taken("note", "x", |settings| settings.note.as_deref() == Some("x"));
    refused("strict", "yes", "`strict` is `yes`, and must be true or false");
    taken("strict", "FALSE", |settings| !settings.strict);
    refused(
        "address",
        "http://x",
        "`address` is `http://x`, and must be an address that begins with https",
    );
    taken("port", "443", |settings| settings.port == Some(443));
    refused("port", "-1", "`port` is -1, and must be 0 to 65535");
}

#[test]
fn all_mistakes_are_reported_together() {
    let values = [("mode", "x"), ("max.items", "0"), ("key", "abc")];
    let values = values.map(|(name, value)| Value {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    });
    let mistakes = read::<Settings>(&values).unwrap_err();
    let keys: Vec<&str> = mistakes.0.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["mode", "max.items", "region", "key"]);
    assert_eq!(mistakes.0[2].1, "is required and not set");
    assert_eq!(mistakes.0[3].1, "has 3 characters, and must have 4 or more");
}

#[test]
fn fields_say_all_that_connect_asks_for() {
    let fields = Settings::fields();
    let field = |name: &str| fields.iter().find(|field| field.name == name).unwrap();
    let mode = field("mode");
    assert_eq!(
        mode.documentation,
        "What to do.\n\nMore of it.\n\n- `mark`: Add a field."
    );
    assert_eq!(mode.importance, Importance::High);
    let names = ["mark", "only-check", "none"].map(str::to_owned).to_vec();
    assert_eq!(mode.validators, [Validator::OneOf(names)]);
    let items = field("max.items");
    assert_eq!(
        (items.kind, items.default_value.as_deref()),
        (FieldType::Int, Some("10"))
    );
    assert_eq!(items.validators, [Validator::Range((Some(1.0), Some(100.0)))]);
    assert_eq!(
        (items.group.as_deref(), items.order_in_group),
        (Some("Limits"), 2)
    );
    assert_eq!(items.display_name, "Max items");
    assert_eq!(field("paths").kind, FieldType::List);
    assert_eq!(field("paths").example.as_deref(), Some("/a,/b"));
    assert_eq!(field("room").deprecated.as_deref(), Some("use max.items"));
    assert_eq!(field("key").kind, FieldType::Password);
    assert_eq!(field("key").display_name, "Key of the hash");
    assert!(field("strict").internal);
    assert_eq!(field("note").extra, [("optional".to_owned(), "true".to_owned())]);
    assert_eq!(field("region").extra, []);
}

#[test]
fn a_secret_does_not_print() {
    assert_eq!(format!("{:?}", read_of(&[]).unwrap().key), "Secret(***)");
}
